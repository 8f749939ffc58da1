"""Every command that the README shows is one that pixdex takes."""

import re
import shlex

import pytest

from pipelines import plan
from pipelines.terminal import options
from tests.conftest import REPOSITORY
from tests.deploy import commands
from transforms.errors import UsageError

BLOCKS = re.findall(r"^ *```sh\n(.*?)^ *```$", (REPOSITORY / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.M)


def commands_of(block: str) -> list[str]:
    """The commands of a block that run pixdex, wherever it lies, continued lines joined."""
    lines = re.split(r"\n|&&", block.replace("\\\n", " "))
    return [found[1] for line in lines if (found := re.fullmatch(r"\s*(?:\S*/)?(pixdex\s.*)", line))]


COMMANDS = [command for block in BLOCKS for command in commands_of(block)]


def test_the_readme_shows_every_command_that_writes_to_a_root() -> None:
    shown = {command.split()[1] for command in COMMANDS}
    assert {"build", "embed", "reindex", "search", "plan", "inspect", "verify", "rollback", "gc", "demo"} <= shown


@pytest.mark.parametrize("command", COMMANDS)
def test_it_would_be_taken(command: str) -> None:
    words = shlex.split(command.replace('"$(bash deploy/prism/install.sh)"', "prism"), comments=True)
    _, command, *rest = words
    if command == "plan":  # which reads its flags without Beam
        plan._parse(rest)
    elif command == "demo":  # which needs no root
        options.parse(command, "", rest, commands.groups(command))
    else:
        commands.parsed(words)


def test_every_command_is_found_and_a_wrong_one_would_be_refused() -> None:
    assert commands_of(
        "a && bin/pixdex demo && b\npixdex build \\\n  --root x\n# pixdex gc\npip install pixdex x\n"
    ) == [
        "pixdex demo ",
        "pixdex build    --root x",
    ]
    for wrong in ("pixdex plan --num-vektors 1", "pixdex demo --foldr x", "pixdex reindex --root x --images y"):
        with pytest.raises(UsageError, match="unknown flag"):
            test_it_would_be_taken(wrong)

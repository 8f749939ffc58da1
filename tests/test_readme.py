"""Every command that the README shows is one that pixdex takes."""

import re
import shlex

import pytest

from tests.conftest import REPOSITORY
from tests.deploy import commands

BLOCKS = re.findall(r"^ *```sh\n(.*?)^ *```$", (REPOSITORY / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.M)


def commands_of(block: str) -> list[str]:
    """The lines of a block that run pixdex, continued ones joined."""
    lines = block.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip().startswith("pixdex ")]


COMMANDS = [command for block in BLOCKS for command in commands_of(block)]


def test_the_readme_shows_every_command_that_writes_to_a_root() -> None:
    shown = {command.split()[1] for command in COMMANDS}
    assert {"build", "embed", "reindex", "search", "plan", "inspect", "verify", "rollback", "gc"} <= shown


@pytest.mark.parametrize("command", COMMANDS)
def test_it_would_be_taken(command: str) -> None:
    words = shlex.split(command.replace('"$(bash deploy/prism/install.sh)"', "prism"), comments=True)
    if words[1] != "plan":  # the one that has no root
        commands.parsed(words)

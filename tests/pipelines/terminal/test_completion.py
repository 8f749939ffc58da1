"""Completion in a real shell: commands, flags, their values and files, by a script that runs nothing."""

import shutil
import subprocess
from pathlib import Path

import pytest

from pipelines import cli
from pipelines.cli import COMMANDS
from tests.deploy import commands

COMPLETE = """
source "$1"; cd "$2"; shift 2
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMPREPLY=()
PATH=/nowhere
_shtab_pixdex "${@: -1}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
"""What bash does when the tab is pressed behind words; no program is found then."""


def script(capsys: pytest.CaptureFixture[str], shell: str) -> str:
    assert cli.main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.fixture
def bash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The script for bash; beside it a folder to complete files in."""
    (tmp_path / "here" / "photos").mkdir(parents=True)
    (tmp_path / "here" / "items.csv").touch()
    (tmp_path / "pixdex").write_text(script(capsys, "bash"))
    return tmp_path / "pixdex"


def proposed(bash: Path, *words: str) -> set[str]:
    asked = ["bash", "--norc", "-c", COMPLETE, "bash", str(bash), str(bash.parent / "here"), *words]
    done = subprocess.run(asked, capture_output=True, encoding="utf-8", check=True)
    assert done.stderr == ""
    return set(done.stdout.split())


def test_bash_proposes_commands(bash: Path) -> None:
    assert {*COMMANDS, "help"} <= proposed(bash, "pixdex", "")
    assert proposed(bash, "pixdex", "bui") == {"build"}
    assert proposed(bash, "pixdex", "help", "bat") == {"batch-search"}
    assert proposed(bash, "pixdex", "completion", "") == {"bash", "zsh", "fish"}


@pytest.mark.parametrize("command", COMMANDS)
def test_bash_proposes_the_flags_of_a_command_in_one_spelling(bash: Path, command: str) -> None:
    flags = {flag.name for group in commands.groups(command) for flag in group.flags if flag.name.startswith("-")}
    assert proposed(bash, "pixdex", command, "-") == {*flags, "-h", "--help", "--config", "--print-config"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("build", "--image-fit", ""), {"crop", "pad"}),
        (("build", "--image-fit", "crop", "--metric-type", "l"), {"l1", "l2"}),
        (("search", "a cat", "--modality", "t"), {"text"}),
        (("build", "--root", ""), {"photos"}),
        (("build", "--root", "photos", "--csv", ""), {"items.csv", "photos"}),
        (("gc", "--config", "it"), {"items.csv"}),
        (("build", "--csv", "items.csv", "--image-c"), {"--image-column"}),
        (("gc", "--dry-run", "--js"), {"--json"}),
        (("build", "--seed", ""), set()),
    ],
)
def test_bash_proposes_values_and_files(bash: Path, words: tuple[str, ...], expected: set[str]) -> None:
    assert proposed(bash, "pixdex", *words) == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script_that_they_would_read(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = script(capsys, shell)
    assert all(word in text for word in (*COMMANDS, "image-fit", "crop"))
    (tmp_path / "pixdex").write_text(text)
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed: its script is not read")
    subprocess.run([shell, "-n", str(tmp_path / "pixdex")], check=True)


@pytest.mark.parametrize(("words", "said"), [((), "name the shell"), (("tcsh",), "there is no completion for tcsh")])
def test_another_shell_is_refused(words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", *words]) == 2
    assert capsys.readouterr().err == f"pixdex: {said}: pixdex completion bash, zsh or fish\n"

"""Help: of pixdex one screen, of a command a first screen that suffices to begin, then all of it."""

import importlib
import re
import shlex

import pytest

from pipelines import cli
from pipelines.cli import COMMANDS
from pipelines.terminal import help_page
from pipelines.terminal.command_line import CONFIG
from tests.deploy import commands

PLANNED = ("serve", "report", "export", "watch")


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 80 columns."""
    monkeypatch.setenv("COLUMNS", str(help_page.COLUMNS))


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    try:
        assert cli.main(words) == 0
    except SystemExit as ended:
        assert ended.code == 0
    return capsys.readouterr().out


def first_screen(text: str) -> list[str]:
    before, _, _ = text.partition("\nManual:\n")
    return before.splitlines()[: help_page.ROWS - 1]


def fits(lines: list[str]) -> bool:
    return len(lines) < help_page.ROWS and max(map(len, lines)) <= help_page.COLUMNS


def test_the_help_of_pixdex_is_one_screen_with_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "--help")
    assert fits(text.splitlines()), text
    assert not [command for command in COMMANDS if not re.search(rf"(?<![\w-]){command}(?![\w-])", text)]


def test_it_stays_one_screen_when_commands_come(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_page.overview(dict.fromkeys([*COMMANDS, *PLANNED, "another"], "Does it."))
    assert fits(text.splitlines()), text
    assert "More" in text and "pixdex serve --root INDEX" in text
    assert "serve" not in help_page.overview(dict.fromkeys(["build", "search"], "Does it."))


def test_it_begins_with_commands_that_would_be_taken(capsys: pytest.CaptureFixture[str]) -> None:
    joined = shown(capsys, "--help").replace("\\\n", " ")
    steps = [re.split(r" {2,}(?!-)", line.strip())[0] for line in joined.splitlines() if line.startswith("  pixdex ")]
    assert [step.split()[1] for step in steps][:2] == ["build", "search"]
    for step in steps:
        commands.parsed(shlex.split(step))


def test_every_command_has_a_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert "More" not in help_page.overview(COMMANDS)


def test_what_each_does_is_listed_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "help", "commands")
    assert all(re.search(rf"^  {command} +{re.escape(says)}$", text, re.M) for command, says in COMMANDS.items())


@pytest.mark.parametrize("command", COMMANDS)
def test_the_first_screen_of_a_command_suffices_to_begin(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = first_screen(shown(capsys, command, "--help"))
    assert fits(lines), "\n".join(lines)
    text = "\n".join(lines)
    assert lines[0].startswith(f"usage: pixdex {command} [OPTIONS]")
    assert COMMANDS[command] in " ".join(lines)
    (example,) = re.findall(rf"^    (pixdex {command}\b(?:.*\\\n)*.*)$", text, re.M)
    assert shlex.split(example.replace("\\\n", " "), comments=True)[:2] == ["pixdex", command]
    every = [flag for group in (*commands.groups(command), CONFIG) for flag in group.flags]
    names = [flag.name if flag.name.startswith("-") else flag.metavar for flag in every]
    seen = [name for name in names if re.search(rf"^  {re.escape(str(name))}\b", text, re.M)]
    assert len(seen) >= min(4, len(names))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_first_of_the_flags_that_are_used_most_fit(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = "\n".join(first_screen(shown(capsys, command, "--help")))
    known = {flag.name: flag for group in (*commands.groups(command), CONFIG) for flag in group.flags}
    for name in help_page.USUAL.get(command, ())[:4]:
        word = name if name.startswith("-") else known[name].metavar
        assert re.search(rf"^  {re.escape(str(word))}\b", text, re.M), name


@pytest.mark.parametrize("command", COMMANDS)
def test_all_options_follow_in_their_groups_and_then_the_manual(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(capsys, command, "--help")
    for group in (*commands.groups(command), CONFIG):
        assert text.count(f"\n{group.title}:\n") == 1
        section = text.split(f"\n{group.title}:\n")[1]
        for flag in group.flags:
            word = flag.name if flag.name.startswith("-") else flag.metavar
            assert re.search(rf"^  {re.escape(str(word))}\b", section, re.M), flag.name
            assert "_" not in flag.name  # in one spelling
    manual = importlib.import_module(f"pipelines.{command.replace('-', '_')}").__doc__ or ""
    assert text.endswith(manual.strip().partition("\n")[2].strip("\n").rstrip() + "\n")

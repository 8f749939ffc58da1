"""`--print-config`: the options in effect, as a file that is read back to the same, and that no secret is in."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipelines import cli
from pipelines.cli import COMMANDS
from pipelines.running.request import sources_of
from pipelines.terminal import command_line, options
from pipelines.terminal.config import writer
from pipelines.terminal.flags import Flag
from tests.deploy import commands

WORDS = [
    *("--root", "./shop", "--csv", "a.csv", "--csv=b.csv", "--image-column", "no", "--text_column", "1e3"),
    *("--no-normalize", "--max-index-memory", "2G", "--index-key", "IVF16,Flat", "--item-timeout", "7.5"),
]


def printed(capsys: pytest.CaptureFixture[str], command: str, *words: str) -> str:
    """What `pixdex COMMAND … --print-config` prints."""
    with pytest.raises(SystemExit) as ended:
        cli.main([command, *words, "--print-config"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_it_is_read_back_to_the_same_request_and_prints_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(capsys, "build", *WORDS)
    (tmp_path / "pixdex.yaml").write_text(text)
    given_by_flags = command_line.read("build", "", WORDS, options.BUILD).options
    again = command_line.read("build", "", ["--config", str(tmp_path / "pixdex.yaml")], options.BUILD).options
    assert again == given_by_flags
    assert printed(capsys, "build", "--config", str(tmp_path / "pixdex.yaml")) == text
    assert sources_of(again) == sources_of(given_by_flags)


def test_it_shows_what_is_in_effect_with_defaults_and_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "build", *WORDS, "--seed", "4")
    said = yaml.safe_load(text)
    assert said["csv"] == ["a.csv", "b.csv"] and said["seed"] == 4 and said["no-normalize"] is True
    assert said["max-index-memory"] == "2G" and said["metric-type"] == "ip" and said["max-reject-ratio"] == 0.5
    assert "# Where everything lies\nroot: ./shop\n" in text
    assert "device: auto\n" in text and "text-column: 1e3\n" in text


def test_it_does_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text("text\nx\n")
    words = ["--csv", str(tmp_path / "a.csv"), "--text-column", "text"]
    printed(capsys, "build", "--root", str(tmp_path / "root"), *words)
    assert [each.name for each in tmp_path.iterdir()] == ["a.csv"]


def test_flags_of_beam_are_among_them_and_unknown_ones_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--runner", "FlinkRunner", "--experiments=a", "--experiments", "b", "--streaming", "--parallelism=2")
    text = printed(capsys, "build", "--root", "r", *words)
    beam = {"runner": "FlinkRunner", "experiments": ["a", "b"], "streaming": True, "parallelism": 2}
    assert yaml.safe_load(text)["beam"] == beam
    (tmp_path / "pixdex.yaml").write_text(text)
    assert printed(capsys, "build", "--config", str(tmp_path / "pixdex.yaml")) == text
    assert cli.main(["build", "--rooot", "r", "--print-config"]) == 2
    assert "unknown flag --rooot, did you mean --root?" in capsys.readouterr().err


@pytest.mark.parametrize("command", [each for each in COMMANDS if each != "completion"])
def test_every_command_prints_its_own(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, command)
    assert text.startswith(f"# pixdex {command} --config FILE\n")
    (tmp_path / "pixdex.yaml").write_text(text)
    assert printed(capsys, command, "--config", str(tmp_path / "pixdex.yaml")) == text
    read = [
        command_line.read(command, "", argv, commands.groups(command)).options
        for argv in ([], ["--config", str(tmp_path / "pixdex.yaml")])
    ]
    assert read[0] == read[1]


@pytest.mark.parametrize(
    "words",
    [
        ("--s3_secret_access_key", "hunter2"),
        ("--s3_session_token=hunter2",),
        ("--csv", "https://me:hunter2@host/a.csv"),
        ("--images", "https://host/a.png?X-Goog-Signature=hunter2"),
    ],
)
def test_a_secret_is_never_printed(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["build", "--root", "r", *words, "--print-config"]) == 2
    told = capsys.readouterr()
    assert "hunter2" not in told.out + told.err and "holds a secret" in told.err


def every_flag() -> list[tuple[str, Flag]]:
    found = [(command, flag) for command in COMMANDS for group in commands.groups(command) for flag in group.flags]
    return [(command, flag) for command, flag in found if flag.default_text is not None]


@pytest.mark.parametrize(("command", "flag"), every_flag(), ids=lambda value: getattr(value, "name", value))
def test_a_default_is_written_as_it_is_read_and_as_the_help_has_it(command: str, flag: Flag) -> None:
    text = flag.default_text
    assert text is not None
    default = flag.type(flag.default) if isinstance(flag.default, str) else flag.default
    assert flag.type(text) == default
    parser = command_line._parser(command, "", commands.groups(command))
    (action,) = [each for each in parser._actions if flag.name in (each.dest, *each.option_strings)]
    shown = re.search(r"default:? (?:\./)?(\S+?)(?:[;)]|$)", action.help or "")
    assert shown is not None and flag.type(shown[1]) == default, action.help


_TEXT = st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=12).filter(
    lambda text: not text.startswith("-")
)


@given(st.lists(_TEXT, min_size=1, max_size=3), _TEXT, st.lists(_TEXT, max_size=2))
def test_any_value_comes_back(
    tmp_path_factory: pytest.TempPathFactory, globs: list[str], column: str, queries: list[str]
) -> None:
    words = [*(f"--csv={glob}" for glob in globs), f"--text-column={column}"]
    line = command_line.read("build", "", words, options.BUILD)
    file = tmp_path_factory.getbasetemp() / "written.yaml"
    file.write_text(writer.text_of("build", options.BUILD, line.given, line.others), encoding="utf-8")
    again = command_line.read("build", "", ["--config", str(file)], options.BUILD)
    assert again.options == line.options
    asked = command_line.read("search", "", queries, commands.groups("search"))
    file.write_text(writer.text_of("search", asked.groups, asked.given, ()), encoding="utf-8")
    found = command_line.read("search", "", ["--config", str(file)], commands.groups("search"))
    assert found.options == asked.options

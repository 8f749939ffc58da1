"""`pixdex`: every command is found, unknown ones are answered with the nearest, and help comes at once."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pipelines
from pipelines import cli

JOBS = Path(pipelines.__file__).parent


def test_every_command_is_listed_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["help", "commands"]) == 0
    shown = capsys.readouterr().out
    assert all(f"{command} " in shown and summary in shown for command, summary in cli.COMMANDS.items())


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_the_line_of_a_command_is_the_first_of_its_manual(command: str) -> None:
    manual = ast.get_docstring(ast.parse((JOBS / f"{command.replace('-', '_')}.py").read_text(encoding="utf-8")))
    assert manual is not None
    assert manual.splitlines()[0] == cli.COMMANDS[command]


def test_no_command_is_bad_usage_and_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "usage: pixdex COMMAND" in capsys.readouterr().err


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serach"]) == 2
    assert "did you mean search?" in capsys.readouterr().err


def test_a_flag_before_the_command_says_where_it_belongs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--root", "r", "search"]) == 2
    assert "pixdex COMMAND --root" in capsys.readouterr().err


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("pixdex ")


def test_the_rest_of_the_line_goes_to_the_job(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["search", "--root"]) == 2
    assert "--root" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["search", "--help"], ["help", "search"]])
def test_the_help_of_a_command_is_its_manual(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(argv)
    assert 'pixdex search --root ./emoji "a red circle"' in capsys.readouterr().out


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pipelines import cli; cli.main(['--help'])\n"
        "sys.exit(str([m for m in ('apache_beam', 'torch', 'faiss', 'numpy', 'pyarrow') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    "words",
    [
        ["inspect"],
        ["verify"],
        ["gc"],
        ["plan"],
        ["reindex"],
        ["rollback", "--to", "1"],
        ["search", "--vector", "q.npy"],
    ],
    ids=lambda words: words[0],
)
def test_a_root_that_is_not_there_is_said_in_the_same_words_by_all(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str]
) -> None:
    assert cli.main([*words, "--root", str(tmp_path / "nowhere")]) == 2
    said = capsys.readouterr().err
    assert said == f"pixdex: --root {tmp_path}/nowhere: there is no such folder; check its spelling\n"
    assert not list(tmp_path.iterdir())


def test_python_m_pipelines_is_pixdex() -> None:
    done = subprocess.run([sys.executable, "-m", "pipelines", "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("pixdex turns")


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--version"],
        ["serach"],
        ["search", "x", "-k", "0"],
        ["inspect", "--root", "nowhere"],
        pytest.param(["build"], marks=pytest.mark.gate),
    ],
    ids=" ".join,
)
def test_python_m_pipelines_does_what_the_script_does(tmp_path: Path, argv: list[str]) -> None:
    script = "import sys; from pipelines.cli import main; sys.exit(main())"
    (module, installed) = (
        subprocess.run([sys.executable, *start, *argv], capture_output=True, text=True, check=False, cwd=tmp_path)
        for start in (["-m", "pipelines"], ["-c", script])
    )
    assert (module.returncode, module.stdout, module.stderr) == (
        installed.returncode, installed.stdout, installed.stderr,
    )  # fmt: skip

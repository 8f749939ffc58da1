"""Every block of every document is what it says it is: scripts that shells read, commands that are known, files of
options that commands take; and what is marked so is run."""

import importlib
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pipelines.cli import COMMANDS
from pipelines.running import beam_options
from pipelines.running.start import read
from pipelines.terminal import command_line
from pipelines.terminal.jobs import OPTIONS as JOBS
from tests import documents
from tests.conftest import REPOSITORY
from tests.deploy import commands
from tests.documents import DOCUMENTS, Block
from transforms.demo import write_corpus

BLOCKS = [
    pytest.param(file, block, id=f"{file.relative_to(REPOSITORY)}:{block.line}")
    for file in DOCUMENTS
    for block in documents.blocks_of(file.read_text(encoding="utf-8"))
]
SCRIPTS = [each for each in BLOCKS if each.values[1].kind == "sh"]  # type: ignore[union-attr]  # what parametrize takes

KINDS = frozenset({"sh", "python", "yaml", "json", "text", ""})

PROGRAMS = frozenset(
    {
        # ours, and what runs it
        *("pixdex", "python", "python3", "bash"),
        # what sets up a checkout and looks after it
        *(".", "pip", "pre-commit", "lint-imports", "mkdir"),
        # what stands around it elsewhere
        *("docker", "gcloud", "helm", "kubectl", "rsync"),
    }
)
"""Programs that documents run. One that is new here is looked at by a person first."""

GRAPHS = frozenset({*JOBS, "augment", "condense", "batch-search", "evaluate", "tune"})
"""Commands to which flags of Beam pass through."""

OURS = re.compile(r"(?:deploy|tests|pipelines|transforms|\.ci)/[\w./-]+")
"""Words that name a file of this repository."""


@pytest.mark.parametrize(("file", "block"), BLOCKS)
def test_a_block_says_what_it_is(file: Path, block: Block) -> None:
    assert block.kind in KINDS


@pytest.mark.parametrize(("file", "block"), SCRIPTS)
def test_a_script_is_one_that_bash_reads(file: Path, block: Block) -> None:
    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("file", "block"), SCRIPTS)
def test_a_script_runs_known_programs_with_files_that_are_there(file: Path, block: Block) -> None:
    unknown, missing = set(), set()
    for words in documents.programs_of(block.text):
        program = words[0].rpartition("/")[2] if words[0] != "." else "."
        if program not in PROGRAMS:
            unknown.add(words[0])
        named = [word for word in words[1:] if OURS.fullmatch(word)]
        missing |= {word for word in named if not (REPOSITORY / word).exists()}
    assert not unknown and not missing


def test_programs_are_told_from_what_stands_around_them() -> None:
    script = "A=1 B='x y' bash a.sh \\\n  -c | wc -l && (true)\nC=3\nls; pwd  # of a; b\necho 'a; b'\n"
    assert [words[0] for words in documents.programs_of(script)] == ["bash", "wc", "(true)", "ls", "pwd", "echo"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_a_manual_would_be_taken(command: str) -> None:
    """Of all commands, as `--help` shows them; those that are jobs have more tests of theirs."""
    manual = importlib.import_module(f"pipelines.{command.replace('-', '_')}").__doc__ or ""
    scripts = re.findall(r"(?:^    .*\n)+", f"{manual}\n", re.MULTILINE)
    shown = documents.commands_of("".join(f"```sh\n{textwrap.dedent(each)}```\n" for each in scripts))
    assert any(words[:2] == ["pixdex", command] for words in shown)
    for words in shown:
        if words[0] == "pixdex":
            line = command_line.read(words[1], "", words[2:], commands.groups(words[1]))
            if words[1] in GRAPHS:
                beam_options.of(line)
            elif line.others:
                line.refuse(line.others[0])


# --- files of options ---

CONFIGS = [each for each in BLOCKS if each.values[1].text.startswith("# pixdex.yaml\n")]  # type: ignore[union-attr]


def test_a_file_of_options_is_shown() -> None:
    assert CONFIGS


@pytest.mark.parametrize(("file", "block"), CONFIGS)
def test_a_file_of_options_that_is_shown_would_be_taken(file: Path, block: Block, tmp_path: Path) -> None:
    (tmp_path / "pixdex.yaml").write_text(block.text)
    for command in ("build", "reindex", "search", "inspect"):
        line = command_line.read(command, "", ["--config", str(tmp_path / "pixdex.yaml")], commands.groups(command))
        assert line.options.root
    assert read("build", "", ["--config", str(tmp_path / "pixdex.yaml")], commands.groups("build")).others


# --- what is run ---

RUN = [each for each in BLOCKS if each.values[1].is_run]  # type: ignore[union-attr]


def test_some_blocks_are_run() -> None:
    assert len(RUN) >= 4


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the blocks speak of: pictures with a CSV, the file of options, and roots of two names."""
    folder = tmp_path_factory.mktemp("documents")
    write_corpus(folder / "corpus", 60, 3)
    (table,) = (folder / "corpus").glob("*.csv")
    header, *rows = table.read_text().splitlines()
    lines = [f"{header},price", *(f"{row},{number}" for number, row in enumerate(rows))]
    (folder / "corpus" / "emoji.csv").write_text("\n".join(lines) + "\n")
    for name in (folder / "corpus").iterdir():
        name.rename(folder / name.name)
    (folder / "pixdex.yaml").write_text(CONFIGS[0].values[1].text)  # type: ignore[union-attr]
    words = ["--csv", "emoji.csv", "--image-column", "image", "--text-column", "description", "--no-progress"]
    ran(
        folder,
        ["bash", "-c", f"pixdex build --root ./pixdex-demo/index {' '.join(words)} && cp -r pixdex-demo/index shop"],
    )
    return folder


def ran(folder: Path, words: list[str]) -> str:
    """What a program prints that runs in a folder, which is a home, too; this pixdex is on its PATH."""
    (folder / "bin").mkdir(exist_ok=True)
    program = folder / "bin" / "pixdex"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{REPOSITORY / "pixdex.py"}" "$@"\n')
    program.chmod(0o755)
    path = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
    variables = {**os.environ, "PATH": path, "HOME": str(folder), "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(words, cwd=folder, env=variables, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.gate
@pytest.mark.parametrize(("file", "block"), RUN)
def test_what_is_marked_so_runs(file: Path, block: Block, place: Path) -> None:
    if block.kind == "python":
        said = ran(place, [sys.executable, "-c", block.text])
        assert "[" in said or "file://" in said
    else:
        assert shutil.which("bash")
        ran(place, ["bash", "-e", "-u", "-o", "pipefail", "-c", block.text])

"""The house: which room may import which, and how large a room and a file may be."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from pipelines.cli import COMMANDS
from tests.conftest import REPOSITORY

MOST_LINES = 400
MOST_MODULES = 20


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the code and of its contracts."""
    for name in ("pipelines", "transforms"):
        shutil.copytree(
            REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors")
        )
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


def looked_over(folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs import-linter over the code of a folder, and over no other that is installed."""
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_imports_go_down_only(house: Path) -> None:
    result = looked_over(house)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("transforms/search/ranking.py", "from transforms.stages import add", "from the roof to the ground"),
        ("transforms/storage/layout.py", "from transforms.runs import run", "from the roof to the ground"),
        ("transforms/search/ranking.py", "from transforms.tasks import add", "from the roof to the ground"),
        ("transforms/upkeep/lease.py", "import pipelines.search", "No command is known"),
        ("pipelines/running/request.py", "from pipelines import build", "No command is known"),
        ("pipelines/terminal/flags.py", "from pipelines.running import request", "What gets a graph to its runner"),
        ("transforms/index/lists/format.py", "import faiss", "without faiss"),
        ("transforms/tasks/publish.py", "import apache_beam", "Only stages know Beam"),
        ("transforms/search/ranking.py", "import torch", "needs no model"),
    ],
)
def test_an_import_that_goes_up_is_named(house: Path, module: str, line: str, contract: str) -> None:
    with (house / module).open("a") as stream:
        stream.write(f"\n{line}\n")
    result = looked_over(house)
    assert result.returncode == 1
    broken = next(text for text in result.stdout.splitlines() if contract in text)
    assert broken.endswith("BROKEN"), result.stdout


def _modules(*folders: str) -> list[Path]:
    return [file for folder in folders for file in (REPOSITORY / folder).rglob("*.py")]


def test_a_file_has_one_subject_and_no_more_lines_than_that_takes() -> None:
    lengths = {
        file: len(file.read_text().splitlines()) for file in _modules("pipelines", "transforms", "tests", "deploy")
    }
    assert not {str(file): lines for file, lines in lengths.items() if lines > MOST_LINES}


def test_a_room_has_no_more_modules_than_one_can_know() -> None:
    modules = _modules("pipelines", "transforms", "tests", "deploy")
    commands = {REPOSITORY / "pipelines" / f"{name.replace('-', '_')}.py" for name in COMMANDS}
    assert commands <= set(modules)  # of these there are as many as `pixdex --help` lists
    rooms = Counter(file.parent for file in modules if file.name != "__init__.py" and file not in commands)
    assert not {str(room): modules for room, modules in rooms.items() if modules > MOST_MODULES}


def test_every_room_says_what_it_is_for() -> None:
    rooms = {file.parent / "__init__.py" for file in _modules("pipelines", "transforms")}
    assert not [str(room) for room in rooms if not room.exists() or not room.read_text().startswith('"""')]

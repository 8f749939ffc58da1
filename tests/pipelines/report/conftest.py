"""Roots with a report, made once and copied for each test that changes one."""

import io
import json
import shutil
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipelines import build, evaluate, reindex, report, tune
from tests.corpora import write_pictures
from tests.end_to_end.builds import EVERYTHING
from tests.pipelines.report.pages import TINY, write_hostile_corpus


@dataclass(frozen=True)
class Told:
    """A root of two generations, the second evaluated, and what the commands that made it said at last."""

    root: Path
    build: dict[str, Any]
    reindex: dict[str, Any]
    evaluation: dict[str, Any]
    evaluated: Path

    def page(self, number: int) -> Path:
        return self.root / "reports" / f"{number:06d}" / "index.html"


def said_by(main: Any, *words: object) -> dict[str, Any]:
    """The last line of a command that must end well."""
    with redirect_stdout(io.StringIO()) as out:
        assert main([str(word) for word in words]) == 0
    record: dict[str, Any] = json.loads(out.getvalue().splitlines()[-1])
    return record


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Nobody changes it."""
    folder = tmp_path_factory.mktemp("told")
    root, csv = folder / "ro <i>ot", write_hostile_corpus(folder)
    (folder / "more").mkdir()
    (folder / "more" / "notes.txt").write_text("no picture")
    write_pictures(folder / "more", 20, seed=1)
    words = ("--csv", csv, *EVERYTHING, "--images", folder / "more", *TINY)
    built = said_by(build.main, "--root", root, *words)
    write_pictures(folder / "more", 32, seed=1)
    next((folder / "more").glob("*.png")).unlink()
    (folder / "more" / "<b onclick=alert(3)>&amp;.png").write_bytes(b"broken")
    went_on = said_by(reindex.main, "--root", root, "--retrain", "never", "--no-progress")
    evaluated = folder / "evaluated"
    measured = said_by(evaluate.main, "--root", root, "--output", evaluated, "--num-queries", 20, "--no-progress")
    said_by(report.main, "--root", root, "--evaluation", evaluated)
    return Told(root, built, went_on, measured, evaluated)


@pytest.fixture
def root(told: Told, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(told.root, tmp_path / "root"))


@pytest.fixture(scope="session")
def tuned(told: Told, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy whose third generation is tuned."""
    copy = Path(shutil.copytree(told.root, tmp_path_factory.mktemp("tuned") / "root"))
    said_by(tune.main, "--root", copy, "--target-recall", "0.5", "--num-queries", 20, "--no-progress")
    return copy

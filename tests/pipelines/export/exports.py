"""Roots that nights went over, exported by the command."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines import build, export, hide
from tests.end_to_end import reindexing
from tests.end_to_end.reindexing import Collection, collection, deltas, generation_of

Capture = pytest.CaptureFixture[str]


def changed_root(folder: Path, key: str, *, pictures: int = 60, rows: int = 24) -> Path:
    """A root with a delta, dead rows and a hidden item."""
    items = collection(folder / "sources", pictures, rows)
    root = folder / "root"
    assert build.main(["--root", str(root), *items.arguments, "--index-key", key]) == 0
    night(items, root)
    (shown, *_) = sorted((folder / "sources/pictures").iterdir())
    assert hide.main(["--root", str(root), f"file://{shown}", f"file://{folder}/sources/rows.csv#k003"]) == 0
    assert deltas(root) == 1 and generation_of(root).totals.tombstones > 0
    return root


def night(items: Collection, root: Path) -> None:
    """Some items go, some come, and some change."""
    for name in ("p003", "p017"):
        del items.pictures[name]
    items.pictures |= {"p004": 904, "p900": 900, "p901": 901}
    del items.rows["k001"]
    items.rows |= {"k002": ("another text", 1002), "k900": ("new text", 1900)}
    items.write()
    assert reindexing.run(root, "--retrain", "never", "--max-tombstones", "1") == 0


def exported(root: Path, layout: str, folder: Path, *flags: str) -> int:
    """Runs the command; returns its exit code."""
    return export.main(["--root", str(root), "--layout", layout, str(folder), "--no-progress", *flags])


def said(capsys: Capture) -> dict[str, Any]:
    """The last line on stdout."""
    record: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return record

"""Roots that are collected, and what is left of them."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from pipelines import gc, verify
from tests.end_to_end import reindexing
from tests.end_to_end.reindexing import Collection
from transforms.generations import published
from transforms.generations.manifest import Generation
from transforms.runs.run import Run
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.tasks import publish

Capture = pytest.CaptureFixture[str]
DAY = 24 * 3600


def second_night(items: Collection) -> None:
    items.pictures |= {"second": 502, "worse": -2}
    del items.pictures["p003"], items.rows["k003"]
    items.write()


def said(capsys: Capture) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return record


def collect(root: Path, *flags: str) -> int:
    return gc.main(["--root", str(root), *flags])


def verified(root: Path, capsys: Capture, *flags: str) -> dict[str, Any]:
    """What verify says of a root that must be whole."""
    capsys.readouterr()
    assert verify.main(["--root", str(root), *flags]) == 0, capsys.readouterr().err
    return said(capsys)


def manifest(root: Path, number: int) -> Generation:
    return Store.at(str(root)).read_record(layout.generation(number), Generation)


def files_of(root: Path, *numbers: int) -> set[str]:
    store = Store.at(str(root))
    return {path for number in numbers for path in published.files(store, manifest(root, number))}


def make_old(root: Path, seconds: float = 30 * DAY) -> None:
    """Makes every file of a root older."""
    for file in root.rglob("*"):
        make_older(file, seconds)


def make_older(file: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(file, (then, then))


def stop_before_publishing(root: Path, *flags: str) -> None:
    """Runs a reindex that fails at its last step."""

    def fail(_: Run) -> Generation:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish, "publish", fail)
        assert reindexing.run(root, *flags) == 1

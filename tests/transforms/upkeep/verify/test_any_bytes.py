"""Any bytes in any file of a root: each command ends in what it says, or in one line that names the file."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import gc, inspect, search, verify
from tests.damages import changed_json, damaged
from tests.end_to_end.reindexing import run as reindex
from transforms.errors import PixdexError
from transforms.generations import manifest, published
from transforms.generations.manifest import Generation
from transforms.index import canaries
from transforms.index.lists.opened import opened_lists
from transforms.index.open_trained import open_trained
from transforms.index.trained import read_training
from transforms.markers import (
    DriftMarker,
    KeysMarker,
    ListsMarker,
    PieceMarker,
    ShardMarker,
    StageMarker,
    TombstonesMarker,
    TrainMarker,
)
from transforms.record_json import encode
from transforms.records import FileReference, Plan, Request
from transforms.runs import partitions
from transforms.sources import items
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.tasks.training_files import TensorsMarker, load_tensors
from transforms.upkeep.lease import Lease

Capture = pytest.CaptureFixture[str]

MARKERS: dict[str, type[Any]] = {
    "embed": ShardMarker, "keys": KeysMarker, "tombstones": TombstonesMarker, "drift": DriftMarker,
    "sample": ListsMarker, "route": ListsMarker, "parents": TensorsMarker, "cells": TensorsMarker,
    "pass1": TensorsMarker, "move1": TensorsMarker, "pass2": TensorsMarker, "move2": TensorsMarker,
    "train": TrainMarker, "add": ListsMarker, "merge": PieceMarker, "stages": StageMarker,
}  # fmt: skip
FEW = [pytest.param(24, id="few"), pytest.param(2400, id="many", marks=pytest.mark.slow)]


@pytest.fixture
def root(store: Store) -> Path:
    assert store.local is not None
    return store.local


@pytest.fixture
def query(tmp_path: Path) -> str:
    np.save(tmp_path / "query.npy", np.random.default_rng(0).standard_normal(16).astype(np.float32))
    return str(tmp_path / "query.npy")


def commands(query: str) -> list[tuple[Callable[[list[str]], int], list[str]]]:
    """All that look at a root, and change nothing."""
    return [
        (verify.main, ["--json"]),
        (verify.main, ["--json", "--quick"]),
        (search.main, ["--vector", query, "--json", "-k", "200"]),
        (search.main, ["--vector", query, "--json", "-k", "200", "--check"]),
        (inspect.main, []),
        (inspect.main, ["--files"]),
        (gc.main, ["--dry-run", "--older-than", "0s"]),
    ]


def files_of(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file() and ".scratch" not in path.parts)


def in_turn(files: Sequence[Path], many: int, rng: random.Random) -> Iterator[Path]:
    """Every file before one comes again; small kinds, of which there are many, no more often than large ones."""
    folders = sorted({path.parent for path in files})
    for number in range(many):
        folder = folders[number % len(folders)]
        yield rng.choice([path for path in files if path.parent == folder])


@pytest.mark.parametrize("many", FEW)
def test_every_command_ends_in_one_line_whatever_the_bytes_of_a_file(
    root: Path, query: str, capsys: Capture, many: int
) -> None:
    files, rng = files_of(root), random.Random(many)
    contents = {path: path.read_bytes() for path in files}
    others = [content for content in contents.values() if len(content) < 1 << 16]
    for path in in_turn(files, many, rng):
        path.write_bytes(damaged(contents[path], rng, others))
        for main, argv in commands(query):
            capsys.readouterr()
            case = f"{main.__module__} {argv[:1]} of {path.relative_to(root)}"
            code = main(["--root", str(root), *argv])
            out, err = capsys.readouterr()
            lines = [line for line in err.splitlines() if not line.startswith(("WARNING ", "note: "))]
            assert code in (0, 1, 2) and "Traceback" not in err, case
            if code and main is not verify.main:
                assert len(lines) == 1 and path.name in lines[0], (case, lines)
            if code and main is verify.main:
                assert any(path.name in line for line in lines), (case, lines)
                assert out, case
        path.write_bytes(contents[path])


@pytest.mark.parametrize("many", [pytest.param(4, id="few"), pytest.param(400, id="many", marks=pytest.mark.slow)])
def test_a_manifest_that_says_anything_and_is_sealed_breaks_no_command(
    root: Path, store: Store, query: str, capsys: Capture, many: int
) -> None:
    """One that somebody made: its checksum is right, and nothing else need be."""
    path, rng = root / layout.generation(2), random.Random(many)
    content = path.read_bytes()
    tried = 0
    while tried < many:
        path.write_bytes(changed_json(content, rng, "value"))
        try:
            forged = store.read_record(layout.generation(2), Generation)
        except PixdexError:
            continue
        tried += 1
        path.write_bytes(encode(manifest.seal(forged)))
        for main, argv in commands(query):
            capsys.readouterr()
            assert main(["--root", str(root), *argv]) in (0, 1, 2)
            assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("many", FEW)
def test_every_reader_says_which_file_is_damaged(root: Path, store: Store, generation: Generation, many: int) -> None:
    """Those of runs and of training, too, which no command of the test above reads."""
    readers = dict(_readers(store, generation))
    rng, files = random.Random(many), [root / path for path in readers]
    contents = {path: path.read_bytes() for path in files}
    for path in in_turn(files, many, rng):
        path.write_bytes(damaged(contents[path], rng, list(contents.values())[:9]))
        try:
            readers[str(path.relative_to(root))]()
        except PixdexError as error:
            assert path.name in str(error)
        path.write_bytes(contents[path])


def _readers(store: Store, generation: Generation) -> Iterator[tuple[str, Callable[[], object]]]:
    """Files below the root by their paths, each with what reads it."""
    trained, kept = generation.trained, generation.canaries
    assert kept is not None
    yield trained.index.path, partial(open_trained, store, trained)
    yield trained.training.path, partial(read_training, store, trained)
    yield kept.path, partial(canaries.load, store, kept)
    yield layout.generation(2), partial(published.current, store)
    store.create(layout.LEASE, encode(Lease("token", "host", 1, "", "command", 1.0, 1.0)))
    yield layout.LEASE, partial(store.read_record, layout.LEASE, Lease)
    for number in (1, 2):
        plan = store.read_record(layout.plan(number), Plan)
        yield layout.request(number), partial(store.read_record, layout.request(number), Request)
        yield layout.plan(number), partial(store.read_record, layout.plan(number), Plan)
        yield plan.partitions.path, partial(_exhaust, partitions.read_partitions, store, plan.partitions)
        for file in store.walk(layout.plan_folder(number)):
            stage = file.path.split("/")[2]
            if stage in MARKERS and file.path.endswith(".json"):
                yield file.path, partial(store.read_record, file.path, MARKERS[stage])
                marker = store.read_record(file.path, MARKERS[stage])
                if isinstance(marker, TensorsMarker):
                    yield marker.tensors.path, partial(load_tensors, store, marker.tensors)
                if isinstance(marker, ListsMarker):
                    yield marker.lists.path, partial(_read_lists, store, marker.lists)
            if stage == "items" and file.path.endswith(".parquet"):
                yield file.path, partial(_exhaust, items.scan, store, file.path)


def _exhaust(read: Callable[..., Iterable[object]], *where: object) -> None:
    for _ in read(*where):
        pass


def _read_lists(store: Store, file: FileReference) -> None:
    with opened_lists(store, file) as lists:
        lists.verify()
        lists.sizes()


@pytest.mark.slow
def test_a_run_goes_on_or_ends_in_one_line_whatever_the_bytes_of_its_files(root: Path, capsys: Capture) -> None:
    """As it does after it was killed before its last step."""
    (root / layout.generation(2)).unlink()
    (root / layout.stage_marker(2, "publish")).unlink()
    files, rng = files_of(root), random.Random(7)
    contents = {path: path.read_bytes() for path in files}
    others = [content for content in contents.values() if len(content) < 1 << 16]
    for path in in_turn(files, 150, rng):
        path.write_bytes(damaged(contents[path], rng, others))
        capsys.readouterr()
        code = reindex(root, "--max-tombstones", "1")
        err = capsys.readouterr().err
        assert code in (0, 1, 2) and "Traceback" not in err, path
        for left in set(files_of(root)) - set(files):
            left.unlink()
        for other, content in contents.items():
            if not other.exists() or other.read_bytes() != content:
                other.write_bytes(content)

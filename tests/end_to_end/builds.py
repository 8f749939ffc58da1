"""Runs whole builds, in this process or in another one, and looks at what they leave."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines import build
from tests import corpora
from transforms.generations import published
from transforms.generations.manifest import Generation
from transforms.index.lists.writer import write_lists
from transforms.records import FileReference
from transforms.runs import partitions
from transforms.shards.files import read_rejects
from transforms.sources import items
from transforms.stages import merge
from transforms.storage import parquet_files
from transforms.storage.store import Store
from transforms.tasks import add
from transforms.tasks.derive import cut, planned
from transforms.tasks.merge import file as merge_file

REPOSITORY = Path(__file__).parents[2]
TINY = ("--encoder", "tests.encoders:TinyEncoder", "--no-progress")
EVERYTHING = ("--image-column", "image", "--text-column", "description", "--keyword-column", "words")
TWICE = ("--direct_runner_bundle_repeat=1",)
"""Executes every bundle twice, which finds writes that are not idempotent."""


@dataclass(frozen=True)
class Finished:
    """What a build left for the person who ran it."""

    code: int
    out: list[str]
    err: list[str]

    @property
    def said(self) -> dict[str, Any]:
        """The last line on stdout."""
        record: dict[str, Any] = json.loads(self.out[-1])
        return record


def run_here(capsys: pytest.CaptureFixture[str], *argv: object) -> Finished:
    """Runs the job in this process."""
    capsys.readouterr()
    code = build.main([str(word) for word in argv])
    output = capsys.readouterr()
    return Finished(code, output.out.splitlines(), output.err.splitlines())


def start(*argv: object, cwd: Path = REPOSITORY) -> "subprocess.Popen[str]":
    """Starts the job in a process group of its own."""
    path = os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-m", "tests.end_to_end.job", "build", *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
        encoding="utf-8",
    )


def wait(process: "subprocess.Popen[str]", timeout: float = 600) -> Finished:
    """Waits for a job that `start` began."""
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        if process.poll() is None:
            process.kill()
    return Finished(process.returncode, out.splitlines(), err.splitlines())


def run_apart(*argv: object, cwd: Path = REPOSITORY, timeout: float = 600) -> Finished:
    """Runs the job in another process."""
    return wait(start(*argv, cwd=cwd), timeout)


def write_corpus(folder: Path, count: int = 60) -> Path:
    """Writes pictures and the CSV that names them; returns the CSV."""
    return corpora.write_csv(folder / "rows.csv", corpora.write_pictures(folder / "pictures", count))


def make_work_small(patch: pytest.MonkeyPatch) -> None:
    """Makes a few dozen rows fill several partitions, blocks and pieces."""
    patch.setattr(partitions, "MIN_PARTITION_ROWS", 16)
    patch.setattr(partitions, "ROWS_PER_SHARD", 64)
    patch.setattr(cut, "GROUP_ROWS", 16)
    patch.setattr(planned, "LEAST_ROWS", 32)
    patch.setattr(items, "chunks_of", functools.partial(items.chunks_of, limit=8))
    patch.setattr(add, "write_lists", functools.partial(write_lists, fence_bytes=64))
    patch.setattr(merge, "plan_merge", functools.partial(merge_file.plan_merge, piece_bytes=1024))


def generation_of(root: Path) -> Generation:
    """Returns the current generation, which must be there."""
    generation = published.current(Store.at(str(root)))
    assert generation is not None
    return generation


def content(root: Path) -> dict[str, str]:
    """Returns every file that the current generation needs, with the sha256 of its bytes."""
    store = Store.at(str(root))
    return {
        path: sha256((root / path).read_bytes()).hexdigest() for path in published.files(store, generation_of(root))
    }


def every_file(root: Path) -> dict[str, tuple[int, int]]:
    """Returns the size and time of every file below a root."""
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def leftovers(root: Path) -> list[str]:
    """Returns what only a running job may have, but for temporary names of markers, which every listing skips."""
    found = [path.relative_to(root) for path in root.rglob("*")]
    return [
        str(path)
        for path in found
        if (path.parts[0] == ".scratch" and len(path.parts) > 1)
        or (path.name.startswith(".") and path.parts[0] != ".scratch")
    ]


def rows_of(root: Path, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    """Reads columns of all shards of the current generation."""
    store = Store.at(str(root))
    shards = parquet_files.read(store, generation_of(root).tables.shards)
    tables = [pq.read_table(root / path, columns=list(columns)) for path in shards["path"].to_pylist() if path]
    return [tuple(row[name] for name in columns) for table in tables for row in table.to_pylist()]


def rejects_of(root: Path) -> list[dict[str, Any]]:
    """Reads the rejects of the current generation."""
    store = Store.at(str(root))
    table = parquet_files.read(store, generation_of(root).tables.rejects).to_pylist()
    references = [FileReference(row["path"], row["bytes"], row["checksum"]) for row in table]
    return [reject for reference in references for reject in read_rejects(store, reference).to_pylist()]

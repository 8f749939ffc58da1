"""A root that has all that may be in the way, and the rows of any root in plain numpy."""

import csv
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines import build, hide, reindex
from tests import corpora
from tests.end_to_end.builds import EVERYTHING, TINY, generation_of
from transforms.generations import hidden, tables, tombstones
from transforms.records import MODALITIES, row_ids
from transforms.storage.store import Store

GONE = 5
"""Rows of the CSV whose number ends with it are gone."""


@dataclass(frozen=True)
class Rows:
    """The rows that a search may find: `table` has all columns but the vectors, `vectors` float32 `(n, d)`."""

    table: pa.Table
    vectors: NDArray[np.float32]

    def names(self) -> list[tuple[str, str, int]]:
        """Key, modality and part of each."""
        return list(zip(*(self.table[name].to_pylist() for name in ("key", "modality", "part")), strict=True))

    def of(self, modality: str) -> NDArray[np.int64]:
        """The places of the rows of a kind."""
        return np.flatnonzero(np.array(self.table["modality"].to_pylist()) == modality)


def rows_of(root: Path) -> Rows:
    """Reads the shards of the current generation, and leaves out what is dead or hidden."""
    store, generation = Store.at(str(root)), generation_of(root)
    dead = tombstones.read_all(store, generation.tables.tombstones)
    gone = set(hidden.read(store, generation))
    parts = []
    for shard in tables.shards_of(store, generation):
        if shard.embeddings is not None:
            table = pq.read_table(root / shard.embeddings.path)
            alive = dead.are_alive(row_ids(shard.shard, len(table)))
            parts.append(table.filter(pa.array(alive)))
    table = pa.concat_tables(parts, promote_options="default")
    table = table.filter(pa.array([key not in gone for key in table["key"].to_pylist()]))
    vectors = np.array(table["embedding"].to_pylist(), np.float32).reshape(len(table), -1)
    return Rows(table.drop_columns(["embedding"]), vectors)


def write_ready(folder: Path, count: int = 300, dim: int = 8, seed: int = 0) -> tuple[str, ...]:
    """Writes vectors with metadata beside them; returns the words of a build of them."""
    folder.mkdir(parents=True)
    vectors = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    np.save(folder / "rows.npy", vectors)
    beside = {"caption": [f"words {n}" for n in range(count)], "label": [n % 3 for n in range(count)]}
    pq.write_table(pa.table(beside), folder / "rows.parquet")
    return "--vectors", str(folder / "rows.npy"), "--metadata", str(folder / "rows.parquet"), "--no-progress"


def make(folder: Path) -> Path:
    """Builds pictures with texts and keywords, brings them up to date, and hides an item; returns the root.

    So there are a delta, dead rows and a hidden item.
    """
    pictures = corpora.write_pictures(folder / "pictures", 60)
    file = corpora.write_csv(folder / "first.csv", pictures)
    words = ("--csv", str(file), *EVERYTHING, "--key-column", "name", "--encoder-threads", "1", *TINY)
    assert build.main(["--root", str(folder / "root"), *words, "--index-key", "IVF4,Flat"]) == 0
    with file.open(encoding="utf-8") as stream:
        lines = list(csv.reader(stream))
    shutil.copy(pictures[0], folder / "pictures" / "another.png")
    kept = [line for number, line in enumerate(lines) if not number or number % 10 != GONE]
    added = [[f"pictures/g{n}_p000{n}.png", f"new {n}", "g9", f"new text {n}", f"blue, n{n}"] for n in range(3)]
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([*kept, *added])
    assert reindex.main(["--root", str(folder / "root"), *TINY, "--max-tombstones", "1"]) == 0
    generation = generation_of(folder / "root")
    assert generation.totals.tombstones and not all(
        block.merged for block in tables.blocks_of(Store.at(str(folder / "root")), generation)
    )
    (key,) = {name for name, _, _ in rows_of(folder / "root").names() if name.endswith("#name 3")}
    assert hide.main(["--root", str(folder / "root"), key]) == 0
    return folder / "root"


def neighbours(rows: Rows, count: int) -> NDArray[np.int64]:
    """The nearest rows of the same kind of each, itself left out, `(n, count)`."""
    scores = rows.vectors.astype(np.float64) @ rows.vectors.T.astype(np.float64)
    kinds = np.array([MODALITIES.index(kind) for kind in rows.table["modality"].to_pylist()])
    scores[kinds[:, None] != kinds[None]] = -np.inf
    np.fill_diagonal(scores, -np.inf)
    found: NDArray[np.int64] = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return found


def augmented(rows: Rows, count: int, alpha: float) -> NDArray[np.float64]:
    """What augmentation is, row by row."""
    made = []
    exact = rows.vectors.astype(np.float64)
    for vector, mine in zip(exact, neighbours(rows, count), strict=True):
        cosines = np.clip(exact[mine] @ vector, 0, None)
        total = vector + ((cosines**alpha) * (cosines > 0)) @ exact[mine]
        made.append(total / np.linalg.norm(total))
    return np.array(made)

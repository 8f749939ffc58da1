"""A folder of vectors that both sides of a benchmark read: `base.npy` or `base-*.npy`, and `query.npy`."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tests.benchmarks.instruments.measuring import say

ROWS_PER_FILE = 65_536


@dataclass(frozen=True)
class VectorFolder:
    """Vectors in files; row r of all files, in the order of their names, is the vector at position r.

    Attributes:
        path: the folder.
        metric: `ip` (vectors are compared as if their length were 1) or `l2` (as they are).
    """

    path: Path
    metric: str

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The files of base vectors."""
        found = tuple(sorted(self.path.glob(Path(self.pattern).name)))
        if not found or not (self.path / "query.npy").exists():
            raise SystemExit(
                f"{self.path} needs base.npy, or base-*.npy, and query.npy: make them with clustered_vectors.py"
            )
        return found

    @cached_property
    def starts(self) -> dict[str, int]:
        """The position of the first row of each file, by the file's name; `""` has the number of all rows."""
        starts, total = {}, 0
        for file in self.files:
            starts[file.name] = total
            total += len(np.load(file, mmap_mode="r"))
        return {**starts, "": total}

    @property
    def rows(self) -> int:
        return self.starts[""]

    @cached_property
    def dim(self) -> int:
        return int(np.load(self.files[0], mmap_mode="r").shape[1])

    @property
    def pattern(self) -> str:
        """The files as a glob."""
        name = "base.npy" if (self.path / "base.npy").exists() else "base-*.npy"
        return str(self.path / name)

    @cached_property
    def digest(self) -> str:
        """Tells folders apart by names, sizes and first rows of their files."""
        sums = hashlib.sha256(self.metric.encode())
        for file in (*self.files, self.path / "query.npy"):
            sums.update(f"{file.name} {file.stat().st_size} ".encode())
            sums.update(file.open("rb").read(1 << 16))
        return sums.hexdigest()[:16]

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yields the vectors as they are compared, at most 65,536 at a time."""
        for file in self.files:
            stored = np.load(file, mmap_mode="r")
            for start in range(0, len(stored), ROWS_PER_FILE):
                yield self._compared(stored[start : start + ROWS_PER_FILE])

    def queries(self) -> NDArray[np.float32]:
        """Returns the queries as they are compared."""
        return self._compared(np.load(self.path / "query.npy"))

    def load(self, positions: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Returns the vectors, or those at ascending positions, in memory."""
        out = np.empty((self.rows if positions is None else len(positions), self.dim), np.float32)
        filled = first = 0
        for block in self.blocks():
            if positions is not None:
                here = positions[np.searchsorted(positions, first) : np.searchsorted(positions, first + len(block))]
                chosen = block[here - first]
            else:
                chosen = block
            out[filled : filled + len(chosen)] = chosen
            filled, first = filled + len(chosen), first + len(block)
        return out

    def _compared(self, stored: NDArray[np.generic]) -> NDArray[np.float32]:
        vectors = np.ascontiguousarray(stored, dtype=np.float32)
        return unit(vectors) if self.metric == "ip" else vectors


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the vectors with length 1; a vector of zeros stays one."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)


def opened(path: Path, metric: str, work: Path) -> VectorFolder:
    """Opens a folder; vectors of another type than float16 and float32 are converted below `work` first.

    Converted vectors are float16: normalised for `ip`; as they are for `l2`, where integers to 2,048 stay exact.
    """
    found = VectorFolder(path, metric)
    if np.load(found.files[0], mmap_mode="r").dtype in (np.float16, np.float32):
        return found
    converted = work / f"{path.name}-{metric}"
    if not (converted / "query.npy").exists():
        say(f"converting {path} to float16 in {converted}")
        write(converted, found.blocks(), found.queries())
    return VectorFolder(converted, metric)


def write(folder: Path, blocks: Iterator[NDArray[np.float32]], queries: NDArray[np.float32]) -> None:
    """Writes a folder in float16, a file a block; the queries come last, so that a folder with them is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, block in enumerate(blocks):
        np.save(folder / f"base-{number:05d}.npy", block.astype(np.float16))
    np.save(folder / "query.npy", queries.astype(np.float16))


def base_only(folder: VectorFolder, place: Path) -> Path:
    """Makes a folder that holds the base files only, for programs that read all files of a folder.

    The files are hard links (autofaiss does not see symbolic ones), copies where the disk is another.
    """
    place.mkdir(parents=True, exist_ok=True)
    for file in folder.files:
        try:
            os.link(file.resolve(), place / file.name)
        except OSError:
            shutil.copyfile(file, place / file.name)
    return place


def write_parquet(file: Path, vectors: NDArray[Any]) -> None:
    """Writes vectors `(n, d)` as a column `embedding` of a parquet file."""
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    pq.write_table(pa.table({"embedding": column}), file, row_group_size=1 << 16)

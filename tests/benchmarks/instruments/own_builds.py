"""Our side of a benchmark: whole commands of pixdex on ready embeddings, and the indexes that they leave."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import faiss
import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.instruments.measuring import Measured, run, say
from tests.benchmarks.instruments.recall import Positions
from tests.benchmarks.instruments.vector_folder import VectorFolder
from transforms.generations import published
from transforms.index.index_key import IndexKey
from transforms.ready_range import VectorRange
from transforms.records import split_ids
from transforms.runs import beginning
from transforms.runs.run import STAGES, Run
from transforms.storage.store import Store

TRAINING = STAGES[STAGES.index("embed") + 1 : STAGES.index("add")]
"""The stages that train: all between embedding and adding."""


@dataclass(frozen=True)
class OwnRun:
    """One command that ended well; `stages` are the seconds that it reports, stage by stage."""

    root: Path
    measured: Measured
    summary: dict[str, Any]

    @property
    def stages(self) -> dict[str, float]:
        found: dict[str, float] = self.summary["seconds"]
        return found

    @property
    def training_seconds(self) -> float:
        return round(sum(self.stages.get(stage, 0.0) for stage in TRAINING), 3)


def command(job: str, folder: VectorFolder, key: str, root: Path, *, seed: int = 0) -> list[str]:
    """Returns the command that builds (`build`), or goes up to one stage (`train`, `add`), on a folder of vectors."""
    lengths = [] if folder.metric == "ip" else ["--no-normalize"]
    options = ["--vectors", folder.pattern, "--index-key", key, "--metric-type", folder.metric, "--seed", str(seed)]
    return [sys.executable, "-m", f"pipelines.{job}", "--root", str(root), *options, *lengths, "--no-progress"]


def build(folder: VectorFolder, key: str, root: Path, *, seed: int = 0) -> OwnRun:
    """Builds into a new root, start to finish of the command; a root that is there already is removed."""
    shutil.rmtree(root, ignore_errors=True)
    return go_on("build", folder, key, root, seed=seed)


def same_key(asked: str, run: OwnRun) -> dict[str, str]:
    """Returns the key asked for and the one built, and says so when they differ: then there is nothing to compare.

    Spellings of one key do not differ: `PQ64x8` is `PQ64`.
    """
    built = run.summary["index_key"]
    if str(IndexKey.parse(asked)) != built:
        say(f"WARNING: {asked} became {built}: the peer has other lists, take more vectors or a smaller key")
    return {"asked": asked, "pixdex": built}


def go_on(job: str, folder: VectorFolder, key: str, root: Path, *, seed: int = 0) -> OwnRun:
    """Runs a command on a root as it is: what is done there already is not done again."""
    measured = run(command(job, folder, key, root, seed=seed), root.with_name(f"{root.name}.log"))
    return OwnRun(root, measured, measured.last_json())


def opened(root: Path, folder: VectorFolder) -> tuple[Any, Positions]:
    """Opens the merged index of a root, memory-mapped, and says what positions its ids stand for."""
    store = Store.at(str(root))
    generation = published.current(store)
    if generation is None:
        raise SystemExit(f"{root} has no index")
    ranges = {marker.shard: marker.ready for marker in Run(store, generation.generation).shards() if marker.ready}
    index = faiss.read_index(str(store.local_path(generation.index.path)), faiss.IO_FLAG_MMAP)
    return index, _Positions(ranges, folder.starts)


def trained_index(root: Path) -> tuple[Path, str]:
    """Returns the file of the trained index of a root's only run, and its fingerprint."""
    store = Store.at(str(root))
    trained = Run(store, max(beginning.runs(store))).trained().trained
    return store.local_path(trained.index.path), trained.fingerprint


class _Positions:
    """From ids, which name a shard and a row in it, to positions in the folder."""

    def __init__(self, ranges: dict[int, VectorRange], starts: dict[str, int]) -> None:
        self._first = np.zeros(max(ranges) + 1, np.int64)
        for shard, ready in ranges.items():
            self._first[shard] = starts[Path(unquote(urlsplit(ready.uri).path)).name] + ready.start

    def __call__(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        shards, rows = split_ids(np.maximum(ids, 0))
        return np.where(ids < 0, -1, self._first[shards] + rows)

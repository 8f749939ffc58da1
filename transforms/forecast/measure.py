"""Measures what a machine is good for: the functions that a build calls, at the shapes in which it calls them.

Every figure is work over the mean time of a few calls: what else runs on the machine slows a build down, too.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from transforms.forecast.operations import ENTRY_COMPONENTS, SCORE_COMPONENTS, graph_made, kmeans_in_cells
from transforms.forecast.rates import A_CORE, RateName
from transforms.forecast.work import flat_components
from transforms.forecast.workload import OWN_SHARD_BYTES, THREADS_A_TASK
from transforms.index.assignment import FlatAssigner, TwoLevelAssigner
from transforms.index.lists.merge import merge_range
from transforms.index.lists.reader import ListFile
from transforms.index.lists.writer import write_lists
from transforms.index.threads import each_with_one_thread
from transforms.index.training import clustering, codebooks, figures
from transforms.index.training.cells import CellGroup, CellRows, cluster_cells, read_cells
from transforms.index.training.figures import POINTS_PER_LIST
from transforms.index.training.sampling import in_sample
from transforms.index.training.vector_codes import to_codes
from transforms.markers import ShardMarker, StageMarker
from transforms.ready_range import VectorRange
from transforms.records import EncoderSettings, FileReference
from transforms.shards import files, ready_files, ready_vectors
from transforms.shards.vectors import read_batches
from transforms.storage.store import Store

_CALLS, _ENOUGH_SECONDS = 5, 1.5
_ROWS, _DIM, _INNER = 65_536, 512, 256
_BATCH, _AT_ONCE, _TIMES = 4096, 16_384, 4
_LISTS, _CELLS, _PROBES = 16_384, 128, 8
_FLAT_LISTS = 4096
_SUBSPACES, _CODES = 64, 256
_INPUTS, _ENTRIES = 4, 400_000
_FILE_BYTES = 256 << 20
_LINKED, _LINKS = 8192, 32
_SAMPLE_SHARE = 0.05
_FILES = 64
_CLUSTERS = 1000


@dataclass(frozen=True)
class Measured:
    """One rate, by its name in `forecast.rates.Rates`; bytes and operations a second, or seconds of a small thing."""

    name: str
    value: float


def measure(folder: Path) -> Iterator[Measured]:
    """Measures every rate that needs no runner, one after the other, in about half a minute.

    Args:
        folder: takes temporary files of about a gigabyte; what is to be measured is the disk that it lies on.
    """
    threads = min(THREADS_A_TASK, os.cpu_count() or 1)
    with threadpool_limits(threads):
        for name, (work, call) in _measurements(folder, threads).items():
            rate = work / _seconds(call)
            yield Measured(name, rate / threads if name in A_CORE else rate)
        yield from _small_files(Store.at(str(folder)))


def today() -> str:
    """Returns the day, as rates record it."""
    return datetime.now(UTC).strftime("%Y-%m-%d")


def _seconds(call: Callable[[], object]) -> float:
    """Mean seconds of a few calls, after a first that does not count."""
    call()
    calls, started = 0, time.perf_counter()
    while calls == 0 or (calls < _CALLS and time.perf_counter() - started < _ENOUGH_SECONDS):
        call()
        calls += 1
    return (time.perf_counter() - started) / calls


def _side_by_side(threads: int, work: float, call: Callable[[], object]) -> tuple[float, Callable[[], object]]:
    """As a task does it: each of its threads works for itself, and none waits for another."""

    def all_threads() -> None:
        with each_with_one_thread(threads) as pool:
            for _ in pool.map(lambda _: [call() for _ in range(_TIMES)], range(threads)):
                pass

    return threads * _TIMES * work, all_threads


def _measurements(folder: Path, threads: int) -> dict[RateName, tuple[float, Callable[[], object]]]:
    """The work of a call, and the call, of every rate, with all threads of a task."""
    random = np.random.default_rng(0)
    wide = random.standard_normal((_ROWS, _DIM), dtype=np.float32)
    shard, encoder = _shard(folder, wide)
    a_cell, in_cell, cells = _LISTS // _CELLS, POINTS_PER_LIST * _LISTS // _CELLS, 2 * threads
    drawn = _like_embeddings(random, max(cells * in_cell, _AT_ONCE))
    narrow, lists = drawn[:_AT_ONCE], _like_embeddings(random, _LISTS)
    parents = clustering.kmeans(lists, _CELLS, spherical=True, seed=0)
    cell = clustering.nearest(lists, parents, spherical=True)
    bounds = np.append(0, np.cumsum(np.bincount(cell, minlength=_CELLS)))
    assigner = TwoLevelAssigner(parents, lists[np.argsort(cell, kind="stable")], bounds, spherical=True)
    rotation = random.standard_normal((_DIM, _INNER), dtype=np.float32)
    flat = FlatAssigner(lists[:_FLAT_LISTS].copy(), spherical=True)
    clustered = drawn[: cells * in_cell]
    rows = CellRows(clustered, np.arange(cells + 1) * in_cell, np.arange(len(clustered)))
    group = CellGroup(0, 0, (a_cell,) * cells)
    taken, parts = wide[:, :_INNER], wide[:, : _INNER // _SUBSPACES * 8].copy()
    return {
        "check_bytes": (2 * wide.size, lambda: _check(shard)),
        "scan_bytes": _side_by_side(threads, 2 * wide.size, lambda: _read(shard, encoder, _SAMPLE_SHARE)),
        "read_bytes": (2 * wide.size, lambda: _read(shard, encoder, 1.0)),
        "parquet_bytes": _parquet(Store.at(str(folder)), wide, encoder),
        "matrix_flops": _side_by_side(threads, 2 * _BATCH * _DIM * _INNER, lambda: wide[:_BATCH] @ rotation),
        "kmeans_flops": (
            kmeans_in_cells(len(rows.vectors), a_cell, _INNER)[0],
            lambda: cluster_cells(rows, group, spherical=True, seed=0, workers=threads),
        ),
        "flat_flops": _side_by_side(
            threads,
            2 * _BATCH * _FLAT_LISTS * flat_components(_INNER),
            lambda: flat.assign(narrow[:_BATCH]),
        ),
        "grouped_flops": _side_by_side(
            threads,
            2 * len(narrow) * (_CELLS + _PROBES * a_cell) * (_INNER + SCORE_COMPONENTS),
            lambda: assigner.assign(narrow, _PROBES),
        ),
        "codebook_flops": (
            2 * parts.size * _CODES * figures.codebook_iterations(len(parts)),
            lambda: codebooks.train_codebooks(parts, 8, 8, 0, threads),
        ),
        "encode_flops": _side_by_side(
            threads,
            2 * _BATCH * _CODES * (_INNER + ENTRY_COMPONENTS * _SUBSPACES),
            _encoding(narrow[:_BATCH], lists[:_CODES]),
        ),
        "link_flops": (graph_made(_LINKED, _LINKS, _INNER)[0], lambda: _link(lists[:_LINKED])),
        "list_bytes": (_ENTRIES * (_SUBSPACES + 8), lambda: _write_lists(folder / "0.ivf", 0)),
        "take_bytes": (2 * taken.size, _taking(folder, taken, threads)),
        "merge_bytes": (_INPUTS * _ENTRIES * (_SUBSPACES + 8), _merging(folder)),
        "write_bytes": (_FILE_BYTES, lambda: _write(folder / "bytes", bytes(_FILE_BYTES))),
        "disk_bytes": (_FILE_BYTES, lambda: _read_from_disk(folder / "bytes")),
    }


def _like_embeddings(random: np.random.Generator, rows: int) -> NDArray[np.float32]:
    """Vectors of length 1 in clusters, whose directions tell less and less: how much of a product is made of two
    vectors depends on that, and embeddings are so.
    """
    spread = (1.0 + np.arange(_INNER, dtype=np.float32)) ** -0.5
    centres = spread * np.random.default_rng(1).standard_normal((_CLUSTERS, _INNER), dtype=np.float32)
    noise = 0.5 * spread * random.standard_normal((rows, _INNER), dtype=np.float32)
    return _unit(centres[random.integers(0, _CLUSTERS, rows)] + noise)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return clustering.on_sphere(vectors, True)


def _shard(folder: Path, vectors: NDArray[np.float32]) -> tuple[ShardMarker, EncoderSettings]:
    file = folder / "vectors.npy"
    np.save(file, vectors.astype(np.float16))
    uri = file.as_uri()
    ready = VectorRange(uri, "npy", 0, _ROWS, ready_files.stat(uri)[1])
    counts: dict[str, Any] = {"items": _ROWS, "rejected": 0, "rows": _ROWS, "images": _ROWS, "texts": 0, "keywords": 0}
    marker = ShardMarker(0, 0, "", **counts, embeddings=None, rejects=None, seconds=0.0, ready=ready)
    return marker, EncoderSettings("none", "", _DIM, ("image",))


def _check(shard: ShardMarker) -> None:
    assert shard.ready is not None
    for piece in ready_vectors.pieces(shard.ready, _DIM):
        ready_vectors.soundness(piece, normalize=True)


def _read(shard: ShardMarker, encoder: EncoderSettings, share: float) -> None:
    def choose(ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        return in_sample(ids, 0, share)

    for _ in read_batches(Store("memory://calibration"), shard, encoder, choose if share < 1 else None):
        pass


def _parquet(
    store: Store, vectors: NDArray[np.float32], encoder: EncoderSettings
) -> tuple[float, Callable[[], object]]:
    """Reads a shard of ours, of values that are rounded to float16 as they are by default."""
    rounded = vectors.astype(np.float16).astype(np.float32)
    file = files.write_embeddings(store, 1, pa.table({name: [""] * _ROWS for name in files.CORE_COLUMNS}), rounded)
    counts: dict[str, Any] = {"items": _ROWS, "rejected": 0, "rows": _ROWS, "images": _ROWS, "texts": 0, "keywords": 0}
    marker = ShardMarker(1, 0, "", **counts, embeddings=file, rejects=None, seconds=0.0, ready=None)

    def read() -> None:
        for _ in read_batches(store, marker, encoder):
            pass

    return OWN_SHARD_BYTES * vectors.size, read


def _link(nodes: NDArray[np.float32]) -> None:
    """As `transforms.index.training.assemble` fills an HNSW quantizer."""
    graph = faiss.IndexHNSWFlat(_INNER, _LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = figures.GRAPH_EFFORT
    with threadpool_limits(1):
        graph.add(nodes)


def _encoding(vectors: NDArray[np.float32], training: NDArray[np.float32]) -> Callable[[], object]:
    quantizer = faiss.ProductQuantizer(_INNER, _SUBSPACES, 8)
    quantizer.cp.niter, quantizer.cp.min_points_per_centroid = 1, 1
    quantizer.train(training)
    quantizer.sync_transposed_centroids()  # as `transforms.index.open_trained` does
    return lambda: quantizer.compute_codes(vectors)


def _write_lists(file: Path, first_id: int) -> None:
    random = np.random.default_rng(0)
    with file.open("wb") as out:
        write_lists(
            out,
            list_nos=random.integers(0, _FLAT_LISTS, _ENTRIES),
            codes=np.zeros((_ENTRIES, _SUBSPACES), np.uint8),
            ids=np.arange(first_id, first_id + _ENTRIES),
            nlist=_FLAT_LISTS,
            fingerprint="",
        )
        _flush(out)


def _taking(folder: Path, vectors: NDArray[np.float32], threads: int) -> Callable[[], object]:
    file = folder / "routed.ivf"
    cells, ids = np.arange(len(vectors)) % _CELLS, np.arange(len(vectors))
    with file.open("wb") as out:
        codes = to_codes(vectors, half=True)
        seal = write_lists(out, list_nos=cells, codes=codes, ids=ids, nlist=_CELLS, fingerprint="")
    store, reference = Store.at(str(folder)), FileReference(file.name, seal.bytes, f"xxh3:{seal.checksum}")
    return lambda: read_cells(store, [reference], range(_CELLS), vectors.shape[1], threads)


def _merging(folder: Path) -> Callable[[], object]:
    for number in range(_INPUTS):
        _write_lists(folder / f"{number}.ivf", number * _ENTRIES)

    def merge() -> None:
        streams = [(folder / f"{number}.ivf").open("rb") for number in range(_INPUTS)]
        inputs = [ListFile(stream, stream.name) for stream in streams]
        with (folder / "merged").open("wb") as out:
            merge_range(inputs, range(_FLAT_LISTS), out)
            _flush(out)
        for stream in streams:
            stream.close()

    return merge


def _write(file: Path, data: bytes) -> None:
    with file.open("wb") as out:
        out.write(data)
        _flush(out)


def _read_from_disk(file: Path) -> None:
    """Reads a file that is not in the page cache."""
    with file.open("rb", buffering=0) as stream:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while stream.read(1 << 20):
            pass


def _flush(out: Any) -> None:
    out.flush()
    os.fsync(out.fileno())


def _small_files(store: Store) -> Iterator[Measured]:
    started = time.perf_counter()
    for number in range(_FILES):
        store.commit(f"markers/{number}.json", StageMarker("plan", number, 0.0))
    committed = time.perf_counter()
    for number in range(_FILES):
        store.read_record(f"markers/{number}.json", StageMarker)
    yield Measured("marker_seconds", (committed - started) / _FILES)
    yield Measured("file_seconds", (time.perf_counter() - committed) / _FILES)

"""Raw faiss on vectors in memory, as a process of its own: what our training and adding are measured against.

    python -m tests.benchmarks.faiss_peer train --vectors DIR --index-key KEY --index FILE [--tuned] [--limit SECONDS]
    python -m tests.benchmarks.faiss_peer add --vectors DIR --trained FILE --index FILE [--hnsw-agreement 0.99]

Started by train_against_faiss.py and add_against_faiss.py. Vectors are float32 in memory before the clock starts. The
last line on stdout is one JSON object with the seconds. A training that takes longer than --limit is stopped there, and
leaves no index.
"""

import argparse
import json
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.instruments.measuring import say
from tests.benchmarks.instruments.recall import transformed
from tests.benchmarks.instruments.vector_folder import VectorFolder

METRICS = {"ip": faiss.METRIC_INNER_PRODUCT, "l2": faiss.METRIC_L2}
CODEBOOK_ROWS = 65_536
"""The most that faiss samples for OPQ and for codebooks, whatever it is given."""

SAMPLE = 20_000
"""Vectors whose lists are compared with exact assignment."""

_GRAPH_LINKS, _GRAPH_BUILD_DEPTH = 32, 200
_GRAPH_DEPTHS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024)


@dataclass(frozen=True)
class Graph:
    """A graph over the centroids: how deep it is searched, and how often that finds the nearest centroid."""

    depth: int
    agreement: float


def train(folder: VectorFolder, key: str, *, tuned: bool, limit: float | None) -> tuple[Any, dict[str, Any]]:
    """Trains with faiss's own settings on what faiss samples: 256 vectors a list.

    Tuned: no polysemous codes, OPQ of 10 iterations instead of 50, 50 vectors a list; the clustering is the same. After
    `limit` seconds the process says so, and ends.
    """
    index = faiss.index_factory(folder.dim, key, METRICS[folder.metric])
    inner: Any = faiss.downcast_index(faiss.extract_index_ivf(index))
    if tuned:
        inner.cp.max_points_per_centroid = 50
        if hasattr(inner, "do_polysemous_training"):
            inner.do_polysemous_training = False
        for transform in _transforms(index):
            if isinstance(transform, faiss.OPQMatrix):
                transform.niter = 10
    rows = min(folder.rows, max(inner.cp.max_points_per_centroid * inner.nlist, CODEBOOK_ROWS))
    chosen = np.sort(np.random.default_rng(0).choice(folder.rows, rows, replace=False))
    sample = folder.load(chosen)
    say(f"faiss trains on {rows:,} vectors")
    started = time.monotonic()
    if limit is None:
        index.train(sample)
    else:
        stopped = threading.Timer(limit, _stop, [{"train": limit, "trained_on": rows, "stopped": True}])
        stopped.start()  # faiss lets other threads of Python go on while it trains
        index.train(sample)
        stopped.cancel()
    return index, {"train": time.monotonic() - started, "trained_on": rows}


def _stop(found: dict[str, Any]) -> None:
    print(json.dumps(found), flush=True)
    os._exit(0)


def add(index: Any, vectors: NDArray[np.float32]) -> float:
    """Adds all vectors at once; returns the seconds."""
    say(f"faiss adds {len(vectors):,} vectors")
    started = time.monotonic()
    index.add(vectors)
    return time.monotonic() - started


def with_graph(index: Any, sample: NDArray[np.float32], agreement: float) -> Graph:
    """Puts a graph over the same centroids in the place of the flat quantizer.

    It is searched as deep as it takes to agree with exact assignment as often as asked, of a ladder of depths.
    """
    inner: Any = faiss.downcast_index(faiss.extract_index_ivf(index))
    centroids = inner.quantizer.reconstruct_n(0, inner.nlist)
    graph = faiss.downcast_index(inner.quantizer)
    if not isinstance(graph, faiss.IndexHNSW):
        graph = faiss.IndexHNSWFlat(inner.d, _GRAPH_LINKS, inner.metric_type)
        graph.hnsw.efConstruction = _GRAPH_BUILD_DEPTH
        graph.add(centroids)
        graph.this.disown()  # the index frees its quantizer
        inner.quantizer = graph
    exact = exact_lists(index, sample)
    found = Graph(0, 0.0)
    for depth in _GRAPH_DEPTHS:
        graph.hnsw.efSearch = depth
        _, lists = graph.search(transformed(index, sample), 1)
        found = Graph(depth, round(float((lists[:, 0] == exact).mean()), 5))
        if found.agreement >= agreement:
            break
    return found


def exact_lists(index: Any, sample: NDArray[np.float32]) -> NDArray[np.int64]:
    """Returns the list of the nearest centroid of every vector, looked for among all."""
    inner = faiss.extract_index_ivf(index)
    flat = faiss.IndexFlat(inner.d, inner.metric_type)
    flat.add(inner.quantizer.reconstruct_n(0, inner.nlist))
    _, lists = flat.search(transformed(index, sample), 1)
    return np.asarray(lists[:, 0], np.int64)


def sample_positions(rows: int) -> NDArray[np.int64]:
    """Returns the positions of the vectors whose lists are compared, ascending."""
    return np.sort(np.random.default_rng(1).choice(rows, min(rows, SAMPLE), replace=False))


def _transforms(index: Any) -> list[Any]:
    if not isinstance(index, faiss.IndexPreTransform):
        return []
    return [faiss.downcast_VectorTransform(index.chain.at(number)) for number in range(index.chain.size())]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("train", "add"))
    parser.add_argument("--vectors", type=Path, required=True)
    parser.add_argument("--metric-type", choices=("ip", "l2"), default="ip")
    parser.add_argument("--index-key")
    parser.add_argument("--tuned", action="store_true")
    parser.add_argument("--limit", type=float)
    parser.add_argument("--trained", type=Path)
    parser.add_argument("--hnsw-agreement", type=float)
    parser.add_argument("--index", type=Path, required=True, help="where the filled index is written")
    own = parser.parse_args(argv)
    folder = VectorFolder(own.vectors, own.metric_type)
    if own.task == "train":
        index, found = train(folder, own.index_key, tuned=own.tuned, limit=own.limit)
    else:
        index, found = faiss.read_index(str(own.trained)), {}
    vectors = folder.load()
    if own.hnsw_agreement is not None:
        graph = with_graph(index, vectors[sample_positions(folder.rows)], own.hnsw_agreement)
        found |= {"hnsw_depth": graph.depth, "agreement": graph.agreement}
    found["add"] = add(index, vectors)
    faiss.write_index(index, str(own.index))
    print(json.dumps(found))


if __name__ == "__main__":
    main()

"""Which codes are worth their bytes? Every family at several budgets, on one set of vectors.

    python -m tests.benchmarks.search.codes --data FOLDER [--metric-type ip|l2] [--budgets 8,16,32,64,128]
        [--lists 256] [--rows N] [--families PQ,SQ4,…] --output FILE.json

FOLDER has `base.npy` (or `base-*.npy`) and `query.npy`; `--drawn 512` takes 100,000 clustered vectors of so many
components instead. Each key is trained and filled here as the stages do it, on one thread, and searched with all
lists, so that recall is that of the codes: recall@10 by codes alone, and with the 100 nearest by codes ranked by their
vectors (*refined*), at last in 32 lists. *train* and *add* are CPU microseconds a vector of the whole set. *scan* is
CPU milliseconds of a query that probes 32 lists, the index in memory; *fast* the same as FastScan (`pixdex search
--fast-scan`), of keys that have it. A key with a star is on the front: no other of at most its bytes is as cheap to
build and to scan, and finds as much. About a minute a budget for 50,000 vectors of 1,280 components.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tests.benchmarks import clustered_vectors
from tests.benchmarks.instruments import measuring, report
from tests.benchmarks.instruments.measuring import say
from tests.benchmarks.instruments.vector_folder import VectorFolder, unit
from tests.transforms.index import small_training
from transforms.errors import UsageError
from transforms.index.encode import encode_batches
from transforms.index.index_key import IndexKey, code_size
from transforms.index.open_trained import open_trained
from transforms.index.scan import search_lists
from transforms.records import Metric
from transforms.shards.vectors import BATCH_ROWS, VectorBatch
from transforms.storage.store import Store

TOP, SHORTLIST, PROBED, DRAWN_ROWS = 10, 100, 32, 100_000
WHOLE = (("whole", "IVF,SQ8"), ("fp16", "IVF,SQfp16"), ("Flat", "IVF,Flat"))
"""Keys that keep all components."""

_SIGN_BYTES, _MORE_BITS_BYTES = 8, 20
"""What RaBitQ stores beside its bits: of one a component, and of more."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Found:
    """What a key gives; see above."""

    family: str
    key: str
    bytes: int
    train_us: float
    add_us: float
    scan_ms: float
    fast_ms: float | None
    recall: float
    refined: float
    probed: float

    @property
    def build_us(self) -> float:
        return self.train_us + self.add_us


def keys_of(budget: int, dim: int) -> Iterator[tuple[str, str]]:
    """Yields families, and their keys with codes of at most so many bytes, without their lists."""
    for name, parts, suffix in (("PQ", budget, ""), ("PQx4", 2 * budget, "x4")):
        if parts <= dim:
            kept = min(4 * parts, dim // parts * parts)
            yield name, f"OPQ{parts}_{kept},IVF,PQ{parts}{suffix}"
    for bits in (4, 6, 8):
        kept = min(8 * budget // bits, dim)
        yield f"SQ{bits}", f"PCA{kept},IVF,SQ{bits}"
        yield f"R+SQ{bits}", f"PCAR{kept},IVF,SQ{bits}"
    if budget > _SIGN_BYTES:
        yield "RaBitQ", f"PCAR{min(8 * (budget - _SIGN_BYTES), dim)},IVF,RaBitQ"
    for bits in (2, 3, 4):
        kept = min(8 * (budget - _MORE_BITS_BYTES) // bits // 8 * 8, dim)
        if kept > 0:
            yield f"RaBitQ{bits}", f"PCAR{kept},IVF,RaBitQ{bits}"


def measured(family: str, key: str, metric: Metric, rows: Vectors, queries: Vectors, exact: NDArray[np.int64]) -> Found:
    """Trains, fills and searches an index of a key."""
    started = time.process_time()
    store = Store.at(f"memory://{metric}-{len(rows)}-{key}")
    reference = small_training.train(store, key, metric, rows, held_out=1000).trained
    trained = time.process_time()
    opened = open_trained(store, reference)
    index: Any = opened.index
    batches = [
        VectorBatch(np.arange(first, min(first + BATCH_ROWS, len(rows))), rows[first : first + BATCH_ROWS])
        for first in range(0, len(rows), BATCH_ROWS)
    ]
    encoded = [encode_batches(index, [batch], opened.assign) for batch in batches]
    added = time.process_time()
    inner: Any = faiss.downcast_index(faiss.extract_index_ivf(index))
    for part in encoded:
        _fill(inner, part.list_nos.astype(np.int64), part.ids, part.codes)
    index.ntotal = inner.ntotal = len(rows)
    _, ids = search_lists(index, queries, SHORTLIST, inner.nlist)
    fast = None
    if family in ("PQx4", "RaBitQ"):
        quick = faiss.IndexIVFPQFastScan(inner) if family == "PQx4" else faiss.IndexIVFRaBitQFastScan(inner)
        fast = _milliseconds(_behind(index, quick), queries)
    return Found(
        family,
        key,
        code_size(IndexKey.parse(key), rows.shape[1]),
        round(1e6 * (trained - started) / len(rows), 2),
        round(1e6 * (added - trained) / len(rows), 2),
        _milliseconds(index, queries),
        fast,
        share(ids[:, :TOP], exact),
        share(_ranked(ids, rows, queries, metric), exact),
        share(_ranked(search_lists(index, queries, SHORTLIST, PROBED)[1], rows, queries, metric), exact),
    )


def _fill(inner: Any, lists: NDArray[np.int64], ids: NDArray[np.int64], codes: NDArray[np.uint8]) -> None:
    order = np.argsort(lists, kind="stable")
    lists, ids, codes = lists[order], np.ascontiguousarray(ids[order]), np.ascontiguousarray(codes[order])
    edges = np.flatnonzero(np.diff(lists, prepend=-1, append=-1))
    for first, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        some, coded = ids[first:stop], codes[first:stop]
        inner.invlists.add_entries(int(lists[first]), stop - first, faiss.swig_ptr(some), faiss.swig_ptr(coded))


def _behind(index: Any, quick: Any) -> Any:
    if not isinstance(index, faiss.IndexPreTransform):
        return quick
    whole = faiss.IndexPreTransform(quick)
    for number in reversed(range(index.chain.size())):
        whole.prepend_transform(index.chain.at(number))
    return whole


def _milliseconds(index: Any, queries: Vectors) -> float:
    """Of one query at a time, the median of three rounds."""
    faiss.extract_index_ivf(index).nprobe = PROBED
    rounds = []
    for _ in range(3):
        started = time.process_time()
        for query in queries[:100]:
            index.search(query[None], SHORTLIST)
        rounds.append(10 * (time.process_time() - started))
    return round(sorted(rounds)[1], 4)


def _ranked(ids: NDArray[np.int64], rows: Vectors, queries: Vectors, metric: Metric) -> NDArray[np.int64]:
    best = np.empty((len(ids), TOP), np.int64)
    for place, (some, query) in enumerate(zip(ids, queries, strict=True)):
        known = some[some >= 0]
        scores = -rows[known] @ query if metric == "ip" else ((rows[known] - query) ** 2).sum(axis=1)
        best[place] = known[np.argsort(scores, kind="stable")[:TOP]]
    return best


def share(ids: NDArray[np.int64], wanted: NDArray[np.int64]) -> float:
    """How much of what is wanted is there."""
    return round(float(np.mean([len(set(one) & set(other)) / TOP for one, other in zip(ids, wanted, strict=True)])), 4)


def exact_of(rows: Vectors, queries: Vectors, metric: Metric) -> NDArray[np.int64]:
    """The ten nearest, int64 `(q, 10)`."""
    scores = queries @ rows.T
    if metric == "l2":
        scores = 2 * scores - np.einsum("ij,ij->i", rows, rows)
    return np.asarray(np.argsort(-scores, axis=1, kind="stable")[:, :TOP])


def front(found: Sequence[Found]) -> set[str]:
    """The keys that no other one is better than: of at most their bytes, no dearer anywhere, and finding more."""

    def beats(one: Found, other: Found) -> bool:
        cheaper = one.bytes <= other.bytes and one.build_us <= other.build_us and one.scan_ms <= other.scan_ms
        return cheaper and one.recall >= other.recall and one.refined >= other.refined and one.key != other.key

    return {one.key for one in found if not any(beats(other, one) for other in found)}


def vectors_of(own: argparse.Namespace) -> tuple[Vectors, Vectors]:
    """Rows and queries, float32."""
    if own.drawn:
        count = own.rows or DRAWN_ROWS
        parts = [
            np.concatenate(list(clustered_vectors.batches(rows, own.drawn, 0, draw=draw))).astype(np.float32)
            for rows, draw in ((count, 0), (500, 1))
        ]
        return unit(parts[0]), unit(parts[1])
    folder = VectorFolder(own.data, own.metric_type)
    return folder.load()[: own.rows], folder.queries()[:500]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--drawn", type=int)
    parser.add_argument("--metric-type", choices=("ip", "l2"), default="ip")
    parser.add_argument("--budgets", default="8,16,32,64,128")
    parser.add_argument("--families", help="only these")
    parser.add_argument("--lists", type=int, default=256)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--output", type=Path)
    own = parser.parse_args(argv)
    faiss.omp_set_num_threads(1)
    found: list[Found] = []
    with threadpool_limits(1):
        rows, queries = vectors_of(own)
        exact = exact_of(rows, queries, own.metric_type)
        dim = rows.shape[1]
        wanted = [pair for budget in map(int, own.budgets.split(",")) for pair in keys_of(budget, dim)]
        for family, open_key in [*wanted, *WHOLE]:
            if own.families and family not in own.families.split(","):
                continue
            key = str(IndexKey.parse(open_key).with_lists(own.lists))
            if any(one.key == key for one in found):
                continue
            try:
                code_size(IndexKey.parse(key), dim)
            except UsageError as error:
                say(str(error))
                continue
            found.append(measured(family, key, own.metric_type, rows, queries, exact))
            say(json.dumps(asdict(found[-1])))
    report.write(own.output, {"machine": measuring.machine(), "rows": rows.shape, "keys": list(map(asdict, found))})
    best = front(found)
    headings = ["", "key", "bytes", "train, µs", "add, µs", "scan, ms", "fast, ms", "recall@10", "refined", "32 lists"]
    cells = [
        ["*" if one.key in best else "", *list(asdict(one).values())[1:]]
        for one in sorted(found, key=lambda one: (one.bytes, -one.recall))
    ]
    print(report.table(headings, [["—" if cell is None else cell for cell in row] for row in cells]))


if __name__ == "__main__":
    main()

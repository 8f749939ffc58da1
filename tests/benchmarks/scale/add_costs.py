"""What adding costs a core, part by part, in CPU seconds: so it can be measured where others work.

    python -m tests.benchmarks.scale.add_costs --vectors DIR --root ROOT [--rounds 3] [--output FILE.json]

ROOT is a root that was built or trained on these vectors. One thread adds 16,384 of them a round: it makes float32 of
them, then come transforms, nearest lists, codes; then faiss adds 4,096 to the same trained index from memory, by one
thread too; then numpy makes the products that stand in the way of both (see instruments/products.py). The best of the
rounds counts.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import faiss
import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.instruments import products, report
from tests.benchmarks.instruments.own_builds import trained_index
from transforms.index import encode
from transforms.index.open_trained import open_trained
from transforms.index.threads import limited
from transforms.index.vector_transforms import behind_transforms
from transforms.runs import beginning
from transforms.runs.run import Run
from transforms.shards.ready_vectors import as_indexed
from transforms.shards.vectors import BATCH_ROWS
from transforms.storage.store import Store

_ROWS, _PEER_ROWS = 4 * BATCH_ROWS, BATCH_ROWS
_PARTS: Final = ("read", "transforms", "nearest lists", "codes")

T = TypeVar("T")


class _Costs:
    """Microseconds of this thread for each vector, by part; the least of all rounds."""

    def __init__(self) -> None:
        self.least: dict[str, float] = defaultdict(lambda: float("inf"))

    def of(self, part: str, rows: int, call: Callable[..., T], *given: object) -> T:
        started = time.thread_time()
        made = call(*given)
        self.least[part] = min(self.least[part], (time.thread_time() - started) / rows * 1e6)
        return made


def measure(vectors: Path, root: Path, rounds: int) -> dict[str, Any]:
    store = Store.at(str(root))
    opened = open_trained(store, Run(store, max(beginning.runs(store))).trained().trained)
    inner: Any = faiss.downcast_index(faiss.extract_index_ivf(opened.index))
    stored = np.load(min(vectors.glob("base*.npy")), mmap_mode="r")
    costs = _Costs()

    def read(some: list[NDArray[Any]]) -> list[NDArray[np.float32]]:
        return [as_indexed(each, normalize=True) for each in some]

    def move(batches: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.concatenate([behind_transforms(opened.index, each) for each in batches])

    def code(moved: NDArray[np.float32], lists: NDArray[np.int64]) -> None:
        for at in range(0, _ROWS, BATCH_ROWS):
            rows = slice(at, at + BATCH_ROWS)
            encode._codes(inner, moved[rows], lists[rows], BATCH_ROWS)

    with limited(1):
        for number in range(rounds):
            some = [np.array(stored[at : at + BATCH_ROWS]) for at in _starts(number, len(stored))]
            batches = costs.of("read", _ROWS, read, some)
            moved = costs.of("transforms", _ROWS, move, batches)
            if number == 0:
                opened.assign(moved)  # chooses its sketch
            lists = costs.of("nearest lists", _ROWS, opened.assign, moved)
            costs.of("codes", _ROWS, code, moved, lists)
            peer = faiss.read_index(str(trained_index(root)[0]))
            costs.of("faiss", _PEER_ROWS, peer.add, batches[0])
        of_each = {each.what: each.seconds(1) * 1e6 for each in products.of_adding(opened.index, 1, time.thread_time)}
    pixdex = sum(costs.least[part] for part in _PARTS)
    return {
        "shape": [int(stored.shape[1]), int(inner.d), int(inner.nlist)],
        "microseconds": {what: round(least, 2) for what, least in costs.least.items()},
        "pixdex": round(pixdex, 2),
        "vectors_a_second_and_core": round(1e6 / pixdex),
        "faiss_vectors_a_second_and_core": round(1e6 / costs.least["faiss"]),
        "times_faster": report.ratio(costs.least["faiss"], pixdex),
        "products": {what: round(cost, 2) for what, cost in of_each.items()},
        "share_of_products": report.ratio(sum(of_each.values()), pixdex),
    }


def _starts(number: int, rows: int) -> range:
    first = number * _ROWS % (rows - _ROWS + 1)
    return range(first, first + _ROWS, BATCH_ROWS)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=Path, required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    own = parser.parse_args(argv)
    found = measure(own.vectors, own.root, own.rounds)
    report.write(own.output, found)
    dim, inner, nlist = found["shape"]
    print(f"{dim} components, {inner} behind the transforms, {nlist:,} lists: CPU µs a vector")
    print(report.table(["part", "µs"], [[what, cost] for what, cost in found["microseconds"].items()]))
    print(
        f"pixdex {found['pixdex']} µs, {found['vectors_a_second_and_core']:,} vectors a second and core; faiss "
        f"{found['faiss_vectors_a_second_and_core']:,}: {found['times_faster']:.2f} times as fast"
    )
    print(report.table(["product, in float32", "µs"], [[what, cost] for what, cost in found["products"].items()]))
    print(f"products alone are {found['share_of_products']:.2f} of what pixdex takes")


if __name__ == "__main__":
    main()

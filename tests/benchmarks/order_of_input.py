"""Recall must not depend on the order of the input: shuffled, sorted and clustered files of the very same vectors.

    python -m tests.benchmarks.order_of_input [--rows 1000000] [--dim 512] [--index-key OPQ64_256,IVF4096,PQ64x8] \\
        [--cache DIR] --output FILE.json

Vectors of the synthetic distribution come cluster by cluster; the same vectors are written sorted by their first
component, and shuffled, twice. Each order is built by a whole `pixdex build` and searched with 4,000 queries. Another
order gives the vectors other ids, hence another random sample to train on: the difference between the two shuffled
builds says how much that alone makes.
"""

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks import clustered_vectors
from tests.benchmarks.instruments import measuring, own_builds, recall, report
from tests.benchmarks.instruments.measuring import say
from tests.benchmarks.instruments.recall import Curve
from tests.benchmarks.instruments.vector_folder import ROWS_PER_FILE, VectorFolder

LIMIT_POINTS = 0.5
SHUFFLED = "shuffled"


def orders(vectors: NDArray[np.float16]) -> dict[str, NDArray[np.int64]]:
    """Returns, for each order, the position that every row has among the vectors, which come cluster by cluster."""
    rows = len(vectors)
    return {
        SHUFFLED: np.random.default_rng(1).permutation(rows),
        "shuffled again": np.random.default_rng(2).permutation(rows),
        "sorted by the first component": np.argsort(vectors[:, 0], kind="stable"),
        "clustered": np.arange(rows),
    }


def write(folder: Path, vectors: NDArray[np.float16], order: NDArray[np.int64], queries: NDArray[np.float16]) -> None:
    folder.mkdir(parents=True)
    for number, start in enumerate(range(0, len(order), ROWS_PER_FILE)):
        np.save(folder / f"base-{number:05d}.npy", vectors[order[start : start + ROWS_PER_FILE]])
    np.save(folder / "query.npy", queries)


def build(folder: VectorFolder, key: str, root: Path, order: NDArray[np.int64], exact: NDArray[np.int64]) -> Curve:
    """Builds one order and takes its recall; positions are those of the clustered vectors."""
    run = own_builds.build(folder, key, root)
    say(f"pixdex took {run.measured.seconds:.1f} s: {run.stages}")
    index, positions = own_builds.opened(root, folder)
    return recall.measure(index, folder.queries(), exact, lambda ids: _reordered(positions(ids), order))


def _reordered(positions: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where(positions < 0, -1, order[positions])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=4_000, help="more tell smaller differences (default 4000)")
    parser.add_argument("--index-key", default="OPQ64_256,IVF4096,PQ64x8")
    parser.add_argument("--cache", type=Path, default=Path("benchmark-cache"), help="for files and roots")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args(argv)
    cache = options.cache.absolute()
    cache.mkdir(parents=True, exist_ok=True)
    machine = measuring.machine()
    say(f"making {options.rows:,} vectors")
    vectors = np.concatenate(list(clustered_vectors.batches(options.rows, options.dim, 0, "clustered")))
    queries = np.concatenate(list(clustered_vectors.batches(options.queries, options.dim, 0, draw=1)))
    curves: dict[str, Curve] = {}
    exact: NDArray[np.int64] | None = None
    for name, order in orders(vectors).items():
        say(name)
        work = Path(tempfile.mkdtemp(prefix="order-", dir=cache))
        try:
            write(work / "vectors", vectors, order, queries)
            folder = VectorFolder(work / "vectors", "ip")
            if exact is None:
                say("exact search")
                exact = order[recall.exact_neighbours(folder.blocks(), folder.queries(), recall.TOP, "ip")]
            curves[name] = build(folder, options.index_key, work / "root", order, exact)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    compared = {name: report.compare(curve, curves[SHUFFLED]) for name, curve in curves.items() if name != SHUFFLED}
    found = {
        "machine": machine,
        "vectors": {"rows": options.rows, "dim": options.dim, "queries": options.queries},
        "index_key": options.index_key,
        "curves": {name: report.curve_json(curve) for name, curve in curves.items()},
        "against_shuffled": compared,
        "largest_difference": {name: largest(rows) for name, rows in compared.items()},
        "limit_points": LIMIT_POINTS,
    }
    report.write(options.output, found)
    show(found)


def largest(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Returns the difference of either measure, at equal codes scanned, that is the largest, and its standard error."""
    gaps = [row[kind]["at_equal_codes"] for row in rows for kind in ("recall_at_10", "10_recall_at_100")]
    return max((gap for gap in gaps if gap is not None), key=lambda gap: abs(float(gap["points"])))


def show(found: dict[str, Any]) -> None:
    print(f"{found['vectors']['rows']:,} x {found['vectors']['dim']}, {found['index_key']}")
    for name, rows in found["against_shuffled"].items():
        print(f"\n{name}:\n" + report.compare_table(rows, SHUFFLED))
    print()
    print(
        report.table(
            ["order", "largest difference to shuffled, points", "standard error", "of the limit"],
            [
                [name, gap["points"], gap["error"], report.ratio(abs(gap["points"]), found["limit_points"])]
                for name, gap in found["largest_difference"].items()
            ],
        )
    )


if __name__ == "__main__":
    main()

"""Adding against raw faiss: our stage, which reads files and writes lists, against `add` of an array in memory.

    python -m tests.benchmarks.add_against_faiss --vectors DIR --index-key OPQ64_256,IVF4096,PQ64x8 \\
        [--peer flat|hnsw] [--rounds 3] --output FILE.json

Both use the same trained index: ours, opened by faiss from the root. With `--peer flat` faiss compares every vector
with every centroid. With `--peer hnsw` it searches a graph (HNSW32) over the same centroids, as deep as it takes to
find the nearest centroid as often as our assignment does on 20,000 vectors; making the graph is not counted. More lists
need more vectors, else the key is reduced: 65,536 want 2.6 million (clustered_vectors.py --rows 4000000 --dim 128).

Beside both stands the limit of products: seconds that rotation, products with all centroids and codebooks would take at
the rate that numpy reaches at these shapes in the same run. Who looks at fewer centroids, or fewer components, may be
below it.
"""

import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from tests.benchmarks import faiss_peer
from tests.benchmarks.instruments import measuring, own_builds, products, recall, report, vector_folder
from tests.benchmarks.instruments.arguments import parser_of
from tests.benchmarks.instruments.measuring import Measured, say
from tests.benchmarks.instruments.own_builds import OwnRun
from tests.benchmarks.instruments.vector_folder import VectorFolder


def run_peer(folder: VectorFolder, own: OwnRun, work: Path, agreement: float | None) -> Measured:
    """Adds with faiss to the index that was trained for a root."""
    trained, _ = own_builds.trained_index(own.root)
    words = ["--vectors", str(folder.path), "--metric-type", folder.metric, "--trained", str(trained)]
    words += ["--index", str(work / "peer.index")]
    words += [] if agreement is None else ["--hnsw-agreement", str(agreement)]
    child = [sys.executable, "-m", "tests.benchmarks.faiss_peer", "add", *words]
    return measuring.run(child, work / "peer.log")


def agreement_of(index: Any, positions: recall.Positions, folder: VectorFolder) -> float:
    """Returns how often a vector is in the list of its nearest centroid, on a sample."""
    chosen = faiss_peer.sample_positions(folder.rows)
    exact = faiss_peer.exact_lists(index, folder.load(chosen))
    return round(float((lists_of_positions(index, positions, folder.rows)[chosen] == exact).mean()), 5)


def lists_of_positions(index: Any, positions: recall.Positions, rows: int) -> NDArray[np.int64]:
    """Returns the list that holds each vector, int64 `(rows,)`; -1 where none does."""
    inner = faiss.extract_index_ivf(index)
    lists = np.full(rows, -1, np.int64)
    for number, size in enumerate(recall.list_sizes(inner).tolist()):
        if size:
            ids = faiss.rev_swig_ptr(inner.invlists.get_ids(number), size)
            lists[positions(ids)] = number
    return lists


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--peer", choices=("flat", "hnsw"), default="flat", help="how faiss assigns (default flat)")
    options = parser.parse_args(argv)
    cache = options.cache.absolute()
    cache.mkdir(parents=True, exist_ok=True)
    machine = measuring.machine()
    folder = vector_folder.opened(options.vectors.absolute(), options.metric_type, cache)
    measuring.warm(folder.files)
    work = Path(tempfile.mkdtemp(prefix="roots-", dir=cache))
    own: list[OwnRun] = []
    theirs: list[Measured] = []
    limits: list[list[products.Product]] = []
    try:
        for number in range(options.rounds):
            say(f"round {number + 1} of {options.rounds}")
            own.append(own_builds.build(folder, options.index_key, work / "root", seed=options.seed))
            say(f"pixdex took {own[-1].stages}")
            index, positions = own_builds.opened(own[-1].root, folder)
            agreement = agreement_of(index, positions, folder)
            theirs.append(run_peer(folder, own[-1], work, agreement if options.peer == "hnsw" else None))
            say(f"faiss took {theirs[-1].last_json()}, at our agreement of {agreement:.4f}")
            limits.append(products.of_adding(index, machine["cores"]))
        exact, queries = recall.exact_of(folder, cache), folder.queries()
        filled = faiss.read_index(str(work / "peer.index"), faiss.IO_FLAG_MMAP)
        seconds = statistics.median(run.stages["add"] for run in own)
        peer_seconds = statistics.median(run.last_json()["add"] for run in theirs)
        found: dict[str, Any] = {
            "machine": machine,
            "vectors": {"rows": folder.rows, "dim": folder.dim, "metric": folder.metric},
            "index_key": own_builds.same_key(options.index_key, own[-1]),
            "pixdex": {
                "add_seconds": seconds,
                "runs_seconds": [run.stages["add"] for run in own],
                "agreement": agreement,
                "vectors_a_second": round(folder.rows / seconds),
            },
            "faiss": {
                "assigns": options.peer,
                "add_seconds": round(peer_seconds, 3),
                "runs_seconds": [round(run.last_json()["add"], 3) for run in theirs],
                "agreement": theirs[-1].last_json().get("agreement", 1.0),
                "hnsw_depth": theirs[-1].last_json().get("hnsw_depth"),
                "vectors_a_second": round(folder.rows / peer_seconds),
            },
            "products": _limit(limits, folder.rows, seconds, peer_seconds),
            "times_faster": report.ratio(peer_seconds, seconds),
            "recall": report.compare(
                recall.measure(index, queries, exact, positions), recall.measure(filled, queries, exact)
            ),
        }
    finally:
        shutil.rmtree(work, ignore_errors=True)
    report.write(options.output, found)
    show(found)


def _limit(limits: list[list[products.Product]], rows: int, seconds: float, peer_seconds: float) -> dict[str, Any]:
    """Sums up what products alone would take, and which share of either side that is: medians over the rounds."""
    least = statistics.median(sum(product.seconds(rows) for product in round_) for round_ in limits)
    return {
        "least_seconds": round(least, 3),
        "share_of_pixdex": report.ratio(least, seconds),
        "share_of_faiss": report.ratio(least, peer_seconds),
        "of_each": {
            each.what: {
                "shape": [each.inner, each.columns],
                "gflops": round(each.flops_a_second / 1e9, 1),
                "seconds": round(each.seconds(rows), 3),
            }
            for each in limits[-1]
        },
    }


def show(found: dict[str, Any]) -> None:
    print(f"{found['vectors']['rows']:,} x {found['vectors']['dim']}, {found['index_key']['pixdex']}")
    sides = [("pixdex, files to lists", found["pixdex"]), (f"faiss, {found['faiss']['assigns']}", found["faiss"])]
    print(
        report.table(
            ["adding", "seconds", "vectors/s", "agrees with exact assignment"],
            [[name, side["add_seconds"], side["vectors_a_second"], side["agreement"]] for name, side in sides],
        )
    )
    print(f"pixdex is {found['times_faster']:.2f} times as fast\n")
    limit = found["products"]
    print(
        report.table(
            ["product, in float32", "shape", "GFLOPS", "seconds"],
            [
                [what, f"{each['shape'][0]} x {each['shape'][1]}", each["gflops"], each["seconds"]]
                for what, each in limit["of_each"].items()
            ],
        )
    )
    print(
        f"products alone: {limit['least_seconds']:.1f} s, {limit['share_of_pixdex']:.2f} of what pixdex takes and "
        f"{limit['share_of_faiss']:.2f} of what faiss takes\n"
    )
    print(report.compare_table(found["recall"], "faiss"))


if __name__ == "__main__":
    main()

"""How long does `pixdex evaluate` take, exact neighbours included, and how far is that from products in memory?

    python -m tests.benchmarks.search.evaluate [--rows 1000000] [--dim 512] [--queries 1000] --output FILE.json

Builds a root of clustered vectors, and evaluates it with queries of the same distribution that are not in it: exact
neighbours, and searches of all queries at a dozen settings, with and without a shortlist. Beside it `faiss.knn` finds
the same 100 neighbours of the same vectors in memory: no file is read, and nothing but products counts. They take
turns; medians. Some minutes on two cores.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import faiss
import numpy as np

from tests.benchmarks import clustered_vectors
from tests.benchmarks.instruments import measuring, report
from tests.benchmarks.instruments.measuring import say

KEY = "OPQ64_256,IVF4096,PQ64"
NEAR = 100


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--index-key", default=KEY)
    parser.add_argument("--output", type=Path)
    own = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="evaluate-") as folder:
        work = Path(folder)
        say("vectors")
        clustered_vectors.write(work / "base", own.rows, own.dim)
        queries = np.load(work / "base" / "query.npy")[: own.queries].astype(np.float32)
        np.save(work / "queries.npy", queries)
        sources = ["--vectors", str(work / "base" / "base-*.npy"), "--index-key", own.index_key]
        say("build")
        pixdex = [sys.executable, "-m", "pipelines"]
        measuring.run([*pixdex, "build", "--root", str(work / "root"), *sources, "--no-progress"], work / "build.log")
        runs, products, said = [], [], {}
        for number in range(own.rounds):
            say(f"round {number + 1} of {own.rounds}")
            shutil.rmtree(work / "found", ignore_errors=True)
            words = ["--root", work / "root", "--queries", work / "queries.npy", "--work", work / "found"]
            runs.append(measuring.run([*pixdex, "evaluate", *map(str, words), "--no-progress"], work / "run.log"))
            said = json.loads(runs[-1].output.splitlines()[-1])
            vectors = np.concatenate([np.load(file) for file in sorted((work / "base").glob("base-*.npy"))])
            vectors = vectors.astype(np.float32)
            began = time.perf_counter()
            faiss.knn(queries, vectors, NEAR, faiss.METRIC_INNER_PRODUCT)
            products.append(time.perf_counter() - began)
            del vectors
    result = {
        "machine": measuring.machine(),
        **report.cost(runs),
        "knn_in_memory_seconds": round(statistics.median(products), 3),
        "of_the_last": said["seconds"],
        "curve": said["curve"],
    }
    result["neighbours_ratio"] = report.ratio(said["seconds"]["neighbours"], result["knn_in_memory_seconds"])
    report.write(own.output, result)
    headings = ["nprobe", "shortlist", "codes", "recall", "ci95", "p50 ms", "p99 ms"]
    cells = [
        [one[name] for name in ("nprobe", "shortlist", "codes", "recall", "ci95", "p50_ms", "p99_ms")]
        for one in said["curve"]
    ]
    print(report.table(headings, cells))
    print({name: value for name, value in result.items() if name != "curve"})


if __name__ == "__main__":
    main()

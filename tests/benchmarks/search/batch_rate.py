"""How many queries a second does `pixdex batch-search` answer, beside one call of faiss with the index in memory?

    python -m tests.benchmarks.search.batch_rate [--rows 1000000] [--dim 512] [--queries 100000] [--rounds 2]
        [--root ROOT] --output FILE.json

Builds a root of clustered vectors (or takes `--root`, of such vectors), and asks it for the ten nearest of many more,
at the nprobe of the root: faiss by `index.search` of all of them at once, after the index was read into memory, which
does not count; pixdex by its command in one process, start to finish, with planning, metadata and the file of results.
They take turns; medians. With a shortlist, too, which faiss does not have. Several minutes on two cores.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tests.benchmarks import clustered_vectors
from tests.benchmarks.instruments import measuring, report
from tests.benchmarks.instruments.measuring import say
from tests.benchmarks.search.search_speed import KEY, pixdex
from transforms.generations.published import open_generation
from transforms.storage.store import Store

K = 10


def in_memory(root: Path, nprobe: int) -> Any:  # faiss is untyped
    """The merged index, read."""
    index = faiss.read_index(str(max((root / "index").iterdir()) / "index.faiss"))
    faiss.extract_index_ivf(index).nprobe = nprobe
    return index


def by_command(root: Path, queries: Path, work: Path, nprobe: int, *words: str) -> tuple[float, NDArray[np.int64]]:
    """Seconds of the command, and the ids that it found, `(q, k)`."""
    output = work / "results.parquet"
    output.unlink(missing_ok=True)
    argv = [sys.executable, "-m", "pipelines", "batch-search", "--root", root, "--queries", queries, "--output", output]
    began = time.perf_counter()
    measuring.run([str(word) for word in [*argv, "-k", K, "--nprobe", nprobe, "--no-progress", *words]], work / "log")
    took = time.perf_counter() - began
    return took, pq.read_table(output, columns=["id"])["id"].to_numpy().reshape(-1, K)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--output", type=Path)
    own = parser.parse_args(argv)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or the command compiles all that it imports
    with tempfile.TemporaryDirectory(prefix="batch-") as temporary:
        work = Path(temporary)
        root = own.root or work / "root"
        if own.root is None:
            say("builds")
            clustered_vectors.write(work / "base", own.rows, own.dim)
            (work / "base" / "query.npy").unlink()
            pixdex("build", root, "--vectors", work / "base", "--index-key", KEY)
        queries = np.concatenate(list(clustered_vectors.batches(own.queries, own.dim, 0, draw=9))).astype(np.float32)
        np.save(work / "queries.npy", queries)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        nprobe = open_generation(Store.at(str(root))).trained.nprobe
        took: dict[str, list[float]] = {"faiss": [], "codes": [], "shortlist_100": []}
        same = 0.0
        for number in range(own.rounds):
            say(f"round {number + 1}")
            index = in_memory(root, nprobe)
            began = time.perf_counter()
            _, ids = index.search(queries, K)
            took["faiss"].append(time.perf_counter() - began)
            del index
            seconds, found = by_command(root, work / "queries.npy", work, nprobe, "--shortlist", "0")
            took["codes"].append(seconds)
            same = float(np.mean([len({*a} & {*b}) / K for a, b in zip(ids.tolist(), found.tolist(), strict=True)]))
            took["shortlist_100"].append(by_command(root, work / "queries.npy", work, nprobe)[0])
        rates = {name: round(own.queries / statistics.median(some), 1) for name, some in took.items()}
        ratios = {name: report.ratio(rate, rates["faiss"]) for name, rate in rates.items()}
        found_all: dict[str, Any] = {"machine": measuring.machine(), "queries": own.queries, "nprobe": nprobe}
        report.write(own.output, found_all | {"seconds": took, "rates": rates, "ratios": ratios, "same_ids": same})
        print(report.table(["", "queries a second", "of faiss"], [[name, rates[name], ratios[name]] for name in rates]))
        print(f"of the ids, {same:.5f} are the same")


if __name__ == "__main__":
    main()

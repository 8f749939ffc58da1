"""What does a condition cost a search, and how much does it find?

    python -m tests.benchmarks.search.filters [--rows 200000] [--queries 100] --output FILE.json

Builds a CSV of rows with a text and a price, an encoder of groups, and 16-byte codes with stored vectors. Conditions
leave from a ten-thousandth to half of the rows. The first search with one reads the column and makes a bit a row; later
ones are medians of single queries. recall@10 is the share of the exact ten nearest of the rows for which it is true, at
the default nprobe. Two minutes on two cores.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tests.benchmarks.instruments import measuring, report
from tests.benchmarks.instruments.gap_encoder import GapEncoder
from tests.benchmarks.instruments.measuring import say
from tests.benchmarks.instruments.vector_folder import unit
from transforms.generations import published, tables
from transforms.search.searcher import Searcher
from transforms.storage.store import Store

ENCODER = "tests.benchmarks.instruments.gap_encoder:GapEncoder"
TOP = 10
PRICES = 10_000
BELOW = (1, 10, 100, 1000, 5000)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--output", type=Path)
    own = parser.parse_args(argv)
    prices = np.random.default_rng(1).integers(0, PRICES, own.rows)
    found: dict[str, Any] = {"machine": measuring.machine(), "rows": own.rows, "conditions": []}
    with tempfile.TemporaryDirectory(prefix="filters-") as folder:
        work = Path(folder)
        lines = (f"item {number},{price}" for number, price in enumerate(prices.tolist()))
        (work / "rows.csv").write_text("\n".join(["text,price", *lines, ""]), encoding="utf-8")
        say("build")
        words = ["build", "--root", work / "root", "--csv", work / "rows.csv", "--text-column", "text"]
        words += ["--encoder", ENCODER, "--index-key", "IVF512,PQ16", "--no-progress"]
        measuring.run([sys.executable, "-m", "pipelines", *map(str, words)], work / "build.log")
        store = Store.at(str(work / "root"))
        ids, vectors, price = everything(store)
        queries = unit(GapEncoder().encode_texts([f"item {own.rows + number}" for number in range(own.queries)]))
        scores = queries @ vectors.T
        searcher = Searcher.open(store)
        for below in (None, *BELOW):
            say(f"price < {below}" if below else "no condition")
            where = f"price < {below}" if below else None
            began = time.perf_counter()
            searcher.search(queries[:1], TOP, where=where)
            first, took = time.perf_counter() - began, []
            recalls, results = [], []
            inside = np.flatnonzero(price < below) if below else np.arange(len(price))
            for query, row in zip(queries, scores, strict=True):
                began = time.perf_counter()
                hits = searcher.search(query[None], TOP, where=where)[0]
                took.append(time.perf_counter() - began)
                best = ids[inside[np.argsort(-row[inside], kind="stable")[:TOP]]]
                recalls.append(len({hit.id for hit in hits} & {*best.tolist()}) / min(TOP, len(inside)))
                results.append(len(hits))
            found["conditions"].append(
                {
                    "condition": where or "none",
                    "rows": len(inside),
                    "first_ms": round(1000 * first, 1),
                    "median_ms": round(1000 * statistics.median(took), 2),
                    "recall_at_10": round(float(np.mean(recalls)), 4),
                    "fewest_results": min(results),
                }
            )
    report.write(own.output, found)
    print(report.table(list(found["conditions"][0]), [list(one.values()) for one in found["conditions"]]))


def everything(store: Store) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """The ids, vectors and prices of all rows."""
    generation = published.open_generation(store)
    shards = [pq.read_table(store.local_path(row["path"])) for row in tables.shard_rows(store, generation)]
    vectors = [shard["embedding"].combine_chunks().flatten().to_numpy().reshape(len(shard), -1) for shard in shards]
    prices = [np.array(shard["price"].to_pylist(), np.int64) for shard in shards]
    return np.concatenate([shard["id"].to_numpy() for shard in shards]), np.concatenate(vectors), np.concatenate(prices)


if __name__ == "__main__":
    main()

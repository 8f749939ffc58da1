"""Does alpha query expansion find more of a class?

    python -m tests.benchmarks.search.expansion --data FOLDER [--queries 500] --output FILE.json

FOLDER has `base.npy` and `query.npy`, vectors of a picture a row, with `base_labels.npy` and `query_labels.npy`. The
base is built with exact codes and searched through all lists; a result is relevant where it has the label of the query.
MAP is of the first 1,000 results: the mean, over the relevant ones among them, of the precision at each. Some minutes
on two cores.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import pixdex
from tests.benchmarks.instruments import measuring, report
from tests.benchmarks.instruments.measuring import say
from tests.benchmarks.instruments.vector_folder import unit

DEEP = 1000
EXPANSIONS = ((0, 3.0), (5, 3.0), (10, 0.0), (10, 3.0), (10, 6.0), (30, 3.0))


def average_precision(relevant: NDArray[np.bool_]) -> float:
    """The mean of the precision at each relevant result, of one query."""
    ranks = np.flatnonzero(relevant) + 1
    return float(np.mean(np.arange(1, len(ranks) + 1) / ranks)) if len(ranks) else 0.0


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--output", type=Path)
    own = parser.parse_args(argv)
    labels = np.load(own.data / "base_labels.npy")
    asked = np.load(own.data / "query_labels.npy")[: own.queries]
    queries = unit(np.load(own.data / "query.npy")[: own.queries].astype(np.float32))
    found: dict[str, Any] = {"machine": measuring.machine(), "queries": len(queries), "runs": []}
    with tempfile.TemporaryDirectory(prefix="expansion-") as folder:
        work = Path(folder)
        np.save(work / "base.npy", unit(np.load(own.data / "base.npy").astype(np.float32)))
        words = ["build", "--root", work / "root", "--vectors", work / "base.npy", "--index-key", "IVF256,Flat"]
        measuring.run([sys.executable, "-m", "pipelines", *map(str, words), "--no-progress"], work / "build.log")
        with pixdex.open(work / "root") as root:
            for expand, alpha in EXPANSIONS:
                say(f"expand {expand}, alpha {alpha:g}")
                table = root.search_many(queries, k=DEEP, nprobe=256, expand=expand, alpha=alpha)
                query, rows = table["query"].to_numpy(), table["id"].to_numpy() & 0xFFFF
                relevant = labels[rows] == asked[query]
                each = [average_precision(relevant[query == number]) for number in range(len(queries))]
                one = {"expand": expand, "alpha": alpha, "map": round(float(np.mean(each)), 4)}
                found["runs"].append(
                    one | {"precision_at_10": round(float(relevant[table["rank"].to_numpy() <= 10].mean()), 4)}
                )
    report.write(own.output, found)
    rows_shown = [[one["expand"], one["alpha"], one["map"], one["precision_at_10"]] for one in found["runs"]]
    print(report.table(["expand", "alpha", "MAP", "precision@10"], rows_shown))


if __name__ == "__main__":
    main()

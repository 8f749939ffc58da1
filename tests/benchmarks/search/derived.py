"""Do roots that are made of a root find as much: with neighbours added to vectors, and with a tenth of the rows?

    python -m tests.benchmarks.search.derived --data FOLDER [--queries 500] [--part augment] --output FILE.json

FOLDER has `base.npy` and `query.npy`, vectors of a picture a row, with `base_labels.npy` and `query_labels.npy`. The
base is built with exact codes (IVF256,Flat), `pixdex augment` makes roots of it, as its usual search finds neighbours,
and `pixdex condense` one of a tenth of its rows. All are searched through all lists.

Augmentation: a result is relevant where it has the label of the query; MAP is of the first 1,000 results. The same
`--queries` are asked of each root, with and without alpha query expansion (10 results, alpha 3).

Condensation, of all rows together and of each label apart (--by label): each query of all gets the label that most of
its k nearest rows have. Of the full root, and of labels apart, k is 10; of the others it is chosen among 1 to 50 on one
half of the queries, and measured on the other half, both ways. A representative has the label of its row; or, beside
that, the label that most of the rows have which are nearest to it. Beside them stands a tenth of the rows drawn at
random; the last columns are the accuracy at each k. `--part` measures one of both; together they take some ten minutes
on two cores.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import pixdex
from tests.benchmarks.instruments import measuring, report
from tests.benchmarks.instruments.measuring import say
from tests.benchmarks.instruments.vector_folder import unit
from tests.benchmarks.search.expansion import DEEP, average_precision
from transforms.evaluation.labels import voted

LISTS: Final = 256
AUGMENTATIONS: Final = ((10, 3.0), (30, 3.0))
EXPANSIONS: Final = (0, 10)
VOTERS: Final = (1, 3, 5, 10, 20, 50)
OF_FULL: Final = 10


def rows_of(table: pa.Table) -> NDArray[np.int64]:
    """The row of the base that each result is: what stands at the end of its key."""
    return np.array([int(key.rpartition("#")[2]) for key in table["key"].to_pylist()], np.int64)


def mean_average_precision(
    root: pixdex.Root, queries: NDArray[np.float32], labels: NDArray[Any], asked: NDArray[Any], expand: int
) -> float:
    table = root.search_many(queries, k=DEEP, nprobe=LISTS, expand=expand)
    query, relevant = table["query"].to_numpy(), labels[rows_of(table)] == asked[table["query"].to_numpy()]
    return float(np.mean([average_precision(relevant[query == number]) for number in range(len(queries))]))


def right_of(nearest: NDArray[Any], asked: NDArray[Any]) -> dict[int, NDArray[np.bool_]]:
    """For each k which queries get their label."""
    named = nearest.astype(str).tolist()
    return {k: np.array(voted(named, k)) == asked.astype(str) for k in VOTERS}


def chosen(right: dict[int, NDArray[np.bool_]]) -> tuple[list[int], float]:
    """The k that is best on each half of the queries, and the accuracy of each on the other half, together."""
    halves = np.array_split(np.arange(len(next(iter(right.values())))), 2)
    best = [max(right, key=lambda k, half=half: right[k][half].mean()) for half in halves]  # type: ignore[misc]
    return best, float(np.concatenate([right[best[0]][halves[1]], right[best[1]][halves[0]]]).mean())


def nearest_rows(root: pixdex.Root, queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The rows of the base that are found, int64 `(q, k)`."""
    return rows_of(root.search_many(queries, k=k, nprobe=LISTS)).reshape(len(queries), -1)


def labels_of_most(root: pixdex.Root, base: NDArray[np.float32], labels: NDArray[Any]) -> NDArray[Any]:
    """For the row of each representative the label that most of the rows have to which it is the nearest."""
    nearest = np.concatenate([nearest_rows(root, some, 1)[:, 0] for some in np.array_split(base, 10)])
    counts = np.zeros((len(base), int(labels.max()) + 1), np.int64)
    np.add.at(counts, (nearest, labels), 1)
    return np.where(counts.any(axis=1), counts.argmax(axis=1), labels)


def augmentation(work: Path, data: Path, count: int) -> list[dict[str, Any]]:
    """MAP of the root and of augmented ones, with and without query expansion."""
    labels, asked = np.load(data / "base_labels.npy"), np.load(data / "query_labels.npy")[:count]
    queries = unit(np.load(data / "query.npy")[:count].astype(np.float32))
    found = []
    for neighbours, alpha in ((0, 0.0), *AUGMENTATIONS):
        root, seconds = work / "root", 0.0
        if neighbours:
            root = work / f"augmented-{neighbours}-{alpha:g}"
            how = ("--neighbours", str(neighbours), "--alpha", str(alpha))
            seconds = run(work, "augment", "--root", work / "root", "--to", root, *how)
        with pixdex.open(root) as opened:
            for expand in EXPANSIONS:
                score = mean_average_precision(opened, queries, labels, asked, expand)
                one = {"neighbours": neighbours, "alpha": alpha, "expand": expand, "map": round(score, 4)}
                found.append(one | {"seconds": round(seconds, 1)})
    return found


def condensation(work: Path, data: Path) -> list[dict[str, Any]]:
    """Accuracy of labels of the root, of one of a tenth of its rows, and of a tenth that is drawn."""
    labels, asked = np.load(data / "base_labels.npy"), np.load(data / "query_labels.npy")
    queries, base = unit(np.load(data / "query.npy").astype(np.float32)), np.load(work / "base.npy")
    rows = len(base) // 10
    words = ("--root", work / "root", "--rows", str(rows), "--to")
    took = {"condensed": run(work, "condense", *words, work / "condensed")}
    took["condensed by label"] = run(work, "condense", *words, work / "apart", "--by", "label")
    drawn = np.random.default_rng(0).choice(len(base), rows, replace=False)
    deep = max(VOTERS)
    with (
        pixdex.open(work / "root") as full,
        pixdex.open(work / "condensed") as condensed,
        pixdex.open(work / "apart") as apart,
    ):
        representatives = nearest_rows(condensed, queries, deep)
        nearest = {
            "full": labels[nearest_rows(full, queries, deep)],
            "condensed": labels[representatives],
            "condensed by label": labels[nearest_rows(apart, queries, deep)],
            "condensed, labels of most": labels_of_most(condensed, base, labels)[representatives],
            "drawn at random": labels[drawn[np.argsort(-(queries @ base[drawn].T), axis=1)[:, :deep]]],
        }
    found: list[dict[str, Any]] = []
    of_full = float(right_of(nearest["full"], asked)[OF_FULL].mean())
    for name, one in nearest.items():
        right = right_of(one, asked)
        is_usual = name in ("full", "condensed by label")
        ks, accuracy = ([OF_FULL], float(right[OF_FULL].mean())) if is_usual else chosen(right)
        row = {"rows_of": name, "rows": len(base) if name == "full" else rows, "k": "/".join(map(str, ks))}
        row |= {"accuracy": round(accuracy, 4), "of_full": round(accuracy / of_full, 4)}
        row |= {f"k={k}": round(float(each.mean()), 4) for k, each in right.items()}
        found.append(row | {"seconds": round(took.get(name, 0.0), 1)})
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--part", choices=("augment", "condense"))
    parser.add_argument("--output", type=Path)
    own = parser.parse_args(argv)
    found: dict[str, Any] = {"machine": measuring.machine(), "queries": own.queries}
    with tempfile.TemporaryDirectory(prefix="derived-") as folder:
        work = Path(folder)
        np.save(work / "base.npy", unit(np.load(own.data / "base.npy").astype(np.float32)))
        pq.write_table(pa.table({"label": np.load(own.data / "base_labels.npy")}), work / "base.parquet")
        source = ("--vectors", work / "base.npy", "--metadata", work / "base.parquet")
        run(work, "build", "--root", work / "root", *source, "--index-key", f"IVF{LISTS},Flat")
        if own.part != "condense":
            found["augment"] = augmentation(work, own.data, own.queries)
        if own.part != "augment":
            found["condense"] = condensation(work, own.data)
    report.write(own.output, found)
    for part in ("augment", "condense"):
        if part in found:
            print(report.table([*found[part][0]], [[*one.values()] for one in found[part]]))


def run(work: Path, command: str, *words: object) -> float:
    """Runs a command of pixdex; returns its seconds."""
    say(f"{command} {' '.join(str(word) for word in words[2:])}")
    began = time.monotonic()
    argv = [sys.executable, "-m", "pipelines", command, *map(str, words), "--no-progress"]
    measuring.run(argv, work / f"{command}.log")
    return time.monotonic() - began


if __name__ == "__main__":
    main()

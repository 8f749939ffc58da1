"""What do stored vectors give a search, on real picture embeddings, and what do they cost a build?

    python -m tests.benchmarks.search.refine --data FOLDER [--index-key KEY] [--rounds 3] --output FILE.json

FOLDER has `base.npy` and `query.npy`, vectors of a picture a row. They are normalised, written as parquet and as
`.npy`, and built with float16, with a byte a component and without stored vectors; the `.npy` is read where it lies.
recall@10 is the share of the exact ten nearest; *of the probed* is the share of the ten nearest in the lists that were
probed. Builds alternate. Some minutes on two cores.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.instruments import measuring, report
from tests.benchmarks.instruments.measuring import say
from tests.benchmarks.instruments.vector_folder import unit, write_parquet
from transforms.search.searcher import Searcher
from transforms.storage.store import Store

TOP = 10
SHORTLISTS = (0, 20, 50, 100, 200)
KINDS = ("f16", "sq8", "none")

Vectors = NDArray[np.float32]


def built(root: Path, vectors: Path, key: str, kind: str) -> measuring.Measured:
    """Builds a root anew; returns what it took."""
    shutil.rmtree(root, ignore_errors=True)
    words = ["build", "--root", root, "--vectors", vectors, "--index-key", key, "--refine-store", kind, "--no-progress"]
    return measuring.run([sys.executable, "-m", "pipelines", *map(str, words)], root.with_name(f"{root.name}.log"))


def found(searcher: Searcher, queries: Vectors, nprobe: int | None, shortlist: int) -> NDArray[np.int64]:
    """The ids of what is found, int64 `(q, 10)`."""
    hits = searcher.search(queries, TOP, nprobe, shortlist=shortlist)
    return np.array([[hit.id for hit in some] for some in hits])


def share(ids: NDArray[np.int64], wanted: NDArray[np.int64]) -> float:
    """How much of what is wanted is there."""
    return round(float(np.mean([len(set(one) & set(other)) / TOP for one, other in zip(ids, wanted, strict=True)])), 4)


def recalls(root: Path, queries: Vectors, exact: NDArray[np.int64]) -> list[dict[str, Any]]:
    """recall@10 at each shortlist, of all lists and of as many as are probed by default."""
    searcher = Searcher.open(Store.at(str(root)))
    rows, lists = searcher.generation.totals.vectors, searcher.generation.trained.nlist
    probed = found(searcher, queries, None, rows)
    table = []
    for shortlist in SHORTLISTS:
        every, default = (found(searcher, queries, nprobe, shortlist) for nprobe in (lists, None))
        table.append(
            {
                "shortlist": shortlist,
                "all_lists": share(every, exact),
                "default": share(default, exact),
                "of_the_probed": share(default, probed),
            }
        )
    return table


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--index-key", default="OPQ64_256,IVF256,PQ64")
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    own = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="refine-") as folder:
        work = Path(folder)
        base = unit(np.load(own.data / "base.npy").astype(np.float32))
        queries = unit(np.load(own.data / "query.npy")[: own.queries].astype(np.float32))
        np.save(work / "base.npy", base)
        write_parquet(work / "base.parquet", base)
        scores = queries @ base.T
        exact = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
        runs: dict[str, list[measuring.Measured]] = {kind: [] for kind in KINDS}
        for number in range(own.rounds):
            for kind in KINDS:
                say(f"round {number + 1} of {own.rounds}: {kind}")
                runs[kind].append(built(work / kind, work / "base.parquet", own.index_key, kind))
        built(work / "npy", work / "base.npy", own.index_key, "f16")
        result: dict[str, Any] = {"index_key": own.index_key, "machine": measuring.machine(), "recall": {}, "build": {}}
        for kind in ("f16", "sq8", "npy"):
            say(f"recall: {kind}")
            result["recall"][kind] = recalls(work / kind, queries, exact)
        for kind, some in runs.items():
            stored = sum(file.stat().st_size for file in (work / kind).glob("vectors/*/*"))
            seconds = [json.loads(run.output.splitlines()[-1])["seconds"] for run in some]
            result["build"][kind] = {
                **report.cost(some),
                "stages_seconds": round(statistics.median(sum(one.values()) for one in seconds), 3),
                "add_seconds": round(statistics.median(one["add"] for one in seconds), 3),
                "vectors_bytes": stored,
            }
    report.write(own.output, result)
    for kind, rows in result["recall"].items():
        print(f"\n{kind}: recall@10")
        print(
            report.table(["shortlist", "all lists", "default", "of the probed"], [list(row.values()) for row in rows])
        )
    print()
    headings = ["build", "seconds", "stages", "add", "bytes of vectors"]
    cells = [
        [kind, one["seconds"], one["stages_seconds"], one["add_seconds"], one["vectors_bytes"]]
        for kind, one in result["build"].items()
    ]
    print(report.table(headings, cells))


if __name__ == "__main__":
    main()

"""What does a search add to `faiss.search` of the same mapped index at the same nprobe?

    python -m tests.benchmarks.search.search_speed [--rows 1000000] [--dim 512] [--rounds 15] --output FILE.json

Builds a root of clustered vectors, then lives through four nights that each add 1 % of them and lose as much as one in
all: four deltas, and 1 % dead rows. Asked are batches of 100 queries without a shortlist, and one query after the other
with one of 100, of ready `.npy` files and of the root's own store. faiss and pixdex take turns; medians. Ready
embeddings have no metadata here, so that what is compared is the search alone. A last root has one row 800,000 times
among 1,000,000, and is asked for what is near to it: its results are those with the lowest ids. Some minutes on two
cores.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from tests.benchmarks import clustered_vectors
from tests.benchmarks.instruments import measuring, report
from tests.benchmarks.instruments.measuring import say
from tests.benchmarks.instruments.vector_folder import write_parquet
from transforms.search.searcher import Searcher
from transforms.storage.store import Store

KEY = "OPQ64_256,IVF4096,PQ64"
BATCH = 100
NIGHTS = 4
EQUAL_ROWS, EQUAL_DIM, EQUAL_SHARE = 1_000_000, 32, 0.8

Vectors = NDArray[np.float32]


def pixdex(job: str, root: Path, *words: object) -> None:
    """Runs a command to its end; what it says lies beside the root."""
    argv = [sys.executable, "-m", "pipelines", job, "--root", root, *words, "--no-progress"]
    measuring.run([str(word) for word in argv], root.with_name(f"{root.name}.log"))


def write_night(folder: Path, number: int, rows: int, dim: int) -> None:
    """Adds a file of new vectors."""
    some = np.concatenate(list(clustered_vectors.batches(rows, dim, 0, draw=2 + number)))
    np.save(folder / f"night-{number}.npy", some)


def in_turns(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each way, one after the other, round after round; the first round does not count."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, do in ways.items():
            began = time.perf_counter()
            do()
            if number:
                took[name].append(1000 * (time.perf_counter() - began))
    return {name: round(statistics.median(some), 4) for name, some in took.items()}


def raw_of(root: Path, nprobe: int) -> Any:  # faiss is untyped
    """The merged index, mapped, as faiss opens it."""
    file = max((root / "index").iterdir()) / "index.faiss"
    index = faiss.read_index(str(file), faiss.IO_FLAG_MMAP)
    faiss.extract_index_ivf(index).nprobe = nprobe
    return index


def compare(root: Path, queries: Vectors, rounds: int) -> dict[str, Any]:
    """Batches without a shortlist, and single queries with and without one."""
    searcher = Searcher.open(Store.at(str(root)))
    nprobe = searcher.generation.trained.nprobe
    raw = raw_of(root, nprobe)
    batch = queries[:BATCH]
    batches = in_turns(
        {"faiss": lambda: raw.search(batch, 10), "pixdex": lambda: searcher.search(batch, 10, nprobe, shortlist=0)},
        rounds,
    )
    ones = iter(range(10**9))

    def one() -> Vectors:
        place = next(ones) // 3 % len(queries)
        return queries[place : place + 1]

    single = in_turns(
        {
            "faiss": lambda: raw.search(one(), 10),
            "codes": lambda: searcher.search(one(), 10, nprobe, shortlist=0),
            "shortlist_100": lambda: searcher.search(one(), 10, nprobe, shortlist=100),
        },
        10 * rounds,
    )
    return {
        "nprobe": nprobe,
        "batch_ms": batches,
        "batch_ratio": report.ratio(batches["pixdex"], batches["faiss"]),
        "single_ms": single,
        "single_over_twice_raw_ms": round(single["shortlist_100"] - 2 * single["faiss"], 3),
    }


def among_equal_rows(work: Path, rounds: int) -> dict[str, Any]:
    """Single queries near a row that four fifths of a root are, of an index whose codes are exact."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((EQUAL_ROWS, EQUAL_DIM)).astype(np.float32)
    equal = rng.random(EQUAL_ROWS) < EQUAL_SHARE
    rows[equal] = rows[0]
    (work / "equal").mkdir()
    np.save(work / "equal" / "base.npy", rows)
    pixdex("build", work / "equal-root", "--vectors", work / "equal", "--index-key", "IVF1024,Flat")
    aside = rows[:1] + rng.standard_normal((1, EQUAL_DIM)) / 50
    queries = (aside / np.linalg.norm(aside)).astype(np.float32)
    searcher = Searcher.open(Store.at(str(work / "equal-root")))
    nprobe = searcher.generation.trained.nprobe
    raw = raw_of(work / "equal-root", nprobe)
    took = in_turns(
        {"faiss": lambda: raw.search(queries, 10), "pixdex": lambda: searcher.search(queries, 10, nprobe)}, rounds
    )
    return {"equal_ms": took, "ratio": report.ratio(took["pixdex"], took["faiss"])}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path)
    own = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="search-") as temporary:
        work = Path(temporary)
        root, stored, base = work / "root", work / "stored", work / "base"
        say("vectors")
        clustered_vectors.write(base, own.rows, own.dim)
        (base / "query.npy").rename(work / "query.npy")
        write_night(base, -1, own.rows // 100, own.dim)
        say("builds")
        pixdex("build", root, "--vectors", base, "--index-key", KEY)
        some = np.concatenate([np.load(file) for file in sorted(base.glob("base-*.npy"))])
        write_parquet(work / "base.parquet", some)
        pixdex("build", stored, "--vectors", work / "base.parquet", "--index-key", KEY)
        queries = np.load(work / "query.npy").astype(np.float32)
        found: dict[str, Any] = {"machine": measuring.machine(), "rows": own.rows, "dim": own.dim}
        say("searches")
        found["ready"] = compare(root, queries, own.rounds)
        found["stored"] = compare(stored, queries, own.rounds)
        say("nights")
        (base / "night--1.npy").unlink()
        for number in range(NIGHTS):
            write_night(base, number, own.rows // 100, own.dim)
            pixdex("reindex", root, "--retrain", "never", "--max-tombstones", "1")
        found["four_deltas"] = compare(root, queries, own.rounds)
        say("equal rows")
        found["equal"] = among_equal_rows(work, own.rounds)
    report.write(own.output, found)
    rows = [
        [name, one["batch_ms"]["faiss"], one["batch_ms"]["pixdex"], one["batch_ratio"], *one["single_ms"].values()]
        for name, one in found.items()
        if isinstance(one, dict) and "batch_ms" in one
    ]
    print("among 800,000 equal rows:", found["equal"])
    print(report.table(["ms", "100: faiss", "100: pixdex", "ratio", "1: faiss", "1: codes", "1: shortlist"], rows))


if __name__ == "__main__":
    main()

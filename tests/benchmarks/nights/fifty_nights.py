"""Do nights go on for ever? Fifty with one per cent of churn, beside an index that is built of the same rows anew.

    python -m tests.benchmarks.nights.fifty_nights [--rows 100000] [--nights 50] [--churn 0.01] [--drift 0]
        [--index-key OPQ16_64,IVF256,PQ16] [--work DIR] --output FILE.json

Writes a CSV of so many rows and builds an index of it. Each night so many of the rows come, half of them new and half
under the key of an old one, as many go as are new, anywhere in the CSV, and a reindex with its defaults follows. Of the
rows that come, `--drift` are in clusters that no row was in before (0: all are as those that were there at first; 1:
none is).

After some nights recall@10 of 1,000 queries, drawn as the living rows were and not among them, is measured at a fixed
number of lists (twice the default), by codes and with exact scores, of the root and of a root that is built of the same
CSV; then `gc` drops all but the last generation, and what is left is counted. CPU seconds are those of a whole night
in this process, which has done one already: start and imports are not counted, nor reports. Nights that merge come
every few ones, so that sums of ten nights are compared. About ten minutes.
"""

import argparse
import contextlib
import gc as memory
import io
import json
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines import build, gc, reindex
from tests.benchmarks.instruments import measuring, report
from tests.benchmarks.instruments.measuring import say
from tests.benchmarks.nights.drawn_encoder import text_of, vectors_of
from transforms.generations import published, tables
from transforms.search.searcher import Searcher
from transforms.storage.store import Store

CLUSTERS, QUERIES, TOP = 1_000, 1_000, 10
MEASURED = (1, 10, 25, 50)
LIMIT_POINTS, LIMIT_COST = 1.0, 1.1
COMPARED = 10
"""Nights at the beginning and at the end whose cost is compared."""


@dataclass
class Shop:
    """Rows that change: `keys`, `clusters` and `numbers` int64 `(n,)`; a number is given once."""

    keys: NDArray[np.int64]
    clusters: NDArray[np.int64]
    numbers: NDArray[np.int64]
    seed: int
    next_number: int = 0
    next_key: int = 0

    @classmethod
    def opened(cls, rows: int, seed: int = 0) -> "Shop":
        """The rows of the first day."""
        empty = np.empty(0, np.int64)
        shop = cls(empty, empty, empty, seed)
        shop._come(np.empty(0, np.int64), rows, 0, 0.0)
        return shop

    def night(self, number: int, churn: float, drift: float) -> None:
        """Changes some rows, removes some, and adds as many."""
        generator = np.random.default_rng((self.seed, number))
        some = generator.permutation(len(self.keys))[: 2 * round(churn * len(self.keys) / 2)]
        changed, gone = np.split(some, 2)
        kept = self.keys[changed]
        stay = np.setdiff1d(np.arange(len(self.keys)), some)
        self.keys, self.clusters, self.numbers = self.keys[stay], self.clusters[stay], self.numbers[stay]
        self._come(kept, len(gone), number, drift)

    def _come(self, kept: NDArray[np.int64], new: int, night: int, drift: float) -> None:
        generator, count = np.random.default_rng((self.seed, night, 1)), len(kept) + new
        clusters = (generator.pareto(1.5, count) * CLUSTERS / 20).astype(np.int64) % CLUSTERS
        clusters[generator.random(count) < drift] += CLUSTERS * night
        keys = np.concatenate([kept, np.arange(self.next_key, self.next_key + new)])
        self.keys = np.concatenate([self.keys, keys])
        self.clusters = np.concatenate([self.clusters, clusters])
        self.numbers = np.concatenate([self.numbers, np.arange(self.next_number, self.next_number + count)])
        self.next_key, self.next_number = self.next_key + new, self.next_number + count

    def write(self, file: Path) -> None:
        """Writes all rows as a CSV, in the order of their keys."""
        rows = zip(self.keys.tolist(), self.clusters.tolist(), self.numbers.tolist(), strict=True)
        lines = [f"{key},{text_of(cluster, number)}\n" for key, cluster, number in sorted(rows)]
        file.write_text("key,text\n" + "".join(lines), encoding="utf-8")

    def queries(self) -> NDArray[np.float32]:
        """Vectors drawn as the living rows were, and not among them."""
        generator = np.random.default_rng((self.seed, 7))
        clusters = generator.choice(self.clusters, QUERIES)
        return _unit(vectors_of(clusters, -1 - np.arange(QUERIES)))

    def nearest(self, queries: NDArray[np.float32]) -> list[set[str]]:
        """The keys of the ten living rows that are nearest to each query."""
        scores = queries @ _unit(vectors_of(self.clusters, self.numbers)).T
        best = np.argpartition(-scores, TOP, axis=1)[:, :TOP]
        return [set(map(str, some)) for some in self.keys[best].tolist()]


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


def job(main: Any, *words: object) -> tuple[dict[str, Any], float, float]:
    """Runs a job in this process. Returns its last line, seconds and CPU seconds."""
    out = io.StringIO()
    memory.collect()
    started, cpu = time.monotonic(), time.process_time()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()) as err:
        code = main([str(word) for word in words])
    seconds, cpu_seconds = time.monotonic() - started, time.process_time() - cpu
    if code:
        raise SystemExit(err.getvalue())
    return json.loads(out.getvalue().splitlines()[-1]), seconds, cpu_seconds


def recalls(root: Path, shop: Shop) -> dict[str, float]:
    """recall@10 by codes and with exact scores, at twice the default number of lists."""
    searcher = Searcher.open(Store.at(str(root)))
    queries, nprobe = shop.queries(), 2 * round(searcher.generation.trained.nlist**0.5)
    wanted = shop.nearest(queries)
    found: dict[str, float] = {}
    for name, shortlist in (("codes", 0), ("exact", None)):
        hits = searcher.search(queries, TOP, nprobe, shortlist=shortlist)
        got = [{hit.key.rpartition("#")[2] for hit in some} for some in hits]
        found[name] = round(100 * float(np.mean([len(a & b) / TOP for a, b in zip(got, wanted, strict=True)])), 2)
    return found


def described(root: Path) -> dict[str, Any]:
    """What the current generation has."""
    store = Store.at(str(root))
    generation = published.current(store)
    assert generation is not None
    blocks = tables.blocks_of(store, generation)
    return {
        "vectors": generation.totals.vectors,
        "tombstones": generation.totals.tombstones,
        "shards": generation.totals.shards,
        "blocks": len(blocks),
        "deltas": sum(not block.merged for block in blocks),
        "trained": generation.trained.fingerprint[:8],
    }


def kept_bytes(root: Path) -> dict[str, int]:
    """Bytes below a root by folder, after a collection that leaves the last generation only."""
    job(gc.main, "--root", root, "--keep", 1, "--older-than", "0s", "--json")
    found: dict[str, int] = {}
    for file in (path for path in root.rglob("*") if path.is_file()):
        name = file.relative_to(root).parts[0]
        found[name] = found.get(name, 0) + file.stat().st_size
    return {**found, "all": sum(found.values())}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--nights", type=int, default=50)
    parser.add_argument("--churn", type=float, default=0.01)
    parser.add_argument("--drift", type=float, default=0.0)
    parser.add_argument("--index-key", default="OPQ16_64,IVF256,PQ16")
    parser.add_argument("--work", type=Path, default=Path("benchmark-cache/nights"), help="emptied before and after")
    parser.add_argument("--output", type=Path)
    own = parser.parse_args(argv)
    work: Path = own.work.absolute()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    root, rows = work / "root", work / "rows.csv"
    source = ("--csv", rows, "--key-column", "key", "--text-column", "text", "--index-key", own.index_key)
    encoder = ("--encoder", "tests.benchmarks.nights.drawn_encoder:DrawnEncoder", "--no-progress")
    shop = Shop.opened(own.rows)
    shop.write(rows)
    job(build.main, "--root", root, *source, *encoder)
    job(reindex.main, "--root", root, *encoder)  # what is loaded once is loaded
    nights: list[dict[str, Any]] = []
    measured: list[dict[str, Any]] = []
    for number in range(1, own.nights + 1):
        shop.night(number, own.churn, own.drift)
        shop.write(rows)
        last, seconds, cpu = job(reindex.main, "--root", root, *encoder, "--no-report")
        state = described(root)
        night = {"night": number, "seconds": seconds, "cpu_seconds": cpu, **state, "retrained": last["retrained"]}
        nights.append({**night, "stages": last["seconds"]})
        say(
            f"night {number}: {seconds:.1f} s, {cpu:.1f} s of CPU, {state['deltas']} deltas, "
            f"{state['tombstones']} dead, {state['blocks']} blocks; {last['retrained'] or ''}"
        )
        if number not in (*MEASURED, own.nights):
            continue
        anew = work / "anew"
        job(build.main, "--root", anew, *source, *encoder)
        one = {"night": number, "root": recalls(root, shop), "anew": recalls(anew, shop)}
        shutil.rmtree(anew)
        measured.append({**one, "bytes": kept_bytes(root)})
        say(json.dumps(measured[-1]))
    found = {"machine": measuring.machine(), **vars(own), "nights": nights, "measured": measured, **costs(nights)}
    shutil.rmtree(work)
    report.write(own.output, {name: str(value) if isinstance(value, Path) else value for name, value in found.items()})
    show(found)


def costs(nights: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The first nights beside the last ones, all of them and those that trained nothing."""
    some = min(COMPARED, len(nights) // 2)

    def mean(part: Sequence[dict[str, Any]], what: str) -> float:
        return round(float(statistics.mean(night[what] for night in part)), 3)

    first, last = nights[:some], nights[-some:]
    return {
        what: {"first": mean(first, what), "last": mean(last, what), "ratio": mean(last, what) / mean(first, what)}
        for what in ("seconds", "cpu_seconds")
    }


def show(found: dict[str, Any]) -> None:
    """Prints the tables."""
    headings = ["night", "recall@10 by codes", "anew", "exact scores", "anew", "bytes after gc"]
    cells = [
        [
            one["night"],
            *(one[side][how] for how in ("codes", "exact") for side in ("root", "anew")),
            one["bytes"]["all"],
        ]
        for one in found["measured"]
    ]
    print(report.table(headings, cells))
    cost = [[what, *found[what].values()] for what in ("seconds", "cpu_seconds")]
    print("\n" + report.table(["a night", "first ten", "last ten", "ratio"], cost))
    worst = min(one["root"][how] - one["anew"][how] for one in found["measured"] for how in ("codes", "exact"))
    print(f"\nrecall below a fresh build: {max(0.0, -worst):.2f} points (limit {LIMIT_POINTS})")
    print(f"cost: {found['cpu_seconds']['ratio']:.2f} times that of the first nights (limit {LIMIT_COST})")


if __name__ == "__main__":
    main()

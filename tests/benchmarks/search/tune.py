"""Does `pixdex tune` keep its promise on other queries, and how few codes do queries scan that stop by themselves?

    python -m tests.benchmarks.search.tune --vectors FOLDER --index-key IVF1024,Flat [--metric ip]
    python -m tests.benchmarks.search.tune --clustered 1000000 --index-key IVF4096,Flat --resamplings 20
    python -m tests.benchmarks.search.tune --drawn 20000 --index-key IVF512,Flat --resamplings 20

FOLDER has `base.npy`, and `query.npy` where there is one of 500 and more: else rows of the base are asked, each left
out of its own results. `--clustered` makes so many vectors of 512 components, and `--gap 1` has their queries lie
aside, as the texts of an encoder lie beside its pictures: all moved by so much in one direction, and by .7 in one of
their own. `--drawn` draws so many pictures and asks the captions of others for them, in the space of the demo encoder.
Codes are exact, so that what is lost is lost by lists that are not probed.

First, of the same queries, on the same file: the fewest lists with which stock `faiss` reaches recall@10 .95, and the
codes in them, beside the smallest margin with which queries that stop do, and the time of one search by both; the same
for a tail, at least .9 for 95 % of the queries. Then `--resamplings` times: queries are cut at random in two halves,
settings are chosen on one and asked with the other (`kept`: so many reach the promise less .01). Some minutes on two
cores, of a million vectors half an hour.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray

from tests.benchmarks import clustered_vectors
from tests.benchmarks.instruments import measuring, report
from tests.benchmarks.instruments.measuring import say
from tests.benchmarks.instruments.vector_folder import unit
from transforms.evaluation.promise import Promise
from transforms.evaluation.recall import found_shares
from transforms.generations.tuned import Setting
from transforms.index.adaptive.spread import Spread
from transforms.index.exact import NO_ROW, ExactNeighbours
from transforms.proof import curve, tune
from transforms.proof.exact import Neighbours
from transforms.proof.request import Asked, QuerySet
from transforms.proof.spread import spread_of
from transforms.search.searcher import Searcher
from transforms.storage.store import Store

TOP: Final = 10
NEAR: Final = 100
PROMISES: Final = {"recall .95": Promise(0.95), "tail .9@95%": Promise(None, (0.9, 0.95))}
SLACK: Final = 0.01
TIMED: Final = 200
ROUNDS: Final = 5
LEAST: Final = 500
ASIDE: Final = 0.7


def neighbours(searcher: Searcher, queries: QuerySet) -> Neighbours:
    """The exact neighbours of queries."""
    exact = ExactNeighbours(queries.vectors, NEAR, searcher.generation.trained.metric, queries.own)
    ids = searcher.rows_of("image").ids()
    for start in range(0, len(ids), 4096):
        some = ids[start : start + 4096]
        exact.add(some, searcher.checked(searcher.stored.all(some)))
    return exact.ids, exact.distances


def some_of(queries: QuerySet, exact: Neighbours, places: NDArray[np.int64]) -> tuple[QuerySet, Neighbours]:
    return (
        QuerySet(queries.asked, queries.vectors[places], queries.own[places]),
        (exact[0][places], exact[1][places]),
    )


def of_faiss(index: Any, queries: QuerySet, exact: Neighbours, nprobe: int) -> tuple[NDArray[np.float64], float]:
    """Recall of each query by stock faiss, and the codes that one of them scans."""
    _, ids = index.search(queries.vectors, TOP + 1, params=faiss.SearchParametersIVF(nprobe=nprobe))
    _, lists = index.quantizer.search(queries.vectors, nprobe)
    sizes = np.array([index.invlists.list_size(number) for number in range(index.nlist)])
    own = queries.own[:, None]
    order = np.argsort((ids == own) & (own != NO_ROW), axis=1, kind="stable")[:, :TOP]
    return found_shares(np.take_along_axis(ids, order, axis=1), exact[0], TOP), float(sizes[lists].sum() / len(ids))


def fewest(count: int, keeps: Callable[[int], bool]) -> int:
    """The first of so many numbers that keeps it."""
    low, high = 0, count - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if keeps(middle) else (middle + 1, high)
    return low


def beside_faiss(
    searcher: Searcher, index: Any, sketch: Spread | None, queries: QuerySet, exact: Neighbours, promise: Promise
) -> dict[str, Any]:
    """The fewest codes with which faiss keeps a promise on queries, and those of queries that stop."""
    nlist = searcher.generation.trained.nlist
    nprobe = 1 + fewest(nlist, lambda more: promise.is_kept(of_faiss(index, queries, exact, 1 + more)[0], 0))
    shares, codes = of_faiss(index, queries, exact, nprobe)
    asked = curve.asked_of(queries, TOP)

    kind = curve.kind_of(queries)
    assert kind is not None

    def at(margin: float | None) -> Searcher:
        return tune.tuned_so(searcher, Setting(kind, "image", nprobe, 0, margin, 0, None, 0), sketch, TOP)

    def keeps(step: int) -> bool:
        return promise.is_kept(curve.shares(at(-2 + 0.02 * step), queries, exact, TOP, asked), 0)

    margin = -2 + 0.02 * fewest(600, keeps)
    fixed, trial = at(None), at(margin)
    found = curve.shares(trial, queries, exact, TOP, asked)
    times: dict[str, list[float]] = {"fixed": [], "stop": []}
    for query in [*queries.vectors[:TIMED]] * ROUNDS:  # by turns, for the machine has other things to do
        for name, one in (("fixed", fixed), ("stop", trial)):
            times[name] += curve.single_ms(one, query[None], asked).tolist()
    of_stop = trial.codes_of(queries.vectors, asked) / len(queries.vectors)
    return {
        "faiss_nprobe": nprobe,
        "faiss_recall": round(float(np.nanmean(shares)), 4),
        "faiss_codes": round(codes, 1),
        "margin": round(margin, 2),
        "recall": round(float(np.nanmean(found)), 4),
        "codes": round(of_stop, 1),
        "codes_ratio": round(of_stop / codes, 3),
        "p50_fixed_ms": round(float(np.median(times["fixed"])), 3),
        "p50_stop_ms": round(float(np.median(times["stop"])), 3),
    }


def resampled(
    searcher: Searcher, sketch: Spread | None, queries: QuerySet, exact: Neighbours, promise: Promise, times: int
) -> dict[str, Any]:
    """How often what is chosen on one half of the queries is kept by the other."""
    found, least = [], (promise.recall or 0) if promise.tail is None else promise.tail[1]
    for seed in range(times):
        order = np.random.default_rng(seed).permutation(len(queries.vectors))
        halves = [some_of(queries, exact, np.sort(order[half::2])) for half in (0, 1)]
        asked = tune.Asked(*halves[0], *halves[1])
        one = tune.choose(searcher, asked, sketch, TOP, promise, "always")
        found.append(one.recall if promise.tail is None else one.tail or 0)
    kept = sum(share >= least - SLACK for share in found)
    return {"kept": f"{kept} of {times}", "least": round(min(found), 4), "mean": round(float(np.mean(found)), 4)}


def drawn(count: int, queries: int, cache: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vectors of drawn pictures, and of captions of others."""
    from tests.benchmarks.search import null_results  # noqa: PLC0415 - opens torch
    from transforms.encoders import loading  # noqa: PLC0415 - as above

    encoder = loading.load("demo")
    _, pictures = null_results.gallery(encoder, count, cache)
    asked = null_results.true_captions(queries, np.random.default_rng(5))["captions"]
    texts = [caption.text for caption in asked]
    return unit(pictures.astype(np.float32)), unit(null_results.encode(encoder, texts))


def aside(queries: NDArray[np.float32], gap: float) -> NDArray[np.float32]:
    """Queries of another kind than what is searched."""
    rng = np.random.default_rng(9)
    directions = unit(rng.standard_normal((1 + len(queries), queries.shape[1])).astype(np.float32))
    return unit(queries + gap * directions[:1] + ASIDE * directions[1:])


def write_vectors(base: Path, own: argparse.Namespace) -> NDArray[np.float32] | None:
    """Writes the base; returns queries, or None: its rows are asked."""
    if own.clustered:
        clustered_vectors.write(base, own.clustered, 512)
        (base / "query.npy").unlink()
        asked = np.concatenate(list(clustered_vectors.batches(own.queries, 512, 0, draw=1))).astype(np.float32)
        return aside(asked, own.gap) if own.gap else asked
    if own.drawn:
        pictures, asked = drawn(own.drawn, own.queries, own.cache)
        np.save(base / "base.npy", pictures)
        return asked
    rows = np.load(own.vectors / "base.npy").astype(np.float32)
    np.save(base / "base.npy", unit(rows) if own.metric == "ip" else rows)
    if not (file := own.vectors / "query.npy").exists() or len(np.load(file, mmap_mode="r")) < LEAST:
        return None
    some: NDArray[np.float32] = np.load(file).astype(np.float32)[: own.queries]
    return some


def build_of(work: Path, own: argparse.Namespace) -> list[str]:
    how = ["--index-key", own.index_key, "--metric-type", own.metric, "--no-progress"]
    how += [] if own.metric == "ip" else ["--no-normalize"]
    base = str(work / "base" / "*.npy")
    return [sys.executable, "-m", "pipelines", "build", "--root", str(work / "root"), "--vectors", base, *how]


def queries_of(searcher: Searcher, asked: NDArray[np.float32] | None, own: argparse.Namespace) -> QuerySet:
    if asked is None:
        ids = searcher.rows_of("image").draw(own.queries, 0)
        return QuerySet(Asked("image", "image"), searcher.checked(searcher.stored.all(ids)), ids)
    name = "text" if own.drawn or own.gap else "vector"
    return QuerySet(Asked(name, "image"), searcher.checked(asked), np.full(len(asked), NO_ROW))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--clustered", type=int)
    parser.add_argument("--gap", type=float, default=0.0)
    parser.add_argument("--drawn", type=int)
    parser.add_argument("--cache", type=Path, default=Path("benchmark-cache"), help="for vectors of pictures")
    parser.add_argument("--index-key", required=True)
    parser.add_argument("--metric", choices=("ip", "l2"), default="ip")
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--resamplings", type=int, default=20)
    parser.add_argument("--output", type=Path)
    own = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="tune-") as folder:
        work = Path(folder)
        (work / "base").mkdir()
        say("vectors")
        asked = write_vectors(work / "base", own)
        say("build")
        measuring.run(build_of(work, own), work / "build.log")
        searcher = Searcher.open(Store.at(str(work / "root")))
        queries = queries_of(searcher, asked, own)
        say(f"exact neighbours of {len(queries.vectors)} queries")
        exact = neighbours(searcher, queries)
        say("spread")
        sketch = spread_of(searcher, "image", 0)
        index = faiss.read_index(str(next((work / "root" / "index").rglob("index.faiss"))))
        result: dict[str, Any] = {"machine": measuring.machine(), "queries": queries.asked.name}
        for what, promise in PROMISES.items():
            say(what)
            result[what] = beside_faiss(searcher, index, sketch, queries, exact, promise)
            print({what: result[what]}, flush=True)
            if own.resamplings:
                result[what] |= resampled(searcher, sketch, queries, exact, promise, own.resamplings)
    report.write(own.output, result)
    names = list(result["recall .95"])
    print(report.table(["promise", *names], [[what, *(result[what][one] for one in names)] for what in PROMISES]))


if __name__ == "__main__":
    main()

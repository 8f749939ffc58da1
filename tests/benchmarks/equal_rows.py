"""Many equal rows against stock faiss: do they take lists and probes from the others?

    python -m tests.benchmarks.equal_rows [--metric-type l2] [--sets 300000x8x1024 …] [--shares 0.1 0.3 0.8] \\
        [--noise 0.001] [--cache DIR] --output FILE.json

Of random vectors a share is replaced by one row, as a crawl's "no picture" tile is. Each set is built by a whole
`pixdex build`, and by faiss in memory with its own settings: the same key, the same number of lists probed. Shown are
the centroids that are equal to others, the lists that are empty, and recall@10 of 500 queries at each distance from the
row and of 500 from elsewhere: the share of results that are no farther than the exact tenth, whichever of equals they
are. `--shares 0` says what the two differ by without equal rows. With --noise the replaced rows differ by so much, as
float16 or another batch makes them. Some minutes on two cores.
"""

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.instruments import measuring, own_builds, recall, report
from tests.benchmarks.instruments.measuring import say
from tests.benchmarks.instruments.vector_folder import VectorFolder, unit

SETS = ("300000x8x1024", "50000x32x512", "100000x16x512")
SHARES = (0.1, 0.3, 0.8)
DISTANCES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
NPROBES = (1, 4, 16, 32)
QUERIES = 500
LIMIT_POINTS = 1.0
ELSEWHERE = "elsewhere"
_ROUNDING = 1e-5

Vectors = NDArray[np.float32]


def vectors_of(rows: int, dim: int, share: float, metric: str, noise: float) -> Vectors:
    """Random vectors of which a share is the first one."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((rows, dim)).astype(np.float32)
    if metric == "ip":
        vectors = unit(vectors)
    equal = np.flatnonzero(rng.random(rows) < share)
    vectors[equal] = vectors[0] + noise * rng.standard_normal((len(equal), dim)).astype(np.float32) / np.sqrt(dim)
    return unit(vectors) if metric == "ip" else vectors


def queries_of(vectors: Vectors, metric: str) -> dict[str, Vectors]:
    """Queries by their distance from the row, and some of the same distribution as the others."""
    rng = np.random.default_rng(1)
    dim = vectors.shape[1]
    asked = {ELSEWHERE: rng.standard_normal((QUERIES, dim)).astype(np.float32)}
    for distance in DISTANCES:
        aside = unit(rng.standard_normal((QUERIES, dim)).astype(np.float32))
        asked[str(distance)] = vectors[0] + np.float32(distance) * aside
    return {name: unit(some) if metric == "ip" else some for name, some in asked.items()}


def recall_of(index: Any, queries: Vectors, tenth: Vectors, nprobe: int) -> float:
    """The share of results that are no farther than the exact tenth, float32 `(q,)`."""
    faiss.extract_index_ivf(index).nprobe = nprobe
    scores, ids = index.search(queries, recall.TOP)
    sign = -1 if faiss.is_similarity_metric(index.metric_type) else 1
    near = sign * scores <= (sign * tenth + _ROUNDING * np.maximum(1, np.abs(tenth)))[:, None]
    return float((near & (ids >= 0)).mean())


def lists_of(index: Any) -> dict[str, int]:
    """Counts what is wrong with the lists."""
    inner = faiss.downcast_index(faiss.extract_index_ivf(index))
    sizes = recall.list_sizes(inner)
    centroids = inner.quantizer.reconstruct_n(0, inner.nlist)
    # A centroid within a thousandth of another is a copy of it, too.
    near = _within(centroids, 1e-3)
    return {
        "equal_centroids": inner.nlist - len(np.unique(centroids, axis=0)),
        "nearly_equal_centroids": near,
        "empty_lists": int((sizes == 0).sum()),
        "largest_list": int(sizes.max()),
        "second_largest_list": int(np.sort(sizes)[-2]),
    }


def _within(centroids: Vectors, share: float) -> int:
    """How many centroids have another within a share of their own length."""
    flat = faiss.IndexFlatL2(centroids.shape[1])
    flat.add(centroids)
    distances, _ = flat.search(centroids, 2)
    lengths = np.linalg.norm(centroids, axis=1)
    return int((np.sqrt(np.maximum(distances[:, 1], 0)) < share * lengths).sum())


def compare(name: str, share: float, metric: str, noise: float, work: Path) -> dict[str, Any]:
    """Builds one set on both sides and searches both."""
    rows, dim, nlist = map(int, name.split("x"))
    key = f"IVF{nlist},Flat"
    vectors = vectors_of(rows, dim, share, metric, noise)
    (work / "vectors").mkdir(parents=True)
    np.save(work / "vectors" / "base.npy", vectors)
    np.save(work / "vectors" / "query.npy", vectors[:1])
    folder = VectorFolder(work / "vectors", metric)
    run = own_builds.build(folder, key, work / "root")
    own_builds.same_key(key, run)
    own, _ = own_builds.opened(work / "root", folder)
    stock = faiss.index_factory(dim, key, own.metric_type)
    stock.train(vectors)
    stock.add(vectors)
    exact = faiss.index_factory(dim, "Flat", own.metric_type)
    exact.add(vectors)
    found: dict[str, Any] = {"pixdex": lists_of(own), "faiss": lists_of(stock), "recall_at_10": []}
    for distance, queries in queries_of(vectors, metric).items():
        tenth = exact.search(queries, recall.TOP)[0][:, -1]
        for nprobe in NPROBES:
            pair = [recall_of(index, queries, tenth, nprobe) for index in (own, stock)]
            found["recall_at_10"].append({"distance": distance, "nprobe": nprobe, "pixdex": pair[0], "faiss": pair[1]})
    return {"set": name, "share": share, "metric": metric, "noise": noise, **found}


def near(one: dict[str, Any]) -> list[dict[str, Any]]:
    """The recalls of queries at a distance from the row."""
    return [pair for pair in one["recall_at_10"] if pair["distance"] != ELSEWHERE]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metric-type", choices=("ip", "l2"), default="l2")
    parser.add_argument("--sets", nargs="+", default=SETS, metavar="ROWSxDIMxLISTS")
    parser.add_argument("--shares", nargs="+", type=float, default=SHARES)
    parser.add_argument("--noise", type=float, default=0.0, help="by how much the rows differ (default 0)")
    parser.add_argument("--cache", type=Path, default=Path("benchmark-cache"), help="for files and roots")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args(argv)
    cache = options.cache.absolute()
    cache.mkdir(parents=True, exist_ok=True)
    machine, compared = measuring.machine(), []
    for name in options.sets:
        for share in options.shares:
            say(f"{name}, {share:.0%} equal rows")
            work = Path(tempfile.mkdtemp(prefix="equal-", dir=cache))
            try:
                compared.append(compare(name, share, options.metric_type, options.noise, work))
            finally:
                shutil.rmtree(work, ignore_errors=True)
    found = {"machine": machine, "limit_points": LIMIT_POINTS, "compared": compared}
    report.write(options.output, found)
    show(found)


def show(found: dict[str, Any]) -> None:
    headings = [
        "rows x dim x lists",
        "equal rows",
        "equal centroids",
        "faiss",
        "empty lists",
        "faiss",
        "largest loss near the row, points",
    ]
    rows = [
        [
            one["set"],
            f"{one['share']:.0%}",
            f"{one['pixdex']['equal_centroids']} ({one['pixdex']['nearly_equal_centroids']})",
            f"{one['faiss']['equal_centroids']} ({one['faiss']['nearly_equal_centroids']})",
            one["pixdex"]["empty_lists"],
            one["faiss"]["empty_lists"],
            round(100 * max(pair["faiss"] - pair["pixdex"] for pair in near(one)), 2),
        ]
        for one in found["compared"]
    ]
    print(report.table(headings, rows))
    headings = ["rows x dim x lists", "equal rows", "distance", *(f"{n} lists" for n in NPROBES)]
    rows = []
    for one in found["compared"]:
        for distance in (*map(str, DISTANCES), ELSEWHERE):
            pairs = [pair for pair in one["recall_at_10"] if pair["distance"] == distance]
            cells = [f"{pair['pixdex']:.3f} / {pair['faiss']:.3f}" for pair in pairs]
            rows.append([one["set"], f"{one['share']:.0%}", distance, *cells])
    print("\nrecall@10, pixdex / faiss\n" + report.table(headings, rows))


if __name__ == "__main__":
    main()

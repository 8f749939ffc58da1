"""Would a shortlist take fewer reads if stored vectors lay list by list, and not in the order of ids as they do?

    python -m tests.benchmarks.search.refine_layout [--rows 1000000] [--dim 256] [--queries 10000]
        [--order clustered] [--index-key KEY] [--data FOLDER] [--root ROOT] [--rounds 3] --output FILE.json

Builds a root with float16 of clustered vectors, or of the pictures in FOLDER (`base.npy` and `query.npy`, normalised),
or takes ROOT, of such vectors. The best 100 by codes of each query are looked for at the nprobe of the root; then all
vectors are written into two files, by id and list by list, ids ascending in a list, as the merged index holds them.

Counted are the rows that one query needs, batches of 100 and of 10,000: the pages that hold them, and the ranges that
would be asked of an object store if those closer than 64 KiB or 1 MiB were one, 64 queries at a time as a search does
it. Timed is reading them through a map, one thread, nothing of the file in the page cache: page by page, as a search
does it, or with all pages of 64 queries asked for first. Layouts take turns; medians. What lies between the page cache
and the disk is not dropped. Some minutes on two cores.
"""

import argparse
import mmap
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from tests.benchmarks import clustered_vectors
from tests.benchmarks.instruments import measuring, report
from tests.benchmarks.instruments.measuring import say
from tests.benchmarks.instruments.vector_folder import unit, write_parquet
from tests.benchmarks.search.search_speed import KEY, pixdex
from transforms.search.hits import Asked
from transforms.search.searcher import Searcher
from transforms.storage.store import Store

SHORTLIST = 100
BATCHES = (1, 100, 10_000)
QUERIES_AT_ONCE = 64
HEAD_BYTES = 16
PAGES = {"pages_4k": 4 << 10, "pages_128k": 128 << 10}
GAPS = {"64k": 64 << 10, "1m": 1 << 20}

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """A file of vectors, float16, behind a head as the refine store has it.

    Attributes:
        file: where it is.
        dim: components of a vector.
        places: which row of the file a vector is, int64 `(n,)`, by the rank of its id.
    """

    file: Path
    dim: int
    places: Numbers

    def ranges(self, ranks: Numbers, gap: int, unit_bytes: int = 1) -> tuple[Numbers, Numbers]:
        """Where to read rows: starts and stops, in whole units, those closer than `gap` bytes in one."""
        offsets = HEAD_BYTES + np.sort(self.places[ranks]) * 2 * self.dim
        starts, stops = offsets // unit_bytes * unit_bytes, -(-(offsets + 2 * self.dim) // unit_bytes) * unit_bytes
        are_apart = starts[1:] - stops[:-1] >= gap
        return starts[np.append(True, are_apart)], stops[np.append(are_apart, True)]

    def counts(self, parts: Sequence[Numbers]) -> dict[str, int]:
        """Distinct rows and pages of all parts, and requests and their bytes, part by part."""
        every = np.unique(np.concatenate(parts))
        found = {"rows": len(every)}
        for name, size in PAGES.items():
            found[name] = int(np.subtract(*self.ranges(every, 1, size)).sum()) // -size
        for name, gap in GAPS.items():
            asked = [self.ranges(part, gap) for part in parts]
            found[f"requests_{name}"] = sum(len(starts) for starts, _ in asked)
            found[f"bytes_{name}"] = sum(int((stops - starts).sum()) for starts, stops in asked)
        return found

    def read(self, parts: Sequence[Numbers], *, ahead: bool) -> tuple[float, int, NDArray[np.float16]]:
        """Milliseconds of reading rows part by part from disk, the bytes that came from it, and the last part."""
        with self.file.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        mapped.madvise(mmap.MADV_RANDOM)
        rows = np.frombuffer(mapped, "<f2", len(self.places) * self.dim, HEAD_BYTES).reshape(-1, self.dim)
        before, began = bytes_from_disk(), time.perf_counter()
        for part in parts:
            if ahead:
                for start, stop in zip(*(ends.tolist() for ends in self.ranges(part, 1, mmap.PAGESIZE)), strict=True):
                    mapped.madvise(mmap.MADV_WILLNEED, start, stop - start)
            order = np.argsort(self.places[part])
            vectors = rows[self.places[part][order]][np.argsort(order)]
        took, came = round(1000 * (time.perf_counter() - began), 3), bytes_from_disk() - before
        del rows
        mapped.close()
        return took, came, vectors


def bytes_from_disk() -> int:
    """What this process has had read from disks."""
    return int(Path("/proc/self/io").read_text().partition("\nread_bytes: ")[2].split()[0])


def ids_by_list(searcher: Searcher, root: Path) -> Numbers:
    """The ids of the merged index, list after list, ascending in each."""
    if searcher.generation.totals.tombstones or len(list((root / "index").iterdir())) != 1:
        raise SystemExit(f"{root} has more than a merged index: take one that was just built")
    index = faiss.read_index(str(next((root / "index").iterdir()) / "index.faiss"), faiss.IO_FLAG_MMAP)
    lists: Any = faiss.extract_index_ivf(index).invlists  # faiss is untyped
    sizes = [(number, lists.list_size(number)) for number in range(lists.nlist)]
    return np.concatenate([np.sort(faiss.rev_swig_ptr(lists.get_ids(number), size)) for number, size in sizes if size])


def layouts(searcher: Searcher, root: Path, work: Path) -> tuple[dict[str, Layout], Numbers]:
    """Writes both files; the ids, ascending, come with them."""
    by_list = ids_by_list(searcher, root)
    order = np.argsort(by_list)
    places, dim = {"by id": np.arange(len(order)), "by list": order}, searcher.generation.trained.dim
    for name, ids in (("by id", by_list[order]), ("by list", by_list)):
        with (work / name).open("wb") as out:
            out.write(bytes(HEAD_BYTES))
            for start in range(0, len(ids), 1 << 16):
                vectors, held = searcher.stored.find(ids[start : start + (1 << 16)])
                assert held.all()
                out.write(vectors.astype("<f2").tobytes())
            out.flush()
            os.fsync(out.fileno())
    return {name: Layout(work / name, dim, places[name]) for name in places}, by_list[order]


def in_parts(shortlists: Sequence[Numbers], size: int) -> Iterator[list[Numbers]]:
    """The distinct rows of each batch, 64 queries a part."""
    for start in range(0, len(shortlists) - size + 1, size):
        some = shortlists[start : start + size]
        parts = (some[at : at + QUERIES_AT_ONCE] for at in range(0, size, QUERIES_AT_ONCE))
        yield [np.unique(np.concatenate(part)) for part in parts]


def measured(ways: dict[str, Layout], batches: Sequence[list[Numbers]], turns: int) -> dict[str, dict[str, Any]]:
    """Medians over batches of what is counted, and over turns of what is timed."""
    found: dict[str, dict[str, Any]] = {}
    for name, layout in ways.items():
        counted = [layout.counts(parts) for parts in batches]
        found[name] = {what: statistics.median(one[what] for one in counted) for what in counted[0]}
    for ahead in (False, True):
        took = [[way.read(batches[turn % len(batches)], ahead=ahead) for way in ways.values()] for turn in range(turns)]
        assert all((one[2] == some[0][2]).all() for some in took for one in some)
        for place, name in enumerate(ways):
            found[name]["ms_ahead" if ahead else "ms_by_page"] = statistics.median(some[place][0] for some in took)
            found[name]["bytes_read"] = statistics.median(some[place][1] for some in took)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("--rows", 1_000_000), ("--dim", 256), ("--queries", 10_000), ("--rounds", 3)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--order", choices=("shuffled", "clustered"), default="shuffled")
    parser.add_argument("--index-key", default=KEY)
    for name in ("--data", "--root", "--output"):
        parser.add_argument(name, type=Path)
    own = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="layout-") as temporary:
        work = Path(temporary)
        root = own.root or work / "root"
        if own.root is None:
            say("builds")
            made = clustered_vectors.batches(own.rows, own.dim, 0, own.order)
            base = unit(np.load(own.data / "base.npy").astype(np.float32)) if own.data else np.concatenate(list(made))
            write_parquet(work / "base.parquet", base)
            pixdex("build", root, "--vectors", work / "base.parquet", "--index-key", own.index_key)
        searcher = Searcher.open(Store.at(str(root)))
        drawn = clustered_vectors.batches(own.queries, searcher.generation.trained.dim, 0, draw=1)
        asked = np.load(own.data / "query.npy") if own.data else np.concatenate(list(drawn))
        found = searcher.nearest(asked[: own.queries].astype(np.float32), Asked(SHORTLIST, shortlist=0))
        ways, ids = layouts(searcher, root, work)
        shortlists = np.split(np.searchsorted(ids, found.ids), np.cumsum(found.counts)[:-1])
        result: dict[str, Any] = {"machine": measuring.machine(), "rows": len(ids), "dim": ways["by id"].dim}
        result |= {"key": searcher.generation.trained.key, "nprobe": searcher.generation.trained.nprobe, "batches": {}}
        result["written_again_at_each_merge"] = len(ids) * 2 * ways["by id"].dim
        for size in sorted({min(size, len(shortlists)) for size in BATCHES}):
            say(f"{size} queries")
            batches = list(in_parts(shortlists, size))
            turns = max(own.rounds, min(len(batches), 1000 // size))
            result["batches"][size] = measured(ways, batches, turns)
    report.write(own.output, result)
    for size, both in result["batches"].items():
        rows = [[name, *one.values()] for name, one in both.items()]
        print(report.table([f"queries: {size}", *both["by id"]], rows), end="\n\n")
    print(f"written again at each merge: {result['written_again_at_each_merge']:,} bytes")


if __name__ == "__main__":
    main()

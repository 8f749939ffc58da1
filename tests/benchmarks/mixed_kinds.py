"""Do texts find pictures as well where texts lie in the index, too, as where there are pictures only?

    python -m tests.benchmarks.mixed_kinds [--items 6000] [--lists 64] [--emoji FOLDER] [--cache DIR] --output FILE.json

Builds a root of pictures with their texts, and one of the same pictures alone with as many lists a row, by whole
`pixdex build`s: with an encoder whose texts lie far from its pictures, and with the demo encoder on a folder with
`emoji.csv` and its pictures. Then a night: a tenth of the items leaves, and as many come, so that the roots have deltas
and tombstones. Asked are texts, for pictures: recall@10 is the share of the exact ten nearest pictures. Some minutes on
two cores.
"""

import argparse
import csv
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.instruments import measuring, report
from tests.benchmarks.instruments.gap_encoder import GapEncoder, write_items
from tests.benchmarks.instruments.measuring import say
from tests.benchmarks.instruments.vector_folder import unit
from transforms.encoders import loading
from transforms.generations import published, tables, tombstones
from transforms.records import ROW_BITS
from transforms.search.searcher import Searcher
from transforms.shards import files
from transforms.storage import parquet_files
from transforms.storage.store import Store

TOP = 10
QUERIES = 300
GAP = "tests.benchmarks.instruments.gap_encoder:GapEncoder"

Vectors = NDArray[np.float32]


def pixdex(job: str, root: Path, *words: object) -> None:
    """Runs a command to its end; what it says lies beside the root."""
    argv = [sys.executable, "-m", "pipelines", job, "--root", root, *words, "--no-progress"]
    measuring.run([str(word) for word in argv], root.with_name(f"{root.name}.log"))


def roots(work: Path, rows: Path, encoder: str, lists: int, texts: str) -> dict[str, Path]:
    """Builds a root of pictures and texts, and one of the pictures alone with half the lists."""
    common = ("--csv", rows, "--image-column", "image", "--encoder", encoder)
    both, alone = work / "both", work / "alone"
    pixdex("build", both, *common, "--text-column", texts, "--index-key", f"IVF{lists},Flat")
    pixdex("build", alone, *common, "--index-key", f"IVF{lists // 2},Flat")
    return {"both": both, "alone": alone}


def pictures_of(root: Path) -> tuple[list[str], Vectors]:
    """The keys and vectors of the pictures of a root that are alive."""
    store = Store.at(str(root))
    generation = published.open_generation(store)
    dead = tombstones.read_all(store, generation.tables.tombstones)
    keys: list[str] = []
    vectors = []
    for row in tables.shard_rows(store, generation):
        shard, pictures = tables.file_of(row), np.arange(row["images"])
        alive = pictures[dead.are_alive((row["shard"] << ROW_BITS) + pictures)]
        keys += parquet_files.read(store, shard)["key"].take(alive).to_pylist()
        vectors.append(unit(files.read_vectors(store, shard)[alive].astype(np.float32)))
    return keys, np.concatenate(vectors)


def recalls(root: Path, queries: Vectors, nprobes: Sequence[int | None]) -> dict[str, float]:
    """recall@10 of pictures at each number of lists; None: as many as a search takes by itself."""
    keys, vectors = pictures_of(root)
    exact = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :TOP]
    searcher = Searcher.open(Store.at(str(root)))
    found = {}
    for nprobe in nprobes:
        hits = searcher.search(queries, TOP, nprobe, "image")
        shares = [
            len({hit.key for hit in some} & {keys[place] for place in places}) / TOP
            for some, places in zip(hits, exact, strict=True)
        ]
        found["default" if nprobe is None else str(nprobe)] = round(float(np.mean(shares)), 4)
    return found


def compare(
    work: Path, write: Callable[[Path, bool], Path], encoder: str, lists: int, texts: str, queries: Vectors
) -> dict[str, Any]:
    """Builds both roots and asks them, before and after a night."""
    rows = write(work, False)
    built = roots(work, rows, encoder, lists, texts)
    nprobes = (None, 8)
    found = {"built": {name: recalls(root, queries, nprobes) for name, root in built.items()}}
    write(work, True)
    for root in built.values():
        pixdex("reindex", root, "--encoder", encoder, "--max-tombstones", "1", "--retrain", "never")
    found["reindexed"] = {name: recalls(root, queries, nprobes) for name, root in built.items()}
    return found


def gap(work: Path, items: int, lists: int) -> dict[str, Any]:
    """Compares with an encoder of two clouds; asked are texts that are no item's."""
    numbers = np.arange(items).tolist()

    def write(folder: Path, is_night: bool) -> Path:
        tenth = items // 10
        return write_items(folder, [*numbers[tenth:], *range(items, items + tenth)] if is_night else numbers)

    queries = GapEncoder().encode_texts([f"item {number}" for number in range(2 * items, 2 * items + QUERIES)])
    return compare(work, write, GAP, lists, "text", unit(queries))


def emoji(work: Path, folder: Path) -> dict[str, Any]:
    """Compares with the demo encoder; asked are names of the items."""
    with (folder / "emoji.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))

    def write(place: Path, is_night: bool) -> Path:
        tenth = len(rows) // 10
        kept = rows[tenth:] if is_night else rows[:-tenth]
        with (place / "items.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, ["image", "name"], extrasaction="ignore")
            writer.writeheader()
            writer.writerows({**row, "image": str((folder / row["image"]).absolute())} for row in kept)
        return place / "items.csv"

    work.mkdir(exist_ok=True)
    names = [row["name"] for row in rows][:: max(1, len(rows) // QUERIES)]
    queries = loading.load("demo").encode_texts(names)
    return compare(work, write, "demo", 32, "name", unit(queries))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=6000)
    parser.add_argument("--lists", type=int, default=64)
    parser.add_argument("--emoji", type=Path, metavar="FOLDER")
    parser.add_argument("--cache", type=Path, default=Path("benchmark-cache"), help="for files and roots")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args(argv)
    options.cache.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="mixed-", dir=options.cache.absolute()))
    found: dict[str, Any] = {"machine": measuring.machine()}
    try:
        say("an encoder whose texts lie apart")
        found["gap"] = gap(work / "gap", options.items, options.lists)
        if options.emoji is not None:
            say("the demo encoder")
            found["emoji"] = emoji(work / "emoji", options.emoji)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    report.write(options.output, found)
    show(found)


def show(found: dict[str, Any]) -> None:
    rows = [
        [encoder, when, nprobe, both, one["alone"][nprobe], round(100 * (one["alone"][nprobe] - both), 1)]
        for encoder in ("gap", "emoji")
        for when, one in found.get(encoder, {}).items()
        for nprobe, both in one["both"].items()
    ]
    headings = ["encoder", "", "lists", "recall@10, texts beside", "pictures alone", "lost, points"]
    print(report.table(headings, rows))


if __name__ == "__main__":
    main()

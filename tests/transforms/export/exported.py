"""Small roots with deltas and dead rows, exported, and what stock faiss and readers of files find in the exports."""

import itertools
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tests.roots import Row, make_root
from transforms.export.destination import FOLDER
from transforms.export.run import Asked, Exported, export
from transforms.records import ROW_BITS, Modality
from transforms.search.rules import ID, Rules
from transforms.search.searcher import Searcher
from transforms.storage.store import Store

DIM = 16
QUERIES = np.random.default_rng(7).standard_normal((9, DIM)).astype(np.float32)
QUERIES /= np.linalg.norm(QUERIES, axis=1, keepdims=True)
MEASURED = ("avg_search_speed_ms", "99p_search_speed_ms")
"""What an export says of this machine, and what is another time otherwise."""


def vector(seed: int) -> tuple[float, ...]:
    """A vector of length one, rounded to float16."""
    drawn = np.random.default_rng(seed).standard_normal(DIM)
    return tuple((drawn / np.linalg.norm(drawn)).astype(np.float16).astype(float).tolist())


def shard(first: int, images: int, texts: Collection[int] = (), keywords: int = 0) -> list[Row]:
    """Rows of a shard: pictures, then texts of some of them by their places (others are alone), then keywords."""

    def row(number: int, modality: Modality, part: int = 0) -> Row:
        seed = 10 * (first + number) + {"image": 0, "text": 1, "keyword": 2 + part}[modality]
        columns = (
            {"price": str(number), "url": f"https://host/{first + number}"} if first % 2 else {"name": f"n{number}"}
        )
        return Row(f"k{first + number}", vector(seed), modality, part, f"caption {first + number}", columns=columns)

    pictures = [row(number, "image") for number in range(images)]
    return [
        *pictures, *(row(number, "text") for number in texts), *(row(0, "keyword", part) for part in range(keywords)),
    ]  # fmt: skip


def root(folder: Path, key: str, shards: Sequence[list[Row]], dead: Collection[int] = (), **settings: Any) -> Store:
    """A root whose shards are deltas of one, two and three shards, some rows of which are dead."""
    bounds = [0, 1, 3, *range(6, len(shards) + 3, 3)]
    groups = [range(start, min(stop, len(shards))) for start, stop in itertools.pairwise(bounds)]
    deltas = [[*group] for group in groups if len(group) and any(shards[number] for number in group)]
    return make_root(folder, *shards, key=key, deltas=deltas, dead=dead, **settings)


def made(store: Store, folder: Path, layout: str, **asked: Any) -> Exported:
    """Exports a root."""
    return export(store, Asked(layout, folder, **asked))


def content(folder: Path) -> dict[str, bytes]:
    """All files of an export, but its own notes."""
    files = (file for file in folder.rglob("*") if file.is_file() and FOLDER not in file.parts)
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def ids_of(folder: Path, number: str = "id") -> pa.Table:
    """The id tables of an export, whose numbers are dense and ascend."""
    table = pa.concat_tables([pq.read_table(file) for file in sorted((folder / "ids").iterdir())])
    assert table[number].to_pylist() == list(range(len(table)))
    return table


def by_faiss(
    index_file: Path, pixdex_ids: Sequence[int], k: int, *, mapped: bool = True, nprobe: int | None = None
) -> list[dict[int, float]]:
    """What stock faiss finds in an index: of each query the score of each row, by its pixdex id."""
    index = faiss.read_index(str(index_file), faiss.IO_FLAG_MMAP if mapped else 0)
    assert index.ntotal == len(pixdex_ids)
    ivf = faiss.try_extract_index_ivf(index)
    if nprobe is not None and ivf is not None:
        ivf.nprobe = nprobe
    scores, ids = index.search(QUERIES, k)
    return [
        {pixdex_ids[row]: score for row, score in zip(of_query, near, strict=True) if row >= 0}
        for of_query, near in zip(ids.tolist(), scores.tolist(), strict=True)
    ]


def by_pixdex(
    store: Store, k: int, modality: Modality | None = None, *, with_hidden: bool = False, nprobe: int | None = None
) -> list[dict[int, float]]:
    """The same by a search of the root, by codes alone."""
    searcher = Searcher.open(store, with_hidden=with_hidden)
    found = searcher.search(QUERIES, k, nprobe, modality=modality, shortlist=0, rules=Rules(group_by=ID))
    return [{hit.id: hit.score for hit in hits} for hits in found]


def assert_same(one: Sequence[dict[int, float]], other: Sequence[dict[int, float]], within: float = 1e-5) -> None:
    """The same rows with the same scores, query for query, but for equal ones at the end."""
    for mine, theirs in zip(one, other, strict=True):
        assert len(mine) == len(theirs)
        assert np.allclose(sorted(mine.values()), sorted(theirs.values()), atol=within)
        for row in mine.keys() & theirs.keys():
            assert abs(mine[row] - theirs[row]) <= within
        ends = [max(mine.values(), default=0), min(mine.values(), default=0)]
        for row in mine.keys() ^ theirs.keys():
            assert min(abs((mine | theirs)[row] - end) for end in ends) <= within


def living(shards: Sequence[list[Row]], dead: Collection[int] = ()) -> dict[int, Row]:
    """The living rows of a root by their ids."""
    rows = {(number << ROW_BITS) + place: row for number, some in enumerate(shards) for place, row in enumerate(some)}
    return {number: row for number, row in rows.items() if number not in dead}


def clip_metadata(folder: Path) -> pa.Table:
    """The metadata of a folder of clip-retrieval, as it counts the rows."""
    return pa.concat_tables([pq.read_table(file) for file in sorted((folder / "metadata").iterdir())])


def clip_vectors(folder: Path, kind: str, id_column: str) -> dict[int, NDArray[np.float32]]:
    """The vectors of one kind by the ids that the metadata beside them name."""
    found: dict[int, NDArray[np.float32]] = {}
    for file in sorted((folder / kind).glob("*.npy")):
        number = file.stem.rpartition("_")[2]
        metadata, vectors = pq.read_table(folder / "metadata" / f"metadata_{number}.parquet"), np.load(file)
        named = metadata[id_column].to_pylist()
        if id_column == "pixdex_text_id" and named[0] is None:
            named = metadata["pixdex_id"].to_pylist()
        assert len(named) == len(vectors)
        found |= dict(zip(named, vectors.astype(np.float32), strict=True))
    return found

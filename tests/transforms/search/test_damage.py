"""A damaged index: its head is refused before anything believes it, its lists crash nothing, `--check` names both."""

import random
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.damages import spoiled
from tests.roots import Row, make_root
from tests.tiers import mostly_gate
from transforms.errors import PixdexError
from transforms.generations import merged_index, published
from transforms.generations.merged_index import FileRange
from transforms.ready_range import VectorRange
from transforms.records import Metric
from transforms.search.known_ids import KnownIds
from transforms.search.open_index import open_index
from transforms.search.searcher import Searcher
from transforms.storage.cache_folder import cache_folder
from transforms.storage.store import Store

DIM, ROWS = 16, 400
RNG = np.random.default_rng(3)
VECTORS = RNG.standard_normal((ROWS, DIM)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)
QUERIES = VECTORS[:5]
KEYS = [
    "IVF8,Flat", "IVF1,Flat", "OPQ8,IVF8,PQ4x4np", "IVF8_HNSW8,SQ8", "PCA8,IVF8,Flat", "RR,IVF8,RaBitQ",
]  # fmt: skip
DAMAGES = [pytest.param(15, id="few"), pytest.param(300, id="many", marks=pytest.mark.slow)]


def root(folder: Path, key: str, metric: Metric = "ip") -> Store:
    """A root of 200 merged rows, 200 of a delta, and a dead one."""
    rows = [Row(f"k{number}", vector.tolist()) for number, vector in enumerate(VECTORS)]
    return make_root(folder, rows[:200], rows[200:], key=key, metric=metric, train_on=VECTORS, deltas=[[1]], dead={3})


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def ranges(store: Store) -> list[FileRange]:
    return merged_index.ranges(store, published.open_generation(store))


@pytest.mark.parametrize("many", DAMAGES)
@pytest.mark.parametrize("key", mostly_gate(KEYS, quick=KEYS[:1]))
def test_every_damage_of_the_head_is_refused_when_it_is_opened(tmp_path: Path, key: str, many: int) -> None:
    store, rng = root(tmp_path, key), random.Random(1)
    head, file = ranges(store)[0], next(tmp_path.glob("index/*/index.faiss"))
    content = file.read_bytes()
    assert head.is_head
    for _ in range(many):
        file.write_bytes(spoiled(content, 0, head.bytes, rng))
        with pytest.raises(
            PixdexError, match=rf"^{file} is damaged, bytes 0\.\.{head.bytes - 1}, its head, .* --retrain"
        ):
            Searcher.open(store)


@pytest.mark.parametrize("many", DAMAGES)
@pytest.mark.parametrize("key", mostly_gate(KEYS, quick=KEYS[:1]))
def test_no_damage_of_the_lists_crashes_a_search_and_a_check_names_each(tmp_path: Path, key: str, many: int) -> None:
    store, rng = root(tmp_path, key), random.Random(2)
    parts, file = ranges(store)[1:], next(tmp_path.glob("index/*/index.faiss"))
    content, names = file.read_bytes(), {f"k{number}" for number in range(ROWS)}
    for _ in range(many):
        part = rng.choice([one for one in parts if one.bytes])
        file.write_bytes(spoiled(content, part.offset, part.bytes, rng))
        for modality in (None, "image"):
            try:
                hits = Searcher.open(store).search(QUERIES, 300, 8, "image" if modality else None)
                assert {hit.key for found in hits for hit in found} <= names
                assert np.isfinite([hit.score for found in hits for hit in found]).all()
            except PixdexError as error:
                assert str(file) in str(error) and "pixdex verify" in str(error)
        with pytest.raises(PixdexError, match=rf"^{file} is damaged, bytes {part.offset}\.\.\d+, lists "):
            Searcher.open(store, check=True)


def test_a_check_of_what_is_whole_finds_the_same(tmp_path: Path) -> None:
    store = root(tmp_path, "IVF8,Flat")
    assert Searcher.open(store, check=True).search(QUERIES, 9) == Searcher.open(store).search(QUERIES, 9)


def test_a_check_reads_the_shards_of_results_through_their_checksums(tmp_path: Path) -> None:
    store = root(tmp_path, "IVF8,Flat")
    file = next(tmp_path.glob("embeddings/*/shard-0000000000-*"))
    content = bytearray(file.read_bytes())
    content[20] ^= 1  # in a column chunk of ids, whose pages a search of metadata reads, or not
    file.write_bytes(content)
    with pytest.raises(PixdexError, match=rf"{file.name} is damaged .*checksum"):
        Searcher.open(store, check=True).search(QUERIES, 9)


@pytest.mark.parametrize("change", [{"dim": 8}, {"nlist": 9}, {"code_size": 8}])
def test_an_index_of_another_shape_than_its_manifest_names_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    """Faiss would read queries beyond their end."""
    store = root(tmp_path, "IVF8,Flat")
    generation = published.open_generation(store)
    other = replace(generation, trained=replace(generation.trained, **change))
    with pytest.raises(PixdexError, match=r"index\.faiss has \(dim, lists, bytes a code\)|its ranges are not"):
        open_index(store, other)


def test_a_table_of_ranges_that_leaves_a_gap_is_refused(tmp_path: Path) -> None:
    store = root(tmp_path, "IVF8,Flat")
    generation = published.open_generation(store)
    other = replace(generation, index=replace(generation.index, bytes=generation.index.bytes - 1))
    file = next(tmp_path.glob("index/*/index.faiss"))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(PixdexError, match="its ranges are not the merged index"):
        open_index(store, other)


# --- copies ---


@pytest.fixture
def copied(tmp_path: Path) -> Iterator[Store]:
    """A root of a folder that was copied to an object store."""
    root(tmp_path / "root", "IVF8,Flat")
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "root"), f"/{tmp_path.name}", recursive=True)
    yield Store.at(f"memory://{tmp_path.name}")
    memory.rm(f"/{tmp_path.name}", recursive=True)


def test_a_file_of_an_object_store_is_refused_wherever_it_is_damaged(copied: Store) -> None:
    path = published.open_generation(copied).index.path
    content = copied.read(path)
    for part in ranges(copied):
        copied.overwrite(path, spoiled(content, part.offset, part.bytes, random.Random(4)))
        with pytest.raises(PixdexError, match=rf"{path} is damaged, bytes {part.offset}\.\."):
            Searcher.open(copied)


def test_a_damaged_local_copy_of_a_delta_is_made_again(copied: Store) -> None:
    expected = Searcher.open(copied).search(QUERIES, 300, 8)
    (copy,) = cache_folder().rglob("*.ivf")
    data = bytearray(copy.read_bytes())
    data[40] ^= 1
    copy.write_bytes(data)
    assert Searcher.open(copied).search(QUERIES, 300, 8) == expected


# --- ids ---

READY = asdict(VectorRange("file:///a.npy", "npy", 10, 13, "stat:1"))
KNOWN = KnownIds.of({2: {"rows": 5}, 4: {"rows": 1, "ready": READY}})
SOUND = [(2 << 16) + 4, 4 << 16, -1, -1]


def ids(*rows: list[int]) -> NDArray[np.int64]:
    return np.array(rows, np.int64)


def test_ids_of_rows_are_known_and_no_row_is_no_id() -> None:
    scores = np.array([[0.5, 0.1, -np.inf, np.nan]], np.float32)
    assert KNOWN.strange(ids(SOUND), scores) is None
    assert KNOWN.strange(ids([-1, -1]), np.full((1, 2), np.inf, np.float32)) is None
    assert KNOWN.strange(np.empty((0, 3), np.int64), np.empty((0, 3), np.float32)) is None
    assert KnownIds.of({}).strange(ids([-1]), np.zeros((1, 1), np.float32)) is None


@pytest.mark.parametrize(
    ("strange", "why"),
    [
        ((2 << 16) + 5, "row 5 of shard 2"), ((4 << 16) + 3, "row 3 of shard 4"), (3 << 16, "row 0 of shard 3"),
        (-2, "shard -1"), (-(2**63), "shard -"), (2**63 - 1, "which is not there"), (4 << 16, "twice"),
    ],
)  # fmt: skip
def test_other_ids_are_strange(strange: int, why: str) -> None:
    found = KNOWN.strange(ids(SOUND, [*SOUND[:2], strange, -1]), np.zeros((2, 4), np.float32))
    assert found is not None and why in found
    empty = KnownIds.of({}).strange(ids([strange]), np.zeros((1, 1), np.float32))
    assert empty is not None and "not there" in empty


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf])
def test_a_row_without_a_finite_score_is_strange(score: float) -> None:
    found = KNOWN.strange(ids(SOUND), np.array([[0, score, 0, 0]], np.float32))
    assert found is not None and f"id {4 << 16} has no finite score" in found

"""Searching a generation that went on: what was added is found beside the rest, and what was removed is not."""

import gc
import itertools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import faiss
import fsspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.examples import costly
from tests.roots import METRICS, Row, make_root, unit
from tests.tiers import mostly_gate
from transforms.errors import PixdexError, UsageError
from transforms.generations.manifest import Generation
from transforms.generations.published import open_generation
from transforms.index.lists import format
from transforms.index.lists.writer import write_lists
from transforms.records import FileReference, Metric, row_ids
from transforms.search import deltas
from transforms.search.hits import Hit
from transforms.search.open_index import OpenIndex, open_index
from transforms.search.searcher import Searcher
from transforms.storage import parquet_files
from transforms.storage.cache_folder import cache_folder
from transforms.storage.store import Store

EAST = np.array([unit(0)], np.float32)
DIM, SHARD_ROWS = 8, 40
_RNG = np.random.default_rng(11)
TRAIN = _RNG.integers(-4, 5, (400, DIM)).astype(np.float32)
QUERIES = _RNG.integers(-4, 5, (5, DIM)).astype(np.float32)
KEYS = ["IVF4,Flat", "PCA4,IVF4,PQ2x4np", "IVF4_HNSW4,Flat", "IVF4,SQ8", "OPQ4,IVF4,PQ4x4np", "RR,IVF4,RaBitQ"]
QUICK = [(KEYS[0], "ip"), (KEYS[0], "l2"), (KEYS[1], "ip")]


def keys(hits: list[Hit]) -> list[str]:
    return [hit.key for hit in hits]


def fan(name: str, degrees: list[float]) -> list[Row]:
    return [Row(f"{name}{number}", unit(angle)) for number, angle in enumerate(degrees)]


def plane(count: int) -> NDArray[np.float32]:
    """Directions all around, to train lists on."""
    return np.array([unit(360 * n / count) for n in range(count)], np.float32)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def split(vectors: NDArray[np.float32], shards: int) -> list[list[Row]]:
    rows = [Row(f"k{number}", vector.tolist()) for number, vector in enumerate(vectors)]
    return [rows[shard * SHARD_ROWS : (shard + 1) * SHARD_ROWS] for shard in range(shards)]


def nearest_living(store: Store, vectors: NDArray[np.float32], dead: set[int], metric: Metric) -> Any:
    """One faiss index of the rows that live, made with the trained index of the root."""
    index = faiss.read_index(str(next((store.local or Path()).glob("trained/*/index.faiss"))))
    ids = np.concatenate([row_ids(shard, SHARD_ROWS) for shard in range(len(vectors) // SHARD_ROWS)])
    lives = ~np.isin(ids, list(dead))
    index.add_with_ids(vectors[lives], ids[lives])
    faiss.extract_index_ivf(index).nprobe = 4
    assert index.metric_type == METRICS[metric]
    return index


@costly
@given(
    seed=st.integers(0, 2**16),
    places=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    share=st.sampled_from([0.0, 0.1, 0.9, 1.0]),
    k=st.integers(1, 200),
    copied=st.booleans(),
)
@example(seed=0, places=[0, 1, 2, 2], share=0.1, k=10, copied=True)
@example(seed=0, places=[0, 1, 2, 2], share=0.1, k=10, copied=False)
@example(seed=1, places=[1, 1, 1, 1], share=0.0, k=3, copied=True)
@pytest.mark.parametrize(
    ("key", "metric"),
    mostly_gate(itertools.product(KEYS, ("ip", "l2")), quick=QUICK),
)
def test_base_deltas_and_dead_rows_are_found_like_one_index_of_what_lives(
    key: str, metric: Metric, seed: int, places: list[int], share: float, k: int, *, copied: bool
) -> None:
    most = deltas._MOST_COPIED_BYTES if copied else 0
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-4, 5, (len(places) * SHARD_ROWS, DIM)).astype(np.float32)
    ids = np.concatenate([row_ids(shard, SHARD_ROWS) for shard in range(len(places))])
    dead = set(ids[rng.random(len(ids)) < share].tolist())
    added = [[shard for shard, place in enumerate(places) if place == number] for number in (1, 2)]
    with tempfile.TemporaryDirectory() as folder:
        store = make_root(
            Path(folder), *split(vectors, len(places)), key=key, metric=metric, normalize=False, train_on=TRAIN,
            deltas=[numbers for numbers in added if numbers], dead=dead,
        )  # fmt: skip
        truth = nearest_living(store, vectors, dead, metric)
        with mock.patch.object(deltas, "_MOST_COPIED_BYTES", most):
            hits = Searcher.open(store).search(QUERIES, k, nprobe=4)
        distances, expected = truth.search(QUERIES, len(ids))
    for found, one, row in zip(hits, distances, expected, strict=True):
        there = row >= 0
        score = dict(zip(row[there].tolist(), one[there].tolist(), strict=True))
        assert [hit.score for hit in found] == pytest.approx(one[there][:k].tolist(), abs=1e-3)
        assert [score[hit.id] for hit in found] == pytest.approx([hit.score for hit in found], abs=1e-3)
        assert len({hit.id for hit in found}) == len(found)
        if key == "IVF4,Flat":  # whole numbers: no rounding decides
            sign = -1 if metric == "ip" else 1
            assert [hit.id for hit in found] == sorted(score, key=lambda row: (sign * score[row], row))[:k]


@pytest.mark.parametrize("key", ["IVF4,Flat", "IVF4_HNSW4,Flat"])
@pytest.mark.parametrize("nprobe", [None, 1, 4])
def test_k_are_found_though_the_nearest_50_are_all_dead(tmp_path: Path, key: str, nprobe: int | None) -> None:
    near, far = fan("near", [n * 0.1 for n in range(50)]), fan("far", [6 + n * 0.1 for n in range(30)])
    store = make_root(tmp_path, near, far, key=key, train_on=plane(40), dead=set(range(50)))
    assert keys(Searcher.open(store).search(EAST, 10, nprobe)[0]) == [f"far{n}" for n in range(10)]


def test_no_list_is_left_out_while_k_are_wanted_and_the_near_lists_hold_the_dead(tmp_path: Path) -> None:
    near, far = fan("near", [n * 0.1 for n in range(50)]), fan("far", [100 + n * 0.1 for n in range(30)])
    store = make_root(tmp_path, near, far, key="IVF16,Flat", train_on=plane(160), deltas=[[1]], dead=set(range(50)))
    assert keys(Searcher.open(store).search(EAST, 30)[0]) == [f"far{n}" for n in range(30)]
    assert Searcher.open(store).search(EAST, 30, nprobe=1) == [[]]


@pytest.mark.parametrize("k", [1, 7, 23, 60])
def test_ties_go_by_id_across_the_merged_index_and_deltas(tmp_path: Path, k: int) -> None:
    shards = [fan(f"s{shard}-", [0.0] * 20) for shard in range(3)]
    store = make_root(tmp_path, *shards, key="IVF2,Flat", train_on=plane(100), deltas=[[0], [2]])
    assert [hit.id for hit in Searcher.open(store).search(EAST, k)[0]] == [(n // 20 << 16) + n % 20 for n in range(k)]


def test_a_modality_finds_what_lives_of_it_in_base_and_deltas(tmp_path: Path) -> None:
    base = [Row(f"i{n}", unit(3 * n)) for n in range(20)] + [Row(f"t{n}", unit(n), "text") for n in range(20)]
    new = [Row(f"j{n}", unit(3 * n)) for n in range(5)] + [Row(f"u{n}", unit(n), "text") for n in range(5)]
    dead = {0, 1, 20, 21, (3 << 16), (3 << 16) + 5}
    store = make_root(tmp_path, base, [], [], new, key="IVF4,Flat", train_on=plane(200), deltas=[[3]], dead=dead)
    searcher = Searcher.open(store)
    texts, images = (searcher.search(EAST, 100, modality=kind)[0] for kind in ("text", "image"))
    assert sorted(keys(texts)) == sorted([f"t{n}" for n in range(2, 20)] + [f"u{n}" for n in range(1, 5)])
    assert sorted(keys(images)) == sorted([f"i{n}" for n in range(2, 20)] + [f"j{n}" for n in range(1, 5)])
    assert (searcher.count("text"), searcher.count("image")) == (22, 22)
    assert len(searcher.search(EAST, 100)[0]) == 44


def test_when_all_of_another_modality_is_dead_it_is_not_found(tmp_path: Path) -> None:
    rows = [*fan("i", [5.0 + n for n in range(10)]), *(Row(f"t{n}", unit(0), "text") for n in range(10))]
    store = make_root(tmp_path, rows, dead=set(range(10, 20)))
    assert keys(Searcher.open(store).search(EAST, 3, modality="image")[0]) == ["i0", "i1", "i2"]
    assert Searcher.open(store).search(EAST, 3, modality="text") == [[]]


def test_an_item_of_several_rows_is_found_by_those_that_live(tmp_path: Path) -> None:
    rows = [Row("a", unit(5)), Row("b", unit(30)), *(Row("a", unit(0), "keyword", n, f"w{n}") for n in range(40))]
    store = make_root(tmp_path, rows, dead=set(range(2, 42)))
    assert [(hit.key, hit.modality) for hit in Searcher.open(store).search(EAST, 2)[0]] == [
        ("a", "image"),
        ("b", "image"),
    ]


def test_nothing_is_read_of_a_shard_whose_rows_are_all_dead(tmp_path: Path) -> None:
    lives = [Row("a", unit(5)), Row("a", unit(6), "text")]
    store = make_root(tmp_path, fan("gone", [0, 1, 2]), lives, dead={0, 1, 2})
    next(tmp_path.glob("embeddings/*/shard-0000000000-*")).unlink()
    assert keys(Searcher.open(store).search(EAST, 3)[0]) == ["a"]


def test_tombstones_of_shards_that_are_gone_do_no_harm(tmp_path: Path) -> None:
    store = make_root(tmp_path, fan("k", [1, 2, 3]), dead={1})
    searcher = Searcher.open(store)
    searcher._selections._dead = searcher._dead = type(searcher._dead).of(np.array([1, (7 << 16) + 3]))
    assert keys(searcher.search(EAST, 5)[0]) == ["k0", "k2"]
    np.testing.assert_array_equal(searcher._selections.of("image", None).ids(), [0, 2])


def with_delta(folder: Path, key: str = "IVF4,Flat", metric: Metric = "ip") -> Store:
    vectors = np.random.default_rng(5).standard_normal((4 * SHARD_ROWS, DIM)).astype(np.float32)
    return make_root(folder, *split(vectors, 4), key=key, metric=metric, train_on=TRAIN, deltas=[[1], [3]], dead={1, 2})


def cut(data: bytes) -> bytes:
    return data[:-1]


def flip_a_code(data: bytes) -> bytes:
    return data[:20] + bytes([data[20] ^ 1]) + data[21:]


def flip_a_size(data: bytes) -> bytes:
    place = len(data) - format.TAIL.size - format.FOOTER.size - format.FENCE.itemsize - 8
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize("damage", [cut, flip_a_code, flip_a_size])
def test_a_damaged_delta_is_named_when_it_is_opened(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    store = with_delta(tmp_path)
    file = next(tmp_path.glob("lists/*/block-0000000001-*.ivf"))
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(PixdexError, match=rf"{file.name} is damaged"):
        Searcher.open(store)


def test_a_missing_delta_is_named(tmp_path: Path) -> None:
    store = with_delta(tmp_path)
    file = next(tmp_path.glob("lists/*/block-0000000001-*.ivf"))
    file.unlink()
    with pytest.raises(PixdexError, match=rf"{file.name} is missing"):
        Searcher.open(store)


def test_another_whole_file_in_the_place_of_a_delta_is_refused(tmp_path: Path) -> None:
    store = with_delta(tmp_path)
    first, second = sorted(tmp_path.glob("lists/*/block-*.ivf"))
    second.write_bytes(first.read_bytes())
    with pytest.raises(PixdexError, match=rf"{second.name} is damaged .* not the file that was referred to"):
        Searcher.open(store)


def test_a_delta_of_another_trained_index_is_refused(tmp_path: Path) -> None:
    store = with_delta(tmp_path)
    generation = open_generation(store)
    other = replace(generation, trained=replace(generation.trained, fingerprint="8" * 64))
    with pytest.raises(PixdexError, match=r"block-0000000000-.* was made with trained index 9999"):
        open_index(store, other)


def test_deltas_that_the_totals_do_not_count_are_refused(tmp_path: Path) -> None:
    store = with_delta(tmp_path)
    generation = open_generation(store)
    other = replace(generation, totals=replace(generation.totals, tombstones=0))
    with pytest.raises(PixdexError, match="holds 80 vectors and the deltas 80, generation 1 names 158 and 0 dead"):
        open_index(store, other)


@pytest.mark.parametrize("key", ["IVF4,PQ4x4np", "IVF4_HNSW4,PQ4x4np", "PCA4,IVF4,PQ4x4np", "RR,IVF4,RaBitQ"])
@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_deltas_are_scanned_fast_too_when_all_that_nobody_names_is_freed(
    tmp_path: Path, key: str, metric: Metric
) -> None:
    store = with_delta(tmp_path, key, metric)
    plain, fast = Searcher.open(store), Searcher.open(store, fast_scan=True)
    assert isinstance(fast.index, OpenIndex) and "FastScan" in type(fast.index.deltas).__name__
    assert fast.index.deltas.referenced_objects == [fast.index.merged]  # and not what was converted
    gc.collect()
    atol = 0.15 if metric == "ip" else 0.5  # squared distances reach 30
    for k in (20, 158):
        for slow, quick in zip(plain.search(QUERIES, k, 4), fast.search(QUERIES, k, 4), strict=True):
            assert len(set(keys(slow)) & set(keys(quick))) >= 0.7 * k
            np.testing.assert_allclose([hit.score for hit in quick], [hit.score for hit in slow], atol=atol)


def test_what_cannot_be_scanned_fast_is_refused_with_deltas_too(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="IVF4,Flat cannot be scanned fast"):
        Searcher.open(with_delta(tmp_path), fast_scan=True)


@pytest.mark.parametrize(("key", "metric"), mostly_gate(itertools.product(KEYS, ("ip", "l2")), quick=QUICK))
def test_the_deltas_outlive_all_names_but_their_own(tmp_path: Path, key: str, metric: Metric) -> None:
    store = with_delta(tmp_path, key, metric)
    index = open_index(store, open_generation(store))
    alone = index.deltas
    del index
    for _ in range(3):
        gc.collect()
        open_index(store, open_generation(store))  # takes the memory that was freed
    inner = np.zeros((1, alone.d), np.float32)
    alone.nprobe = 4
    assert sorted(alone.search(inner, 80)[1][0].tolist()) == [*row_ids(1, 40).tolist(), *row_ids(3, 40).tolist()]


def test_a_table_that_is_too_large_to_copy_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = with_delta(tmp_path, "IVF4,PQ4x4np", "l2")
    with_table = Searcher.open(store)
    assert isinstance(with_table.index, OpenIndex)
    assert with_table.index.deltas.precomputed_table.size() == 4 * 4 * 16
    assert with_table.index.deltas.use_precomputed_table == 1
    monkeypatch.setattr(deltas, "_MOST_TABLE_BYTES", 0)
    without = Searcher.open(store)
    assert isinstance(without.index, OpenIndex)
    assert without.index.deltas.precomputed_table.size() == 0
    one, other = (searcher.search(QUERIES, 158, 4) for searcher in (with_table, without))
    assert [[hit.score for hit in hits] for hits in one] == [
        pytest.approx([hit.score for hit in hits], abs=1e-4) for hits in other
    ]


def test_a_table_of_blocks_without_the_column_or_without_a_word_has_no_deltas(tmp_path: Path) -> None:
    store = make_root(tmp_path, fan("k", [1, 2, 3]))
    generation = open_generation(store)
    named = {"path": ["lists/block.ivf"], "bytes": [1], "checksum": [f"xxh3:{0:016}"]}
    before = pa.table({"block": [0], "rows": [3], "first_shard": [0], "last_shard": [0], **named})
    for table in (before, before.append_column("merged", pa.array([None]))):
        blocks = parquet_files.write_table(store, table)
        old = replace(generation, tables=replace(generation.tables, blocks=blocks))
        assert deltas.delta_files(store, old) == []
        assert open_index(store, old).deltas is None


def test_many_lists_are_mapped_at_once(tmp_path: Path) -> None:
    nlist, entry = 1 << 20, 12
    rng = np.random.default_rng(0)
    file = tmp_path / "lists" / "block.ivf"
    file.parent.mkdir()
    list_nos, codes = rng.integers(0, nlist, 5000), rng.integers(0, 256, (5000, entry)).astype(np.uint8)
    with file.open("wb") as out:
        seal = write_lists(
            out, list_nos=list_nos, codes=codes, ids=np.arange(5000), nlist=nlist, fingerprint="9" * 64
        )  # fmt: skip
    small = make_root(tmp_path / "root", fan("k", [1]))
    generation = open_generation(small)
    large = replace(generation, trained=replace(generation.trained, nlist=nlist, code_size=entry))
    reference = FileReference("lists/block.ivf", seal.bytes, f"xxh3:{seal.checksum}")
    lists = deltas._mapped(Store.at(str(tmp_path)), large, reference)
    assert lists.compute_ntotal() == 5000
    for number in [*np.unique(list_nos)[:50].tolist(), int(list_nos.max())]:
        rows = np.flatnonzero(list_nos == number)
        np.testing.assert_array_equal(faiss.rev_swig_ptr(lists.get_ids(number), len(rows)), rows)
        held = faiss.rev_swig_ptr(lists.get_codes(number), len(rows) * entry).reshape(-1, entry)
        np.testing.assert_array_equal(held, codes[rows])


@pytest.fixture
def far(tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    """A root in a folder, and its copy on an object store."""
    local = with_delta(tmp_path / "root")
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "root"), f"/{tmp_path.name}", recursive=True)
    yield local, Store.at(f"memory://{tmp_path.name}")
    memory.rm(f"/{tmp_path.name}", recursive=True)


def test_deltas_of_an_object_store_are_searched_in_copies_that_are_made_once(far: tuple[Store, Store]) -> None:
    local, store = far
    assert Searcher.open(store).search(QUERIES, 158, 4) == Searcher.open(local).search(QUERIES, 158, 4)
    copies = sorted(cache_folder().rglob("*.ivf"))
    made = [copy.stat().st_ino for copy in copies]
    assert len(copies) == 2
    opened = Searcher.open(store)
    assert [copy.stat().st_ino for copy in copies] == made
    later = replace(open_generation(store), generation=2)  # another one with the same index and deltas
    open_index(store, later)
    assert [copy.stat().st_ino for copy in copies] == made
    merged = replace(later, index=replace(later.index, checksum="pieces:" + "7" * 64))
    open_index(store, merged)
    assert not copies[0].exists()
    assert opened.search(QUERIES, 5) == Searcher.open(local).search(QUERIES, 5)


def test_a_copy_of_a_delta_that_was_cut_is_made_again(far: tuple[Store, Store]) -> None:
    _, store = far
    expected = Searcher.open(store).search(QUERIES, 9)
    for copy in cache_folder().rglob("*.ivf"):
        copy.write_bytes(copy.read_bytes()[:-1])
    assert Searcher.open(store).search(QUERIES, 9) == expected


@pytest.mark.parametrize("damage", [cut, flip_a_code, None])
def test_a_damaged_delta_of_an_object_store_is_named_and_leaves_no_copy(
    far: tuple[Store, Store], damage: Callable[[bytes], bytes] | None
) -> None:
    _, store = far
    generation: Generation = open_generation(store)
    path = deltas.delta_files(store, generation)[0].path
    if damage is None:
        store.remove(path)
    else:
        store.overwrite(path, damage(store.read(path)))
    with pytest.raises(PixdexError, match=rf"{path} is {'damaged' if damage else 'missing'}"):
        open_index(store, generation)
    assert not [copy for copy in cache_folder().rglob("*") if copy.is_file()]

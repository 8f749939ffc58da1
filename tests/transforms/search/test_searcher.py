"""Searching a generation: what is found, in which order, and what is said when nothing can be."""

import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import fsspec
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.roots import Row, make_root, unit
from transforms.errors import PixdexError, UsageError
from transforms.ready_range import VectorRange
from transforms.records import MODALITIES, Metric
from transforms.search.hits import Hit
from transforms.search.searcher import Searcher
from transforms.search.selection import rows_of
from transforms.search.trace import Trace
from transforms.storage import layout
from transforms.storage.store import Store

EAST = np.array([unit(0)], np.float32)


def keys(hits: list[Hit]) -> list[str]:
    return [hit.key for hit in hits]


def fan(count: int) -> list[Row]:
    """Rows that turn away from east degree by degree."""
    return [Row(f"k{number:03}", unit(number * 180 / count)) for number in range(count)]


def test_the_nearest_come_first_with_their_cosine_and_ranks_from_one(tmp_path: Path) -> None:
    store = make_root(tmp_path, [Row("far", unit(90)), Row("near", unit(10)), Row("middle", unit(60))])
    hits = Searcher.open(store).search(EAST, 3)[0]
    assert [(hit.rank, hit.key) for hit in hits] == [(1, "near"), (2, "middle"), (3, "far")]
    assert [hit.score for hit in hits] == pytest.approx([np.cos(np.deg2rad(a)) for a in (10, 60, 90)], abs=1e-6)


def test_by_distance_the_nearest_come_first_too_and_the_score_is_the_squared_distance(tmp_path: Path) -> None:
    rows = [Row("far", (5, 0)), Row("near", (1.5, 0)), Row("same", (1, 0))]
    store = make_root(tmp_path, rows, metric="l2", normalize=False)
    hits = Searcher.open(store).search(EAST, 3)[0]
    assert [(hit.key, hit.score) for hit in hits] == [("same", 0.0), ("near", 0.25), ("far", 16.0)]


def test_by_l1_the_score_is_the_sum_of_differences_and_ties_go_by_id(tmp_path: Path) -> None:
    rows = [Row("far", (3, 2)), Row("tied-b", (1, 1)), Row("tied-a", (2, 0)), Row("same", (1, 0)), Row("tie", (0, 0))]
    store = make_root(tmp_path, rows, metric="l1", normalize=False)
    hits = Searcher.open(store).search(EAST, 5)[0]
    assert [(hit.key, hit.score) for hit in hits] == [
        ("same", 0.0), ("tied-b", 1.0), ("tied-a", 1.0), ("tie", 1.0), ("far", 4.0),
    ]  # fmt: skip


@pytest.mark.parametrize(("length", "score"), [(1.0005, 1.0), (1.01, 1.01), (0.999, 0.999)])
def test_a_cosine_that_was_rounded_above_one_is_one(tmp_path: Path, length: float, score: float) -> None:
    hits = Searcher.open(make_root(tmp_path, [Row("a", (length, 0))])).search(EAST, 1)[0]
    assert hits[0].score == pytest.approx(score, abs=1e-6)
    assert length > 1.001 or hits[0].score <= 1


def test_an_inner_product_of_vectors_of_any_length_is_left_as_it_is(tmp_path: Path) -> None:
    store = make_root(tmp_path, [Row("a", (1.0005, 0))], normalize=False)
    assert Searcher.open(store).search(EAST, 1)[0][0].score == pytest.approx(1.0005, abs=1e-6)


def test_a_hit_says_what_the_row_is(tmp_path: Path) -> None:
    row = Row("a", unit(0), "image", 0, "a red circle", "file:///p/a b#1.png", {"name": "circle", "group": "동그라미"})
    hit = Searcher.open(make_root(tmp_path, [], [row])).search(EAST, 1)[0][0]
    columns = {"name": "circle", "group": "동그라미"}
    assert hit == Hit(1, 1.0, 1 << 16, "a", "file:///p/a b#1.png", "image", 0, "a red circle", columns, exact=True)


def test_a_root_of_before_vectors_were_stored_is_searched_as_it_is(tmp_path: Path) -> None:
    store = make_root(tmp_path, [Row("a", unit(0)), Row("b", unit(90))])
    manifest = tmp_path / layout.generation(1)
    record = msgspec.json.decode(manifest.read_bytes())
    assert record["request"]["index"].pop("refine") == "none" and record["format_version"] == 2
    manifest.write_bytes(msgspec.json.encode(record))
    assert keys(Searcher.open(store).search(EAST, 2)[0]) == ["a", "b"]


def test_a_query_whose_products_would_overflow_is_refused(tmp_path: Path) -> None:
    store = make_root(tmp_path, [Row("a", (1, 0))], normalize=False)
    with pytest.raises(UsageError, match=r"a query cannot be searched: the vector's squared norm is above 1e\+30"):
        Searcher.open(store).search(np.array([[3e38, 0]], np.float32), 1)
    assert Searcher.open(store).search(np.array([[1e14, 0]], np.float32), 1)[0][0].score == pytest.approx(1e14)
    normalised = make_root(tmp_path / "unit", [Row("a", (1, 0))])
    assert Searcher.open(normalised).search(np.array([[3e38, 0]], np.float32), 1)[0][0].score == pytest.approx(1)


def test_the_identical_pair_shares_the_top(tmp_path: Path) -> None:
    rows = [Row("other", unit(40)), Row("twin-b", unit(0)), Row("twin-a", unit(0))]
    first, second, third = Searcher.open(make_root(tmp_path, rows)).search(EAST, 3)[0]
    assert first.score == second.score > third.score
    assert (first.id, second.id) == (1, 2)


@pytest.mark.parametrize("k", [1, 2, 7, 30])
def test_ties_at_the_cut_go_by_id_across_shards(tmp_path: Path, k: int) -> None:
    shards = [[Row(f"s{shard}-{row}", unit(0)) for row in range(20)] for shard in range(3)]
    hits = Searcher.open(make_root(tmp_path, *shards, key="IVF2,Flat", train_on=_plane(100))).search(EAST, k)[0]
    assert [hit.id for hit in hits] == [(n // 20 << 16) + n % 20 for n in range(k)]


def test_equal_rows_take_two_looks_however_many_there_are(tmp_path: Path) -> None:
    """Those with the lowest ids are found by looking once more, and not by looking at all of them."""
    root = make_root(tmp_path, [Row(f"s{row}", unit(0)) for row in range(3000)], key="IVF2,Flat", train_on=_plane(100))
    trace = Trace()
    (hits,) = Searcher.open(root).search(EAST, 10, trace=trace)
    assert [hit.id for hit in hits] == [*range(10)]
    assert trace.looks == 2 and trace.codes == 6000 and trace.vectors == 0


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_a_nearer_row_behind_equal_ones_takes_the_place_of_the_last(tmp_path: Path, metric: Metric) -> None:
    rows = [*(Row(f"k{row:02}", unit(20)) for row in range(10)), Row("near", unit(1))]
    root = make_root(tmp_path, rows, key="IVF1,Flat", metric=metric)
    assert keys(Searcher.open(root).search(EAST, 3)[0]) == ["near", "k00", "k01"]


def test_an_item_with_several_rows_is_found_once_by_its_nearest(tmp_path: Path) -> None:
    rows = [Row("a", unit(50)), Row("b", unit(30)), Row("a", unit(20), "text", caption="near")]
    rows += [Row("b", unit(5), "keyword", 0, "one"), *(Row("b", unit(1), "keyword", n, f"w{n}") for n in range(1, 40))]
    hits = Searcher.open(make_root(tmp_path, rows)).search(EAST, 2)[0]
    assert [(hit.key, hit.modality, hit.part) for hit in hits] == [("b", "keyword", 1), ("a", "text", 0)]


@pytest.mark.parametrize("key", ["IVF1,Flat", "IVF4,Flat", "PCA2,IVF2,Flat"])
def test_a_modality_finds_only_its_rows(tmp_path: Path, key: str) -> None:
    first = [Row(f"i{n}", unit(3 * n)) for n in range(20)] + [Row(f"t{n}", unit(n), "text") for n in range(20)]
    second = [Row("j0", unit(1)), Row("w0", unit(0.1), "keyword"), Row("w1", unit(0.2), "keyword")]
    searcher = Searcher.open(make_root(tmp_path, first, [], second, key=key, train_on=_plane(200)))
    assert {hit.modality for hit in searcher.search(EAST, 100, modality="image")[0]} == {"image"}
    assert len(searcher.search(EAST, 100, modality="image")[0]) == 21
    assert sorted(keys(searcher.search(EAST, 100, modality="text")[0])) == sorted(f"t{n}" for n in range(20))
    assert keys(searcher.search(EAST, 100, modality="keyword")[0]) == ["w0", "w1"]
    assert len(searcher.search(EAST, 100)[0]) == 43


@pytest.mark.parametrize("deltas", [(), [[1]]])
def test_lists_of_another_kind_are_not_probed(tmp_path: Path, deltas: list[list[int]]) -> None:
    """Texts lie between 0 and 60 degrees, pictures between 120 and 180: a text's nearest lists hold texts only."""
    shards = [
        [Row(f"i{shard}-{n}", unit(120 + n)) for n in range(60)]
        + [Row(f"t{shard}-{n}", unit(n), "text") for n in range(60)]
        for shard in range(2)
    ]
    store = make_root(tmp_path, *shards, key="IVF12,Flat", train_on=_plane(400), deltas=deltas, dead={0, 1})
    hits = Searcher.open(store).search(EAST, 3, nprobe=1, modality="image")[0]
    assert keys(hits) == ["i1-0", "i1-1", "i0-2"]


def test_a_modality_that_is_not_there_finds_nothing(tmp_path: Path) -> None:
    assert Searcher.open(make_root(tmp_path, fan(5))).search(EAST, 3, modality="keyword") == [[]]


def test_asking_for_more_than_there_is_finds_everything_once(tmp_path: Path) -> None:
    store = make_root(tmp_path, fan(30), fan(0), key="IVF4,Flat", train_on=_plane(200))
    assert keys(Searcher.open(store).search(EAST, 10**9)[0]) == [f"k{n:03}" for n in range(30)]


def test_without_nprobe_lists_are_probed_until_there_are_k(tmp_path: Path) -> None:
    store = make_root(tmp_path, fan(200), key="IVF16,Flat", nprobe=1)
    searcher = Searcher.open(store)
    assert len(searcher.search(EAST, 150)[0]) == 150
    assert len(searcher.search(EAST, 150, nprobe=1)[0]) < 150


def test_a_graph_of_lists_finds_what_there_is_from_few_lists_on_to_all(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    base = rng.normal(size=(1500, 8)).astype(np.float32)
    rows = [Row(f"k{n}", vector.tolist(), "image" if n % 2 else "text") for n, vector in enumerate(base)]
    rows.sort(key=lambda row: row.modality)
    flat = Searcher.open(make_root(tmp_path / "flat", rows, key="IVF300,Flat"))
    graph = Searcher.open(make_root(tmp_path / "graph", rows, key="IVF300_HNSW32,Flat"))
    queries = rng.normal(size=(20, 8)).astype(np.float32)
    for nprobe in (4, 300):
        expected, found = (one.search(queries, 10, nprobe) for one in (flat, graph))
        shares = [len(set(keys(a)) & set(keys(b))) / 10 for a, b in zip(expected, found, strict=True)]
        assert np.mean(shares) > 0.99
    assert len(graph.search(queries[:1], 1500)[0]) == 1500
    assert {hit.modality for hit in graph.search(queries[:1], 1500, modality="text")[0]} == {"text"}


def test_all_lists_probed_equal_an_exact_search(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    base = rng.normal(size=(500, 16)).astype(np.float32)
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    rows = [Row(f"k{n}", vector.tolist()) for n, vector in enumerate(base)]
    searcher = Searcher.open(make_root(tmp_path, rows[:200], rows[200:], key="IVF8,Flat"))
    queries = rng.normal(size=(20, 16)).astype(np.float32)
    truth = np.argsort(-queries @ base.T, axis=1)[:, :10]
    assert [keys(hits) for hits in searcher.search(queries, 10, nprobe=8)] == [[f"k{n}" for n in row] for row in truth]


def test_more_lists_than_there_are_are_all_of_them(tmp_path: Path) -> None:
    searcher = Searcher.open(make_root(tmp_path, fan(50), key="IVF4,Flat"))
    assert searcher.search(EAST, 5, nprobe=10**6) == searcher.search(EAST, 5, nprobe=4)


def test_a_query_is_answered_alike_alone_and_among_others(tmp_path: Path) -> None:
    searcher = Searcher.open(make_root(tmp_path, fan(200), key="IVF16,Flat", nprobe=2))
    queries = np.array([unit(angle) for angle in range(0, 180, 9)], np.float32)
    together = [keys(hits) for hits in searcher.search(queries, 15)]
    assert together == [keys(searcher.search(query[None], 15)[0]) for query in queries]


def test_the_length_of_a_query_does_not_matter_when_the_root_is_normalised(tmp_path: Path) -> None:
    searcher = Searcher.open(make_root(tmp_path, fan(20)))
    for length in (1e-30, 3.0, 1e30):
        scores = [hit.score for hit in searcher.search(EAST * np.float32(length), 3)[0]]
        assert scores == pytest.approx([hit.score for hit in searcher.search(EAST, 3)[0]], abs=1e-6)


def test_no_query_is_no_answer(tmp_path: Path) -> None:
    assert Searcher.open(make_root(tmp_path, fan(5))).search(np.empty((0, 2), np.float32), 3) == []


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ([[0.0, 0.0]], "zero"),
        ([[np.nan, 1.0]], "not finite"),
        ([[np.inf, 1.0]], "not finite"),
        ([[1.0, 2.0, 3.0]], r"\(1, 3\).*\(queries, 2\)"),
        ([1.0, 2.0], r"\(2,\).*\(queries, 2\)"),
    ],
)
def test_a_query_that_cannot_be_searched_says_why(tmp_path: Path, query: list[object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Searcher.open(make_root(tmp_path, fan(5))).search(np.array(query, np.float32), 3)


@pytest.mark.parametrize(("k", "nprobe"), [(0, None), (-1, None), (3, 0)])
def test_k_and_nprobe_are_at_least_one(tmp_path: Path, k: int, nprobe: int | None) -> None:
    with pytest.raises(UsageError, match="1 or more"):
        Searcher.open(make_root(tmp_path, fan(5))).search(EAST, k, nprobe)


def test_an_earlier_generation_can_be_opened(tmp_path: Path) -> None:
    make_root(tmp_path, fan(3))
    store = make_root(tmp_path, fan(9), number=2)
    assert Searcher.open(store).generation.generation == 2
    assert Searcher.open(store, 1).generation.totals.vectors == 3
    with pytest.raises(UsageError, match="no generation 5, only 1, 2"):
        Searcher.open(store, 5)


def test_a_root_on_an_object_store_is_searched_from_memory(tmp_path: Path) -> None:
    local = make_root(tmp_path, fan(20))
    filesystem = fsspec.filesystem("memory")
    filesystem.put(str(tmp_path), f"/{tmp_path.name}", recursive=True)
    try:
        far = Searcher.open(Store.at(f"memory://{tmp_path.name}"))
        assert far.search(EAST, 5) == Searcher.open(local).search(EAST, 5)
    finally:
        filesystem.rm(f"/{tmp_path.name}", recursive=True)


def test_a_root_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        Searcher.open(Store.at(str(tmp_path / "nowhere")))


def test_a_root_without_a_generation_names_the_way_to_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="pixdex build --root"):
        Searcher.open(Store.at(str(tmp_path)))


def test_an_index_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    store = make_root(tmp_path, fan(50))
    file = next(tmp_path.glob("index/*/index.faiss"))
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(PixdexError, match=r"has \d+ bytes, generation 1 names \d+"):
        Searcher.open(store)


def test_a_missing_index_is_named(tmp_path: Path) -> None:
    store = make_root(tmp_path, fan(50))
    next(tmp_path.glob("index/*/index.faiss")).unlink()
    with pytest.raises(PixdexError, match=r"index\.faiss is missing"):
        Searcher.open(store)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    store = make_root(tmp_path, fan(50))
    next(tmp_path.glob("embeddings/*/*.parquet")).unlink()
    with pytest.raises(PixdexError, match=r"\.parquet is missing"):
        Searcher.open(store).search(EAST, 3)


def test_searching_imports_neither_torch_nor_beam() -> None:
    code = "import sys, transforms.search.searcher; print([m for m in ('torch', 'apache_beam') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _plane(count: int) -> NDArray[np.float32]:
    """Directions all around, to train lists on."""
    return np.array([unit(360 * n / count) for n in range(count)], np.float32)


def test_rows_of_a_kind_stand_together_and_ready_embeddings_count_the_rejected_too() -> None:
    own = {"rows": 9, "images": 2, "texts": 3, "keywords": 4, "ready": None}
    assert [rows_of(own, kind) for kind in MODALITIES] == [slice(0, 2), slice(2, 5), slice(5, 9)]
    texts = VectorRange("file:///a.npy", "npy", 5, 15, "stat:1", modality="text")
    ready = {"rows": 7, "images": 0, "texts": 7, "keywords": 0, "ready": asdict(texts)}
    assert [rows_of(ready, kind) for kind in MODALITIES] == [slice(0, 0), slice(0, 10), slice(10, 10)]
    pairs = ready | {"ready": asdict(replace(texts, modality="image", text_uri="file:///b.npy"))}
    assert [rows_of(pairs, kind) for kind in MODALITIES] == [slice(0, 10), slice(10, 20), slice(20, 20)]
    assert rows_of(pairs, None) == slice(0, 20)


@pytest.mark.parametrize("key", ["IVF4,PQ8x4", "IVF2,RaBitQ", "RR,IVF4,PQ4x4"])
def test_fast_scan_finds_what_a_scan_finds_also_of_one_kind(tmp_path: Path, key: str) -> None:
    rng = np.random.default_rng(7)
    base = rng.normal(size=(600, 16)).astype(np.float32)
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    rows = [Row(f"k{n}", vector.tolist(), "image" if n < 400 else "text") for n, vector in enumerate(base)]
    store = make_root(tmp_path, rows, key=key)
    plain, fast = Searcher.open(store), Searcher.open(store, fast_scan=True)
    for modality in (None, "text"):
        slow_hits, fast_hits = (one.search(base[:30], 10, 4, modality) for one in (plain, fast))
        for slow, quick in zip(slow_hits, fast_hits, strict=True):
            assert len(set(keys(slow)) & set(keys(quick))) >= 7
            assert [hit.score for hit in quick] == pytest.approx([hit.score for hit in slow], abs=0.05)
            assert {hit.modality for hit in quick} <= ({"text"} if modality else {"image", "text"})


def test_codes_that_cannot_be_scanned_fast_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="IVF1,Flat cannot be scanned fast"):
        Searcher.open(make_root(tmp_path, fan(5)), fast_scan=True)

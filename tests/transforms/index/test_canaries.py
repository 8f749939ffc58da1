"""Canaries: the recall of an index within a universe of rows, without the index."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.products import round_by_place
from tests.transforms.index import small_training
from transforms.errors import PixdexError
from transforms.generations.tombstones import Tombstones
from transforms.index import canaries
from transforms.index.canaries import Canaries
from transforms.index.encode import encode_batches
from transforms.index.open_trained import OpenTrained, open_trained
from transforms.index.scan import search_lists
from transforms.index.training.figures import CANARY_NEIGHBOURS as NEAR
from transforms.index.training.sampling import in_sample
from transforms.records import Metric
from transforms.shards.vectors import VectorBatch
from transforms.storage.store import Store

DIM = 16
CASES: list[tuple[str, Metric]] = [
    ("IVF1,Flat", "ip"),
    ("IVF4,Flat", "ip"),
    ("IVF4,Flat", "l2"),
    ("IVF1,Flat", "l1"),
    ("IVF32_HNSW8,SQ8", "l2"),
    ("OPQ4_8,IVF4,PQ4x4np", "l2"),
    ("OPQ4_8,IVF4,PQ4x4np", "ip"),
]


def vectors(rows: int, seed: int = 1) -> NDArray[np.float32]:
    """Vectors of length 1 that float16 can store."""
    found = np.random.default_rng(seed).standard_normal((rows, DIM)).astype(np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found.astype(np.float16).astype(np.float32)


def batch(rows: int, first: int = 0, seed: int = 1) -> VectorBatch:
    """Rows with ids from `first` on."""
    return VectorBatch(first + np.arange(rows), vectors(rows, seed))


def some(whole: VectorBatch, wanted: NDArray[np.bool_]) -> VectorBatch:
    return VectorBatch(whole.ids[wanted], whole.vectors[wanted])


def joined(*parts: VectorBatch) -> VectorBatch:
    return VectorBatch(np.concatenate([one.ids for one in parts]), np.concatenate([one.vectors for one in parts]))


@pytest.fixture(scope="module")
def opened_by_case(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, Metric], OpenTrained]:
    """A trained index of every kind."""
    store = Store.at(str(tmp_path_factory.mktemp("trained")))
    trained = {case: small_training.train(store, *case, vectors(1500, 0)).trained for case in CASES}
    return {case: open_trained(store, one) for case, one in trained.items()}


@pytest.fixture(params=CASES, ids=" ".join)
def case(request: pytest.FixtureRequest) -> tuple[str, Metric]:
    chosen: tuple[str, Metric] = request.param
    return chosen


@pytest.fixture
def metric(case: tuple[str, Metric]) -> Metric:
    return case[1]


@pytest.fixture
def opened(case: tuple[str, Metric], opened_by_case: dict[tuple[str, Metric], OpenTrained]) -> OpenTrained:
    return opened_by_case[case]


@pytest.fixture
def plain(opened_by_case: dict[tuple[str, Metric], OpenTrained]) -> OpenTrained:
    """Four lists, whole vectors, squared distances."""
    return opened_by_case["IVF4,Flat", "l2"]


def make(
    opened: OpenTrained, universe: VectorBatch, asked: VectorBatch, metric: Metric = "l2", nprobe: int = 2
) -> Canaries:
    return canaries.make(opened, universe, asked, metric, seed=7, share=0.5, nprobe=nprobe, workers=2)


def distances(queries: NDArray[Any], rows: NDArray[np.float32], metric: Metric) -> NDArray[np.float64]:
    """As a person would write them, float64 `(q, n)`."""
    asked, known = queries.astype(np.float64)[:, None], rows.astype(np.float64)[None]
    parts = {"ip": -asked * known, "l2": np.square(asked - known), "l1": np.abs(asked - known)}
    found: NDArray[np.float64] = parts[metric].sum(axis=2)
    return found


def assert_same_neighbours(one: Canaries, other: Canaries) -> None:
    np.testing.assert_allclose(one.near_distances, other.near_distances, rtol=0, atol=1e-5)
    differ = one.near_ids != other.near_ids
    # The last bits of a distance depend on the shape of a product, so that neighbours that tie may change places.
    for query, place in np.argwhere(differ).tolist():
        tied = np.isclose(other.near_distances[query], one.near_distances[query, place], rtol=0, atol=1e-5)
        assert tied.sum() > 1


def whole_index(opened: OpenTrained, rows: VectorBatch) -> Any:
    """The trained index with all rows added, as faiss has it."""
    index: Any = faiss.clone_index(opened.index)
    made = encode_batches(opened.index, [rows], opened.assign)
    inner: Any = faiss.downcast_index(faiss.extract_index_ivf(index))
    for number in range(inner.nlist):
        members = np.flatnonzero(made.list_nos == number)
        ids, codes = np.ascontiguousarray(made.ids[members]), np.ascontiguousarray(made.codes[members])
        if len(members):
            inner.invlists.add_entries(number, len(members), faiss.swig_ptr(ids), faiss.swig_ptr(codes))
    inner.ntotal = index.ntotal = len(rows.ids)
    return index


def recall_of_whole(index: Any, rows: VectorBatch, universe: VectorBatch, asked: VectorBatch, metric: Metric) -> float:
    """Recall@10 of a search of all rows that may only find those of the universe."""
    allowed = np.zeros(int(rows.ids.max()) // 8 + 1, np.uint8)
    np.bitwise_or.at(allowed, universe.ids >> 3, (1 << (universe.ids & 7)).astype(np.uint8))
    _, found = search_lists(index, asked.vectors, 11, 2, allowed)
    exact = distances(asked.vectors, universe.vectors, metric)
    exact[asked.ids[:, None] == universe.ids] = np.inf
    near = universe.ids[np.argsort(exact, axis=1, kind="stable")[:, :10]]
    hits = [np.isin(row[row != own][:10], best).sum() for row, own, best in zip(found, asked.ids, near, strict=True)]
    return float(np.sum(hits)) / (10 * len(asked.ids))


def test_recall_within_the_universe_is_that_of_the_whole_index(opened: OpenTrained, metric: Metric) -> None:
    rows = batch(2000)
    universe = some(rows, in_sample(rows.ids, 7, 0.3))
    asked = some(rows, rows.ids % 20 == 0)
    made = make(opened, universe, asked, metric)
    expected = recall_of_whole(whole_index(opened, rows), rows, universe, asked, metric)
    assert made.recall_trained == canaries.recall(made, opened)
    assert made.recall_trained == pytest.approx(expected, abs=0.002)
    assert 0 < made.recall_trained <= 1


def test_an_index_of_whole_vectors_finds_everything_where_all_lists_are_probed(
    opened_by_case: dict[tuple[str, Metric], OpenTrained],
) -> None:
    for key, metric in CASES:
        if "Flat" in key:
            rows = batch(500)
            assert make(opened_by_case[key, metric], rows, rows, metric, nprobe=4).recall_trained == 1


def test_fewer_lists_find_less(plain: OpenTrained) -> None:
    rows = batch(1500)
    found = [make(plain, rows, batch(200), nprobe=nprobe).recall_trained for nprobe in (1, 2, 4)]
    assert found[0] < found[1] < found[2] == 1


def test_neighbours_are_the_nearest_of_the_universe_but_for_the_query_itself(
    opened: OpenTrained, metric: Metric
) -> None:
    universe, asked = batch(400), batch(30)
    made = make(opened, universe, asked, metric)
    exact = distances(asked.vectors, universe.vectors, metric)
    exact[np.arange(30), np.arange(30)] = np.inf
    assert made.near_ids.shape == made.near_distances.shape == (30, NEAR)
    assert made.near_ids.dtype == np.int64 and made.near_distances.dtype == np.float32
    assert not (made.near_ids == made.query_ids[:, None]).any()
    np.testing.assert_allclose(made.near_distances, np.sort(exact, axis=1)[:, :NEAR], atol=1e-5)
    np.testing.assert_allclose(made.near_distances, np.take_along_axis(exact, made.near_ids, 1), atol=1e-5)
    assert (np.sort(made.near_ids, axis=1)[:, 1:] != np.sort(made.near_ids, axis=1)[:, :-1]).all()


def test_no_more_than_a_thousand_rows_are_asked(plain: OpenTrained) -> None:
    made = make(plain, batch(50), batch(1200))
    assert made.query_ids.tolist() == list(range(1000)) and made.queries.shape == (1000, DIM)


def test_a_universe_that_grew_has_the_neighbours_of_one_that_was_made_whole(
    opened: OpenTrained, metric: Metric
) -> None:
    first, second, third = batch(300), batch(5000, 10_000, 2), batch(40, 400, 3)
    asked = batch(50)
    before = make(opened, first, asked, metric)
    grown = canaries.grown(before, opened, [second, third], Tombstones(), metric, workers=1)
    whole = make(opened, joined(first, third, second), asked, metric)
    np.testing.assert_array_equal(grown.ids, whole.ids)
    np.testing.assert_array_equal(grown.list_nos, whole.list_nos)
    np.testing.assert_array_equal(grown.codes, whole.codes)
    assert_same_neighbours(grown, whole)
    assert canaries.recall(grown, opened) == pytest.approx(canaries.recall(whole, opened), abs=0.005)
    assert grown.recall_trained == before.recall_trained


def test_of_rows_that_are_equally_near_those_with_the_lowest_ids_are_neighbours(plain: OpenTrained) -> None:
    same = np.tile(np.eye(1, DIM, dtype=np.float32), (300, 1))
    low, high = VectorBatch(np.arange(300), same), VectorBatch(np.arange(1000, 1300), same)
    before = make(plain, high, VectorBatch(high.ids[:2], same[:2]))
    assert before.near_ids.tolist() == [[1001, *range(1002, 1101)], [1000, *range(1002, 1101)]]
    grown = canaries.grown(before, plain, [low], Tombstones(), "l2", workers=1)
    assert grown.near_ids.tolist() == [list(range(100))] * 2


def test_a_query_that_joins_the_universe_is_not_its_own_neighbour(plain: OpenTrained) -> None:
    asked = batch(10, 1000, 5)
    grown = canaries.grown(make(plain, batch(200), asked), plain, [asked], Tombstones(), "l2", workers=1)
    assert not (grown.near_ids == grown.query_ids[:, None]).any()
    assert set(asked.ids.tolist()) <= set(grown.ids.tolist())


def test_dead_rows_leave_the_universe_and_are_nobodys_neighbours(opened: OpenTrained, metric: Metric) -> None:
    rows, asked = batch(300), batch(20)
    dead = np.flatnonzero(np.random.default_rng(3).random(300) < 0.5)
    left = canaries.grown(make(opened, rows, asked, metric), opened, [], Tombstones.of(dead), metric, workers=1)
    alive = np.setdiff1d(rows.ids, dead)
    np.testing.assert_array_equal(left.ids, alive)
    assert not np.isin(left.near_ids, dead).any()
    # What stays is in order, nearest first, and behind it nothing.
    whole = make(opened, some(rows, ~np.isin(rows.ids, dead)), asked, metric)
    np.testing.assert_array_equal(left.codes, whole.codes)
    for mine, theirs in zip(left.near_ids, whole.near_ids, strict=True):
        count = int((mine >= 0).sum())
        assert count >= 10 and (mine[count:] == -1).all()
        np.testing.assert_array_equal(mine[:count], theirs[:count])


def test_rows_may_die_and_join_at_once(plain: OpenTrained) -> None:
    dead = Tombstones.of(np.arange(0, 300, 3))
    before = make(plain, batch(300), batch(20))
    grown = canaries.grown(before, plain, [batch(100, 300, 4)], dead, "l2", workers=1)
    step = canaries.grown(before, plain, [], dead, "l2", workers=1)
    step = canaries.grown(step, plain, [batch(100, 300, 4)], Tombstones(), "l2", workers=1)
    assert_equal(grown, step)


def assert_equal(one: Canaries, other: Canaries) -> None:
    for field in fields(Canaries):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        np.testing.assert_array_equal(mine, theirs, err_msg=field.name)


def test_nothing_new_and_nothing_dead_change_nothing(opened: OpenTrained, metric: Metric) -> None:
    made = make(opened, batch(200), batch(20), metric)
    for batches in ([], [batch(0)]):
        assert_equal(canaries.grown(made, opened, batches, Tombstones(), metric, workers=1), made)


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_a_few_rows_have_neighbours_but_no_recall(opened: OpenTrained, metric: Metric, rows: int) -> None:
    made = make(opened, batch(rows), batch(rows), metric)
    assert made.ids.tolist() == list(range(rows))
    assert made.near_ids.shape == (rows, NEAR)
    assert ((made.near_ids >= 0).sum(axis=1) == max(0, rows - 1)).all()
    assert np.isinf(made.near_distances[made.near_ids < 0]).all()
    assert canaries.recall(made, opened) is None and made.recall_trained == 0


def test_queries_that_lost_too_many_neighbours_do_not_count(plain: OpenTrained) -> None:
    rows = batch(11)
    made = make(plain, rows, rows, nprobe=4)
    assert canaries.recall(made, plain) == 1
    fewer = canaries.grown(made, plain, [], Tombstones.of(np.array([4])), "l2", workers=1)
    # Only the query that died still has ten others.
    assert ((fewer.near_ids >= 0).sum(axis=1) == [9] * 4 + [10] + [9] * 6).all()
    assert canaries.recall(fewer, plain) == 1


def test_neighbours_stay_the_nearest_while_rows_come_and_go(plain: OpenTrained) -> None:
    asked, alive = batch(50, 50_000, 9), batch(1000)
    made = make(plain, alive, asked, nprobe=4)
    chance = np.random.default_rng(0)
    for night in range(40):
        dead = alive.ids[chance.random(len(alive.ids)) < 0.1]
        elsewhere = vectors(60, 100 + night) + np.float32(night / 80)
        elsewhere /= np.linalg.norm(elsewhere, axis=1, keepdims=True)
        new = VectorBatch(10_000 + 60 * night + np.arange(60), elsewhere)
        made = canaries.grown(made, plain, [new], Tombstones.of(dead), "l2", workers=1)
        alive = joined(some(alive, ~np.isin(alive.ids, dead)), new)
    exact = np.sort(distances(asked.vectors, alive.vectors, "l2"), axis=1)[:, :10]
    asked_still = canaries.countable(made)
    assert 0 < len(asked_still) < 50
    np.testing.assert_allclose(made.near_distances[asked_still, :10], exact[asked_still], atol=1e-5)
    # All lists of whole vectors: nothing is missed.
    assert canaries.recall(made, plain) == 1


def test_rows_behind_dead_neighbours_are_not_taken_for_the_nearest(plain: OpenTrained) -> None:
    # Rows 101 to 199 are nearer than those that join, but were too far to be listed.
    line = np.zeros((500, DIM), np.float32)
    line[:, 0] = np.arange(500) / 64
    old, query = VectorBatch(np.arange(1, 200), line[1:200]), VectorBatch(np.array([9000]), line[:1])
    far = VectorBatch(np.arange(300, 400), line[300:400])
    left = canaries.grown(make(plain, old, query), plain, [], Tombstones.of(np.arange(1, 96)), "l2", workers=1)
    assert left.near_ids[0, :6].tolist() == [96, 97, 98, 99, 100, -1]
    grown = canaries.grown(left, plain, [far], Tombstones(), "l2", workers=1)
    assert grown.near_ids[0, :6].tolist() == [96, 97, 98, 99, 100, -1]
    assert canaries.recall(grown, plain) is None
    near = VectorBatch(np.arange(400, 410), line[:10])
    again = canaries.grown(grown, plain, [near], Tombstones(), "l2", workers=1)
    assert again.near_ids[0, :16].tolist() == [*range(400, 410), 96, 97, 98, 99, 100, -1]


@pytest.mark.parametrize("rows_a_batch", [1, 7, 333])
def test_how_rows_are_bundled_changes_no_bit(opened: OpenTrained, metric: Metric, rows_a_batch: int) -> None:
    before, new = make(opened, batch(300), batch(30), metric), batch(400, 1000, 8)
    cuts = np.array_split(np.arange(400), np.arange(rows_a_batch, 400, rows_a_batch))
    parts = [VectorBatch(new.ids[cut], new.vectors[cut]) for cut in cuts]
    whole = canaries.grown(before, opened, [new], Tombstones(), metric, workers=1)
    bundled = canaries.grown(before, opened, parts, Tombstones(), metric, workers=1)
    if round_by_place():
        np.testing.assert_allclose(bundled.near_distances, whole.near_distances, rtol=0, atol=2e-6)
        bundled = replace(bundled, near_distances=whole.near_distances)
    assert_equal(bundled, whole)


def test_asking_leaves_the_index_as_it_was(opened: OpenTrained, metric: Metric) -> None:
    made = make(opened, batch(200), batch(30), metric)
    inner: Any = faiss.downcast_index(faiss.extract_index_ivf(opened.index))
    before = faiss.serialize_index(opened.index)
    once, twice = canaries.recall(made, opened), canaries.recall(made, opened)
    assert once == twice
    assert opened.index.ntotal == inner.ntotal == 0
    assert sum(inner.invlists.list_size(number) for number in range(inner.nlist)) == 0
    np.testing.assert_array_equal(faiss.serialize_index(opened.index), before)


@pytest.mark.parametrize("exact", [True, False], ids=["float16", "float32"])
def test_they_are_stored_as_they_are_and_equal_ones_once(tmp_path: Path, plain: OpenTrained, *, exact: bool) -> None:
    store = Store.at(str(tmp_path))
    made = make(plain, batch(300), batch(40))
    if not exact:
        made = replace(made, queries=made.queries + np.float32(1e-5))
    file = canaries.save(store, "abc", made)
    again = canaries.load(store, file)
    assert_equal(again, made)
    assert again.queries.dtype == (np.float16 if exact else np.float32)
    assert file.path.startswith("trained/abc/canaries")
    assert canaries.save(store, "abc", again) == file
    assert canaries.recall(again, plain) == made.recall_trained
    assert_equal(
        canaries.grown(again, plain, [batch(30, 500, 2)], Tombstones.of(np.array([3])), "l2", workers=1),
        canaries.grown(made, plain, [batch(30, 500, 2)], Tombstones.of(np.array([3])), "l2", workers=1),
    )


def test_a_universe_without_rows_is_stored_too(tmp_path: Path, plain: OpenTrained) -> None:
    store = Store.at(str(tmp_path))
    made = make(plain, batch(0), batch(0))
    assert_equal(canaries.load(store, canaries.save(store, "abc", made)), made)


def test_a_damaged_or_missing_file_is_named(tmp_path: Path, plain: OpenTrained) -> None:
    store = Store.at(str(tmp_path))
    file = canaries.save(store, "abc", make(plain, batch(50), batch(5)))
    path = store.local_path(file.path)
    data = path.read_bytes()
    for damaged in (data[:-1], b"", data[:-1] + bytes([data[-1] ^ 1])):
        path.write_bytes(damaged)
        with pytest.raises(PixdexError, match=f"{file.path} is damaged"):
            canaries.load(store, file)
    path.unlink()
    with pytest.raises(PixdexError, match=file.path):
        canaries.load(store, file)


def test_the_residual_of_whole_vectors_is_nothing_and_that_of_codes_a_share_of_their_norm(
    opened_by_case: dict[tuple[str, Metric], OpenTrained],
) -> None:
    assert canaries.residual(opened_by_case["IVF4,Flat", "l2"], vectors(300)) == 0
    case: tuple[str, Metric] = ("OPQ4_8,IVF4,PQ4x4np", "l2")
    opened = opened_by_case[case]
    near, far = canaries.residual(opened, vectors(300)), canaries.residual(opened, 5 + vectors(300))
    assert 0 < near < 1 and far > near


def test_the_residual_is_the_one_that_training_measures(tmp_path: Path, case: tuple[str, Metric]) -> None:
    sample, store = vectors(1500, 0), Store.at(str(tmp_path))
    made = small_training.train(store, *case, sample, held_out=300)
    expected = made.assembled.held_out_residual
    assert canaries.residual(open_trained(store, made.trained), sample[-300:]) == pytest.approx(expected, rel=1e-6)


def test_vectors_without_a_norm_have_no_residual(opened: OpenTrained) -> None:
    for rows in (0, 5):
        assert canaries.residual(opened, np.zeros((rows, DIM), np.float32)) == 0


def test_every_vector_is_in_the_list_where_it_is_added(opened: OpenTrained) -> None:
    rows = batch(300)
    made = encode_batches(opened.index, [rows], opened.assign)
    np.testing.assert_array_equal(canaries.lists_of(opened, rows.vectors), made.list_nos)

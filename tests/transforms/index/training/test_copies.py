"""Equal rows: one of them is trained on, with the weight of all; lists are for rows that differ."""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.examples import costly
from tests.transforms.index import small_training
from transforms.index.training import figures
from transforms.index.training.copies import Copies, content_hashes
from transforms.records import Metric
from transforms.storage.store import Store

Vectors = NDArray[np.float32]
NPROBE = 4
DISTANCES = (0.02, 0.1, 0.3, 1.0)
METRICS = pytest.mark.parametrize("metric", ["l2", "ip"])


def with_a_tile(rows: int, dim: int, share: float, metric: str, tiles: int = 1, seed: int = 0) -> Vectors:
    """Random rows of which a share is equal to the first, or to one of the first few."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((rows, dim)).astype(np.float32)
    if metric == "ip":
        faiss.normalize_L2(vectors)
    equal = np.flatnonzero(rng.random(rows) < share)
    vectors[equal] = vectors[equal % tiles]
    return vectors


def filled(store: Store, key: str, metric: Metric, vectors: Vectors) -> Any:
    index: Any = small_training.train(store, key, metric, vectors, held_out=0).assembled.index
    index.add(vectors)
    return index


def centroids_and_sizes(index: Any) -> tuple[Vectors, NDArray[np.int64]]:
    sizes = np.array([index.invlists.list_size(number) for number in range(index.nlist)])
    return index.quantizer.reconstruct_n(0, index.nlist), sizes


def recall_near(index: Any, vectors: Vectors, metric: str, distance: float) -> float:
    """Share of the ten nearest, whichever of equally near ones, for queries at a distance from the tile."""
    rng = np.random.default_rng(1)
    aside = rng.standard_normal((100, vectors.shape[1])).astype(np.float32)
    queries = vectors[:1] + distance * aside / np.linalg.norm(aside, axis=1, keepdims=True)
    if metric == "ip":
        faiss.normalize_L2(queries)
    exact = faiss.index_factory(vectors.shape[1], "Flat", index.metric_type)
    exact.add(vectors)
    tenth = exact.search(queries, 10)[0][:, -1:]
    index.nprobe = NPROBE
    found = index.search(queries, 10)[0]
    return float((found <= tenth + 1e-5 if metric == "l2" else found >= tenth - 1e-5).mean())


@METRICS
@pytest.mark.parametrize("share", [0.1, 0.3, 0.8])
@pytest.mark.parametrize("dim", [8, 32])
def test_equal_rows_take_no_lists_from_others(tmp_path: Path, metric: Metric, share: float, dim: int) -> None:
    vectors = with_a_tile(6000, dim, share, metric)
    index = filled(Store.at(str(tmp_path)), "IVF64,Flat", metric, vectors)
    stock = faiss.index_factory(dim, "IVF64,Flat", index.metric_type)
    stock.train(vectors)
    stock.add(vectors)
    centroids, sizes = centroids_and_sizes(index)

    assert len(np.unique(centroids, axis=0)) == 64
    assert (sizes == 0).sum() <= 0.01 * 64
    # Their list has the tile and a few others; the others are as even as they are without a tile.
    others = np.sort(sizes)[:-1]
    assert others.max() < 6 * others.mean()
    near = [[recall_near(one, vectors, metric, distance) for distance in DISTANCES] for one in (index, stock)]
    assert all(own >= peer - 0.01 for own, peer in zip(*near, strict=True) if peer > 0.99)
    # Farther away so few queries and lists tell two trainings no better apart than this.
    assert np.mean(near[0]) >= np.mean(near[1]) - 0.02


@METRICS
def test_two_levels_and_many_tiles_are_no_harder(tmp_path: Path, metric: Metric) -> None:
    vectors = with_a_tile(20_000, 8, 0.5, metric, tiles=40)
    centroids, sizes = centroids_and_sizes(filled(Store.at(str(tmp_path)), "IVF256,Flat", metric, vectors))

    assert len(np.unique(centroids, axis=0)) == 256
    assert (sizes == 0).sum() <= 2


@METRICS
def test_in_vectors_that_cluster_hardly_a_list_is_empty_either(tmp_path: Path, metric: Metric) -> None:
    rng = np.random.default_rng(5)
    middles = rng.standard_normal((200, 16))
    vectors = (middles[rng.integers(0, 200, 12_000)] + 0.3 * rng.standard_normal((12_000, 16))).astype(np.float32)
    vectors[rng.random(12_000) < 0.3] = vectors[0]
    centroids, sizes = centroids_and_sizes(filled(Store.at(str(tmp_path)), "IVF300,Flat", metric, vectors))

    assert len(np.unique(centroids, axis=0)) == 300
    assert (sizes == 0).sum() <= 3


@METRICS
@pytest.mark.parametrize("distinct", [1, 3, 40])
def test_fewer_rows_that_differ_than_lists_leave_lists_that_no_search_looks_into(
    tmp_path: Path, metric: Metric, distinct: int
) -> None:
    vectors = with_a_tile(4000, 8, 1, metric, tiles=distinct)
    index = filled(Store.at(str(tmp_path)), "IVF64,Flat", metric, vectors)
    centroids, sizes = centroids_and_sizes(index)
    index.nprobe = 1
    found = index.search(vectors[:distinct], 1)[1][:, 0]

    assert len(np.unique(centroids, axis=0)) == 64
    assert (sizes > 0).sum() == distinct
    assert np.array_equal(vectors[found], vectors[:distinct])
    _, probed = index.quantizer.search(vectors[:distinct], 1)
    assert (sizes[probed] > 0).all()


def test_codebooks_are_trained_on_rows_that_differ(tmp_path: Path) -> None:
    vectors = with_a_tile(4000, 8, 0.9, "l2")
    differing = Copies.found(np.arange(4000), vectors).first_of_each(vectors).copied()
    rest = vectors[1:][(vectors[1:] != vectors[0]).any(axis=1)]
    errors = []
    for sample in (vectors, differing):
        index: Any = small_training.train(
            Store.at(str(tmp_path)), "IVF8,PQ4x6", "l2", sample, held_out=0
        ).assembled.index
        decoded = index.sa_decode(index.sa_encode(rest))
        errors.append(float(((rest - decoded) ** 2).sum()))
    assert errors[0] <= 1.1 * errors[1]


@METRICS
def test_lists_say_how_many_rows_they_have_with_all_copies(tmp_path: Path, metric: Metric) -> None:
    vectors = with_a_tile(6000, 8, 0.5, metric)
    lists = small_training.train(Store.at(str(tmp_path)), "IVF64,Flat", metric, vectors, held_out=0).lists
    assert lists.counts.sum() == 6000
    assert lists.distinct.sum() == len(np.unique(vectors, axis=0))
    assert lists.counts.max() > 2900


@costly
@given(st.lists(st.integers(0, 2984), max_size=4), st.sampled_from([1, 100, 10**6]))
def test_any_cut_into_blocks_and_groups_of_cells_trains_the_same_index(cuts: list[int], group_rows: int) -> None:
    sample = with_a_tile(3000, 8, 0.4, "ip", tiles=3)
    store = Store.at("memory://copies")
    whole, cut = (
        small_training.train(store, "IVF16,PQ4x4", "ip", sample, cuts=where, group_rows=rows).trained
        for where, rows in (((), 10**6), (cuts, group_rows))
    )
    assert cut == whole


def test_many_cells_in_any_groups_train_the_same_index(tmp_path: Path) -> None:
    sample = with_a_tile(12_000, 8, 0.4, "l2", tiles=3)
    whole, cut = (
        small_training.train(Store.at(str(tmp_path)), "IVF256,Flat", "l2", sample, cuts=where, group_rows=rows)
        for where, rows in (((), figures.GROUP_ROWS), ((1, 5000, 5001), 3000))
    )
    np.testing.assert_allclose(cut.lists.centroids, whole.lists.centroids, atol=1e-5)


def test_a_row_stands_for_its_copies_and_weighs_as_much() -> None:
    vectors = np.array([[1, 2], [3, 4], [1, 2], [0, 5], [1, 2], [-0.0, 5]], np.float32)
    ids = np.array([2, 3, 5, 7, 11, 13])
    copies = Copies.found(ids, vectors)
    assert copies.are_distinct(ids, vectors).tolist() == [True, True, False, True, False, False]
    weights = copies.weights(ids)
    assert weights is not None and weights.tolist() == [3, 1, 1, 2, 1, 1]
    assert copies.first_of_each(vectors).copied().tolist() == [[1, 2], [3, 4], [0, 5]]
    assert Copies.of(copies.tensors).tensors.keys() == copies.tensors.keys()


def test_a_pilot_that_is_a_part_of_the_sample_tells_how_many_copies_there_should_be() -> None:
    vectors = np.repeat(np.array([[1, 2], [3, 4]], np.float32), [30, 1], axis=0)
    copies = Copies.found(np.arange(31), vectors, part=0.1)
    weights = copies.weights(np.arange(400))
    assert weights is not None and weights[0] == 300 and weights[1:].max() == 1


def test_without_copies_nothing_is_kept_of_them() -> None:
    vectors = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    copies = Copies.found(np.arange(50), vectors)
    assert (len(copies), copies.tensors, copies.weights(np.arange(50))) == (0, {}, None)
    assert copies.first_of_each(vectors).copied() is vectors
    assert len(Copies.of({})) == 0


@pytest.mark.parametrize(("dim", "noise"), [(8, 1e-3), (32, 1e-3), (512, 1e-3), (512, 2e-4)])
def test_rows_that_noise_tells_apart_are_nearly_all_taken_for_equal(dim: int, noise: float) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((4000, dim)).astype(np.float32)
    equal = np.arange(1, 2000)
    apart = rng.standard_normal((len(equal), dim)).astype(np.float32)
    vectors[equal] = vectors[0] + noise * apart
    copies = Copies.found(np.arange(4000), vectors, lists=64)
    distinct = copies.are_distinct(np.arange(4000), vectors)
    assert distinct[2000:].all()
    assert distinct[:2000].sum() < 400


@pytest.mark.parametrize("dim", [1, 2, 4, 16])
@pytest.mark.parametrize("spread", [1.0, 0.02])
def test_vectors_that_differ_are_no_crowd_however_they_cluster(dim: int, spread: float) -> None:
    rng = np.random.default_rng(0)
    middles = 10 + rng.standard_normal((40, dim))
    vectors = (middles[rng.integers(0, 40, 20_000)] + spread * rng.standard_normal((20_000, dim))).astype(np.float32)
    vectors = np.unique(vectors, axis=0)
    assert len(Copies.found(np.arange(len(vectors)), vectors, lists=256)) == 0


def test_whom_a_crowd_takes_in_does_not_depend_on_who_else_is_asked_for() -> None:
    vectors = np.random.default_rng(0).standard_normal((9000, 24)).astype(np.float32)
    vectors[::3] = vectors[0] + 1e-3 * vectors[::3]
    copies, ids = Copies.found(np.arange(9000), vectors, lists=64), np.arange(9000)
    assert len(copies.crowds) > 0
    whole = copies.are_distinct(ids, vectors)
    cut = [copies.are_distinct(ids[rows], vectors[rows]) for rows in (slice(0, 1), slice(1, 4100), slice(4100, 9000))]
    assert np.array_equal(np.concatenate(cut), whole)


@given(st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_hashes_are_equal_where_vectors_are(dim: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).integers(-1, 2, (60, dim)).astype(np.float32)
    hashes = content_hashes(vectors)
    same = (vectors[:, None] == vectors[None]).all(axis=2)
    assert np.array_equal(hashes[:, None] == hashes[None], same)

"""Cells of the routed sample are grouped, read as ranges and clustered on their own."""

from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.transforms.index.small_training import route, train_lists
from transforms.errors import PixdexError
from transforms.index.index_key import IndexKey
from transforms.index.training import assemble, cells, figures
from transforms.index.training.cells import (
    CellGroup,
    CellRows,
    cell_sizes,
    cells_at_once,
    cluster_cells,
    group_cells,
    read_cells,
)
from transforms.index.training.clustering import kmeans, nearest
from transforms.index.training.routing import Router
from transforms.storage.store import Store

METRICS = pytest.mark.parametrize("metric", ["ip", "l2"])


@pytest.fixture(scope="module")
def vectors() -> NDArray[np.float32]:
    generator = np.random.default_rng(3)
    centres = generator.standard_normal((160, 16)).astype(np.float32)
    found = centres[generator.integers(0, 160, 8_000)] + 0.4 * generator.standard_normal((8_000, 16), np.float32)
    unit: NDArray[np.float32] = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    return unit


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path / "root"))


def router_of(vectors: NDArray[np.float32], metric: str = "ip", key: str = "IVF256,Flat") -> Router:
    return assemble.train_parents(IndexKey.parse(key), metric, vectors, 0)


def objective(vectors: NDArray[np.float32], centroids: NDArray[np.float32]) -> float:
    """Mean squared distance to the nearest centroid."""
    return float(np.mean((vectors - centroids[nearest(vectors, centroids, spherical=False)]) ** 2))


@METRICS
def test_two_levels_and_passes_come_within_three_percent_of_flat_k_means(
    store: Store, vectors: NDArray[np.float32], metric: str
) -> None:
    flat = kmeans(vectors, 256, spherical=metric == "ip", seed=0)
    lists = train_lists(store, router_of(vectors, metric), vectors, 256)

    assert lists.centroids.shape == flat.shape
    assert objective(vectors, lists.centroids) <= 1.03 * objective(vectors, flat)
    assert lists.counts.sum() == len(vectors)


def test_spherical_lists_have_length_one(store: Store, vectors: NDArray[np.float32]) -> None:
    lists = train_lists(store, router_of(vectors), vectors, 256)
    np.testing.assert_allclose(np.linalg.norm(lists.centroids, axis=1), 1, atol=1e-5)


def test_few_lists_are_one_cell(store: Store, vectors: NDArray[np.float32]) -> None:
    router = router_of(vectors, key="IVF20,Flat")
    files = route(store, router, vectors)
    (group,) = group_cells(cell_sizes(store, files, 1), 20)
    found = cluster_cells(read_cells(store, files, group.cells, 16), group, spherical=True, seed=7)

    assert len(router.parents) == 1
    flat = kmeans(vectors, 20, spherical=True, seed=7)
    assert objective(vectors, found) <= 1.02 * objective(vectors, flat)


def test_a_cell_is_read_from_every_block_in_order_of_id(store: Store, vectors: NDArray[np.float32]) -> None:
    router = router_of(vectors)
    sample = vectors[:3000]
    cell = nearest(sample, router.parents, spherical=True)
    files = route(store, router, sample, cuts=(10, 1000))
    rows = read_cells(store, list(reversed(files)), range(3, 6), 16)

    assert np.array_equal(cell_sizes(store, files, 16), np.bincount(cell, minlength=16))
    for place, number in enumerate(range(3, 6)):
        assert np.array_equal(rows.vectors[rows.bounds[place] : rows.bounds[place + 1]], sample[cell == number])


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30).filter(any), st.integers(1, 120))
def test_every_cell_is_in_one_group_and_groups_have_the_rows_they_should(sizes: list[int], group_rows: int) -> None:
    groups = group_cells(np.array(sizes), 1, group_rows)
    rows = [sum(sizes[cell] for cell in group.cells) for group in groups]

    assert [cell for group in groups for cell in group.cells] == list(range(len(sizes)))
    assert [group.number for group in groups] == list(range(len(groups)))
    assert all(size >= group_rows for size in rows[:-1])
    assert sum(sum(group.centroids) for group in groups) == 1


def test_the_centroids_of_a_cell_do_not_depend_on_its_group(store: Store, vectors: NDArray[np.float32]) -> None:
    files = route(store, router_of(vectors), vectors)
    together, alone = CellGroup(0, 4, (7, 9)), CellGroup(3, 5, (9,))
    both, one = (
        cluster_cells(read_cells(store, files, group.cells, 16), group, spherical=True, seed=1)
        for group in (together, alone)
    )

    assert np.array_equal(both[7:], one)


def test_another_routed_file_than_the_one_referred_to_is_refused(store: Store, vectors: NDArray[np.float32]) -> None:
    one, other = route(store, router_of(vectors), vectors, cuts=(4000,))
    store.local_path(one.path).write_bytes(store.read(other.path))
    with pytest.raises(PixdexError, match=f"{one.path} is damaged or truncated: it is not the file"):
        cell_sizes(store, [one], 16)
    with pytest.raises(PixdexError, match=f"{one.path} is damaged or truncated: it is not the file"):
        read_cells(store, [one], range(1), 16)


@pytest.mark.parametrize(
    ("work", "workers", "expected"),
    [([5, 5, 5, 5], 2, 2), ([5, 5], 8, 2), ([9], 4, 1), ([9, 1, 1], 4, 1), ([0, 0], 2, 1), ([1] * 50, 4, 4)],
)
def test_a_cell_that_is_most_of_the_work_gets_all_threads(work: list[int], workers: int, expected: int) -> None:
    assert cells_at_once(np.array(work), workers) == expected


def test_few_cells_are_clustered_by_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def count(members: NDArray[np.float32], k: int, **_: object) -> NDArray[np.int64]:
        threads.append(faiss.omp_get_max_threads())
        return np.arange(len(members)) % k

    monkeypatch.setattr(cells, "lloyd", count)
    for bounds, group in (([0, 50], CellGroup(0, 0, (5,))), ([0, 10, 20, 30], CellGroup(0, 0, (2, 2, 2)))):
        rows = CellRows(np.zeros((bounds[-1], 4), np.float32), np.array(bounds), np.arange(bounds[-1]))
        cluster_cells(rows, group, spherical=True, seed=0, workers=3)
    assert threads == [3, 1, 1, 1]


@METRICS
def test_a_cell_is_clustered_by_its_components_along_the_head(metric: str) -> None:
    generator = np.random.default_rng(0)
    rows = np.zeros((600, 300), np.float32)
    rows[:, 100:102] = generator.standard_normal((3, 2))[generator.integers(0, 3, 600)] * 3
    rows += 0.01 * generator.standard_normal(rows.shape, np.float32)
    head = np.zeros((300, 2), np.float32)
    head[100, 0] = head[101, 1] = 1
    cell, group = CellRows(rows, np.array([0, 600]), np.arange(600)), CellGroup(0, 0, (3,))
    by_head, by_all = (cluster_cells(cell, group, spherical=metric == "ip", seed=0, head=some) for some in (head, None))
    assert by_head.shape == by_all.shape == (3, 300)
    assert objective(rows, by_head) <= 1.01 * objective(rows, by_all)


def test_a_group_holds_at_least_65536_rows() -> None:
    assert len(group_cells(np.full(64, 3200), 4096)) == 4
    assert figures.GROUP_ROWS == 65_536

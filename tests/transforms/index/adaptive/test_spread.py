"""The spread of lists is that of their rows: along a query as plain numpy has it, whatever the order of a sample."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from transforms.errors import PixdexError
from transforms.index.adaptive import spread
from transforms.index.adaptive.spread import Rows, Spread, make
from transforms.index.adaptive.stop import scores
from transforms.records import Metric
from transforms.storage.store import Store

LISTS, ROWS, DIM = 5, 400, 8


@pytest.fixture(scope="module")
def rows() -> Rows:
    """Rows of each list, spread along directions of its own."""
    rng = np.random.default_rng(0)
    lists = np.repeat(np.arange(LISTS), ROWS)
    shapes = rng.standard_normal((LISTS, DIM, DIM)) * np.linspace(1, 0.05, DIM)[:, None]
    near = rng.standard_normal((LISTS, DIM)) * 3
    vectors = near[lists] + np.einsum("ni,nij->nj", rng.standard_normal((len(lists), DIM)), shapes[lists])
    return lists, vectors.astype(np.float32)


def centroids(rows: Rows, metric: Metric) -> NDArray[np.float32]:
    means = np.array([rows[1][rows[0] == number].mean(axis=0) for number in range(LISTS)])
    if metric == "ip":  # spherical ones
        means /= np.linalg.norm(means, axis=1, keepdims=True)
    return means.astype(np.float32)


def made(rows: Rows, metric: Metric, size: int = ROWS * LISTS) -> Spread:
    lists, vectors = rows
    batches = [(lists[at : at + size], vectors[at : at + size]) for at in range(0, len(lists), size)]
    return make(centroids(rows, metric), metric, np.bincount(lists), batches)


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_mean_and_deviation_of_scores_are_those_of_the_rows(rows: Rows, metric: Metric) -> None:
    lists, vectors = rows
    near, sketch = centroids(rows, metric), made(rows, metric)
    queries = np.random.default_rng(1).standard_normal((20, DIM)).astype(np.float32) * 4
    every = np.tile(np.arange(LISTS), (20, 1))
    products = queries @ near.T
    nearness = products if metric == "ip" else ((queries[:, None] - near) ** 2).sum(axis=2)
    mean, deviation = scores(sketch, metric, queries, every, nearness.astype(np.float32))
    for place, query in enumerate(queries):
        exact = vectors @ query if metric == "ip" else -((vectors - query) ** 2).sum(axis=1)
        means = np.array([exact[lists == number].mean() for number in range(LISTS)])
        deviations = np.array([exact[lists == number].std() for number in range(LISTS)])
        np.testing.assert_allclose(mean[place], means, atol=0.15 * deviations.max())
        np.testing.assert_allclose(deviation[place], deviations, rtol=0.25)


def test_the_cut_of_a_sample_into_batches_changes_nothing_but_roundings(rows: Rows) -> None:
    whole, parts = made(rows, "ip"), made(rows, "ip", 77)
    along = [np.einsum("lrm,dm->lrd", one.factors.astype(np.float32), one.axes) for one in (whole, parts)]
    variances = [np.einsum("lrd,lre->lde", one, one) for one in along]
    np.testing.assert_allclose(variances[0], variances[1], atol=2e-2 * np.abs(variances[0]).max())
    np.testing.assert_allclose(whole.centre, parts.centre, rtol=1e-4)


def test_a_list_without_rows_in_the_sample_is_as_near_as_its_centroid(rows: Rows) -> None:
    lists, vectors = rows
    some = lists != 2
    sketch = make(centroids(rows, "ip"), "ip", np.bincount(lists), [(lists[some], vectors[some])])
    query = np.ones((1, DIM), np.float32)
    nearness = (query @ centroids(rows, "ip")[2])[:, None]
    mean, deviation = scores(sketch, "ip", query, np.array([[2]]), nearness)
    assert mean[0, 0] == pytest.approx(nearness[0, 0]) and deviation[0, 0] < 1e-6
    nothing = make(centroids(rows, "l2"), "l2", np.zeros(LISTS, np.int64), [])
    assert not nothing.factors.any() and not nothing.noise.any()


def test_what_is_saved_is_read_back_and_what_is_of_another_index_is_refused(rows: Rows, tmp_path: Path) -> None:
    store, sketch = Store.at(str(tmp_path)), made(rows, "l2")
    file = spread.save(store, "f" * 64, sketch)
    assert file == spread.save(store, "f" * 64, sketch)
    back = spread.load(store, file, LISTS, DIM)
    for name in Spread.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(back, name), getattr(sketch, name).astype(np.float32))
    for nlist, dim in ((LISTS + 1, DIM), (LISTS, DIM + 1)):
        with pytest.raises(PixdexError, match="holds no spread of"):
            spread.load(store, file, nlist, dim)
    with pytest.raises(PixdexError):
        spread.load(store, replace(file, checksum="sha256:" + "0" * 64), LISTS, DIM)

"""A query stops where lists hardly hold one of its nearest rows: at a larger margin later."""

import itertools
import math

import numpy as np
import pytest

from transforms.index.adaptive.spread import Spread
from transforms.index.adaptive.stop import EXPECTED, NARROWER, Stop, _bar, probed_lists

LISTS, DIM = 40, 4


@pytest.fixture(scope="module")
def sketch() -> Spread:
    rng = np.random.default_rng(0)
    return Spread(
        axes=np.eye(DIM, dtype=np.float32),
        factors=rng.standard_normal((LISTS, 2, DIM)).astype(np.float32) / 8,
        offsets=np.zeros((LISTS, 2), np.float32),
        rest=np.full(LISTS, 0.01, np.float32),
        centre=np.ones(LISTS, np.float32),
        noise=np.zeros(LISTS, np.float32),
        rows=rng.integers(1, 500, LISTS).astype(np.float32),
    )


def asked(sketch: Spread, margin: float, rows: int = 10) -> np.ndarray:
    queries = np.random.default_rng(1).standard_normal((30, DIM)).astype(np.float32)
    centroids = np.random.default_rng(2).standard_normal((LISTS, DIM)).astype(np.float32)
    nearness = queries @ centroids.T
    lists = np.argsort(-nearness, axis=1)
    return probed_lists(sketch, "ip", queries, lists, np.take_along_axis(nearness, lists, 1), Stop(margin, rows))


def test_a_larger_margin_probes_all_lists_that_a_smaller_one_does_and_more(sketch: Spread) -> None:
    probed = [asked(sketch, margin) for margin in (-2.0, 2.0, 4.0, 8.0, 1e3)]
    for fewer, more in itertools.pairwise(probed):
        assert (more | ~fewer).all() and more.sum() > fewer.sum()
    assert all(one[:, 0].all() for one in probed) and probed[-1].all()
    counts = probed[2].sum(axis=1)
    assert counts.min() < counts.max()  # each query its own number


def test_more_rows_that_are_wanted_probe_more_lists(sketch: Spread) -> None:
    few, many = asked(sketch, 3.0, 1), asked(sketch, 3.0, 100)
    assert (many | ~few).all() and many.sum() > few.sum()


def test_the_bar_is_about_what_so_many_rows_are_expected_to_exceed(sketch: Spread) -> None:
    rng = np.random.default_rng(3)
    mean, deviation = rng.standard_normal((20, LISTS)), rng.uniform(0.1, 1, (20, LISTS))
    rows = np.tile(sketch.rows, (20, 1))
    wanted = EXPECTED * 10.0
    bars = _bar(mean.astype(np.float32), deviation.astype(np.float32), rows, wanted)
    for bar, mu, sigma in zip(bars, mean, NARROWER * deviation, strict=True):
        scales = sigma * math.sqrt(3) / math.pi  # of logistic distributions with these standard deviations
        above = 1 / (1 + np.exp((bar - mu) / scales))
        assert np.dot(above, sketch.rows) == pytest.approx(wanted, rel=0.4)


def test_where_there_is_no_list_none_is_probed(sketch: Spread) -> None:
    lists = np.array([[3, -1, -1], [-1, -1, -1]])
    nearness = np.ones((2, 3), np.float32)
    queries = np.ones((2, DIM), np.float32)
    assert probed_lists(sketch, "ip", queries, lists, nearness, Stop(1.0, 10)).tolist() == [
        [True, False, False],
        [False, False, False],
    ]

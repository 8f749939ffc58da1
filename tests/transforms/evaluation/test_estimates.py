"""Intervals: those of scipy, within what is possible."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import cheap
from transforms.evaluation.estimates import Measured, mean_of, share_of


def test_a_mean_has_the_interval_of_students_t() -> None:
    estimate = mean_of(np.array([1.0, 2.0, 3.0, 4.0]))
    assert (estimate.value, estimate.count) == (2.5, 4)
    half = 3.18245 * math.sqrt(5 / 3) / 2  # t of 3 degrees of freedom, deviation, root of n
    assert estimate.high - 2.5 == pytest.approx(half, rel=2e-3)
    assert 2.5 - estimate.low == pytest.approx(half, rel=2e-3)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=60))
def test_the_interval_of_a_mean_is_that_of_scipy(stats: Any, values: list[float]) -> None:
    estimate, array = mean_of(np.array(values)), np.array(values)
    half = stats.t.ppf(0.975, len(values) - 1) * array.std(ddof=1) / math.sqrt(len(values))
    assert estimate.high - estimate.value == pytest.approx(half, rel=2e-3, abs=1e-12)
    assert estimate.value - estimate.low == pytest.approx(half, rel=2e-3, abs=1e-12)


def test_an_interval_ends_where_no_value_can_be() -> None:
    estimate = mean_of(np.array([1.0, 1.0, 0.5]), 0.0, 1.0)
    assert estimate.high == 1.0
    assert 0 < estimate.low < estimate.value


def test_of_one_value_nothing_is_known_of_others() -> None:
    estimate = Measured.of(np.array([0.25])).mean
    assert (estimate.value, estimate.low, estimate.high, estimate.count) == (0.25, 0.0, 1.0, 1)


def test_of_nothing_there_is_no_value() -> None:
    for estimate in (mean_of(np.array([]), 0.0, 1.0), share_of(0, 0)):
        assert math.isnan(estimate.value)
        assert (estimate.low, estimate.high, estimate.count) == (0.0, 1.0, 0)


def test_values_that_are_equal_have_an_interval_without_width() -> None:
    estimate = mean_of(np.full(5, 0.5))
    assert estimate.low == estimate.value == estimate.high == 0.5


@cheap
@given(st.integers(1, 5000), st.floats(0, 1))
def test_the_interval_of_a_share_is_that_of_scipy(stats: Any, count: int, part: float) -> None:
    hits = round(part * count)
    estimate = share_of(hits, count)
    expected = stats.binomtest(hits, count).proportion_ci(0.95, method="wilson")
    assert (estimate.value, estimate.count) == (hits / count, count)
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1

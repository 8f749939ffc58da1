"""A promise is kept when queries keep it with standard errors to spare."""

import numpy as np
import pytest

from transforms.evaluation.promise import Promise


def test_the_mean_keeps_it_with_an_error_to_spare() -> None:
    shares = np.array([1.0, 0.9] * 50)  # a mean of .95, whose standard error is .005
    assert Promise(0.95).is_kept(shares, 0) and not Promise(0.95).is_kept(shares, 1)
    assert Promise(0.9449).is_kept(shares, 1) and not Promise(0.9451).is_kept(shares, 1)


def test_the_tail_is_a_share_of_the_queries() -> None:
    shares = np.array([0.9] * 95 + [0.5] * 5)
    assert Promise(None, (0.9, 0.95)).is_kept(shares, 0)
    assert not Promise(None, (0.9, 0.96)).is_kept(shares, 0)
    assert not Promise(None, (0.9, 0.95)).is_kept(shares, 1)
    assert not Promise(0.95, (0.9, 0.95)).is_kept(shares, 0)  # the mean is .88
    assert Promise(None, (0.9, 0.95)).tail_of(shares) == pytest.approx(0.95)


def test_queries_without_neighbours_count_nowhere() -> None:
    assert Promise(0.9).is_kept(np.array([1.0, np.nan]), 0)
    assert not Promise(0.1).is_kept(np.array([np.nan]), 0)


def test_it_is_said_as_a_person_says_it() -> None:
    assert str(Promise(0.95)) == "recall 0.95"
    assert str(Promise(0.95, (0.9, 0.95))) == "recall 0.95 and recall 0.9 for 95 % of the queries"

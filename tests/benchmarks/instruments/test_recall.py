"""Recall, and its comparison at equal codes scanned."""

from itertools import pairwise

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.instruments import recall, report
from tests.benchmarks.instruments.recall import Curve
from transforms.evaluation.recall import found_shares

_RNG = np.random.default_rng(5)
_BASE = _RNG.standard_normal((3000, 16)).astype(np.float32)
_QUERIES = _RNG.standard_normal((40, 16)).astype(np.float32)


def _curve(codes: list[float], shares: list[list[float]]) -> Curve:
    found = np.array(shares)
    return Curve(tuple(1 << step for step in range(len(codes))), np.array(codes), found, found)


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_exact_neighbours_are_those_of_faiss_however_the_vectors_are_cut(metric: str) -> None:
    index = faiss.IndexFlatIP(16) if metric == "ip" else faiss.IndexFlatL2(16)
    index.add(_BASE)
    _, expected = index.search(_QUERIES, 10)
    for cuts in ([], [7], [1000, 1001, 2500]):
        blocks = [_BASE[start:stop] for start, stop in pairwise([0, *cuts, len(_BASE)])]
        found = recall.exact_neighbours(blocks, _QUERIES, 10, metric)
        np.testing.assert_array_equal(found, expected)


def test_shares_are_of_the_exact_neighbours_and_missing_results_are_no_hits() -> None:
    results = np.array([[3, 1, -1, -1], [9, 8, 7, 6]])
    assert found_shares(results, np.array([[1, 2], [6, 9]]), 2, among=4).tolist() == [0.5, 1.0]


def test_a_search_of_every_list_scans_every_code_and_a_flat_index_then_finds_all() -> None:
    index = faiss.index_factory(16, "IVF16,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(_BASE)
    index.add(_BASE)
    exact = recall.exact_neighbours([_BASE], _QUERIES, 10, "ip")
    curve = recall.measure(index, _QUERIES, exact, nprobes=(1, 4, 16, 64))
    assert curve.nprobes == (1, 4, 16)
    assert curve.codes[-1] == len(_BASE)
    assert 0 < curve.codes[0] < curve.codes[1] < len(_BASE)
    assert curve.at_10[-1].tolist() == [1.0] * 40
    assert curve.at_10[0].mean() < curve.at_10[1].mean()


def test_codes_scanned_are_counted_behind_the_transform() -> None:
    index = faiss.index_factory(16, "PCA4,IVF8,Flat", faiss.METRIC_L2)
    index.train(_BASE)
    index.add(_BASE)
    assert recall.codes_scanned(index, _QUERIES, 8) == len(_BASE)


def test_ids_are_turned_into_positions_before_they_are_compared() -> None:
    index = faiss.index_factory(16, "IVF4,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(_BASE)
    index.add_with_ids(_BASE, np.arange(len(_BASE)) + 1_000_000)
    exact = recall.exact_neighbours([_BASE], _QUERIES, 10, "ip")
    curve = recall.measure(index, _QUERIES, exact, lambda ids: ids - 1_000_000, nprobes=(4,))
    assert curve.at_10.mean() == 1.0


def test_between_two_points_recall_goes_straight_over_the_logarithm_of_the_codes() -> None:
    curve = _curve([100.0, 400.0], [[0.2, 0.4], [0.6, 0.4]])
    found = recall.at_codes(curve, curve.at_10, 200.0)
    assert found is not None
    np.testing.assert_allclose(found, [0.4, 0.4])


@pytest.mark.parametrize("codes", [0.0, 50.0, 99.9, 300.1])
def test_below_the_first_point_and_beyond_the_last_nothing_is_known(codes: float) -> None:
    curve = _curve([100.0, 300.0], [[0.2], [0.6]])
    assert recall.at_codes(curve, curve.at_10, codes) is None


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=6, unique=True), st.data())
def test_at_a_measured_number_of_codes_recall_is_what_was_measured(codes: list[float], data: st.DataObject) -> None:
    codes.sort()
    shares = data.draw(
        st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=2), min_size=len(codes), max_size=len(codes))
    )
    curve = _curve(codes, shares)
    for scanned, expected in zip(codes, shares, strict=True):
        found = recall.at_codes(curve, curve.at_10, scanned)
        assert found is not None
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_curve_compared_with_itself_differs_by_nothing() -> None:
    curve = _curve([100.0, 300.0], [[0.2, 0.4], [0.6, 0.4]])
    for row in report.compare(curve, curve):
        assert row["recall_at_10"]["at_equal_codes"] == {"points": 0.0, "error": 0.0}


def test_an_index_that_scans_more_for_the_same_recall_is_worse_at_equal_codes() -> None:
    frugal = _curve([200.0, 400.0], [[0.4, 0.4], [0.6, 0.6]])
    wasteful = _curve([100.0, 400.0, 800.0], [[0.2, 0.2], [0.4, 0.4], [0.6, 0.6]])
    first, second = (row["recall_at_10"]["at_equal_codes"]["points"] for row in report.compare(wasteful, frugal))
    assert (first, second) == (-10.0, -20.0)


def test_what_was_not_measured_at_equal_codes_is_not_shown() -> None:
    frugal = _curve([100.0, 200.0], [[0.4, 0.4], [0.6, 0.6]])
    wasteful = _curve([200.0, 400.0], [[0.4, 0.4], [0.6, 0.6]])
    rows = report.compare(wasteful, frugal)
    assert rows[0]["recall_at_10"]["at_equal_codes"] is None
    shown = report.compare_table(rows, "peer").splitlines()
    assert shown[-2].count("—") == 2 and "—" not in shown[-1]

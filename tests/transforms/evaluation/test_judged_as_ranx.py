"""Measures of rankings are those of ranx, which takes up to half a minute to compile itself."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.evaluation.estimates import Measured
from transforms.evaluation.judged import Judged

pytestmark = pytest.mark.gate

KEYS = range(16)
Rankings = dict[int, list[int]]
Judgements = dict[int, dict[int, int]]


@st.composite
def evaluations(draw: st.DrawFn) -> tuple[Rankings, Judgements]:
    """Queries some of whose results are judged and some judged keys are found; some without either."""
    queries = range(draw(st.integers(1, 5)))
    judgements = {
        query: draw(st.dictionaries(st.sampled_from(KEYS), st.integers(-1, 4), min_size=1, max_size=10))
        for query in queries
    }
    rankings = {
        query: draw(st.lists(st.sampled_from(KEYS), max_size=14, unique=True))
        for query in (*queries, 99)
        if draw(st.booleans())
    }
    return rankings, judgements


def as_ranx_takes_them(ranx: Any, pairs: Sequence[Sequence[tuple[int, float]]]) -> Any:
    """Its own list of arrays of (key, score) a query, best first; from dictionaries, none of which may be empty."""
    numba = pytest.importorskip("numba")
    return numba.typed.List([np.array(each, np.float64).reshape(-1, 2) for each in pairs])


@given(evaluations(), st.integers(1, 16))
def test_measures_are_those_of_ranx(ranx: Any, example: tuple[Rankings, Judgements], k: int) -> None:
    rankings, judgements = example
    judged = Judged.of(rankings, judgements)
    ours: dict[str, Measured] = {
        "dcg": judged.dcg(),
        f"dcg@{k}": judged.dcg(k),
        f"dcg_burges@{k}": judged.dcg(k, "exponential"),
        "ndcg": judged.ndcg(),
        f"ndcg@{k}": judged.ndcg(k),
        "ndcg_burges": judged.ndcg(gain="exponential"),
        f"ndcg_burges@{k}": judged.ndcg(k, "exponential"),
        "map": judged.average_precision(),
        f"map@{k}": judged.average_precision(k),
        "mrr": judged.reciprocal_rank(),
        f"mrr@{k}": judged.reciprocal_rank(k),
        f"precision@{k}": judged.precision(k),
    }
    grades = [sorted(each.items(), key=lambda pair: -pair[1]) for each in judgements.values()]
    # Scores fall with the rank: ranx breaks ties as its sort happens to.
    found = [[(key, -float(rank)) for rank, key in enumerate(rankings.get(query, []))] for query in judgements]
    theirs = ranx.evaluate(
        as_ranx_takes_them(ranx, grades), as_ranx_takes_them(ranx, found), list(ours), return_mean=False
    )
    for name, measured in ours.items():
        np.testing.assert_allclose(measured.values, theirs[name], rtol=0, atol=1e-9, err_msg=name)
        assert measured.mean.value == pytest.approx(float(np.mean(theirs[name])), abs=1e-9)

"""Rules: groups, near-duplicates and cut-offs give what going through all rows one by one would give."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import dear
from tests.roots import Row, make_root, unit
from transforms.errors import UsageError
from transforms.records import Metric
from transforms.search.hits import Hit
from transforms.search.rules import Rules
from transforms.search.searcher import Searcher

EAST = np.array([unit(0)], np.float32)
COLOURS = ("red", "green", "", None)


def keys(hits: list[Hit]) -> list[str]:
    return [hit.key for hit in hits]


def score(metric: Metric, one: np.ndarray[tuple[int], np.dtype[np.float32]], other: object) -> float:
    """Of two vectors: of `ip` the more the nearer, else the less."""
    if metric == "ip":
        return float(one @ np.asarray(other, np.float32))
    return float(np.square(one - np.asarray(other, np.float32)).sum())


def one_by_one(rows: list[Row], metric: Metric, k: int, rules: Rules) -> list[str]:
    """The keys of the results, by the plainest way there is."""
    sign = -1 if metric == "ip" else 1
    order = sorted(range(len(rows)), key=lambda row: (sign * score(metric, EAST[0], rows[row].vector), row))
    found: list[Row] = []
    for place in order:
        row = rows[place]
        if any(row.key == other.key for other in found):
            continue
        if isinstance(rules.min_score, float) and sign * score(metric, EAST[0], row.vector) > sign * rules.min_score:
            break
        group = row.columns.get(rules.group_by) if rules.group_by != "uri" else row.uri
        if (
            rules.group_by != "key"
            and group
            and sum(
                (other.columns.get(rules.group_by) if rules.group_by != "uri" else other.uri) == group
                for other in found
            )
            >= rules.per_group
        ):
            continue
        near = [score(metric, np.asarray(other.vector, np.float32), row.vector) for other in found]
        if isinstance(rules.dedup, float) and any(sign * one <= sign * rules.dedup for one in near):
            continue
        found.append(row)
    return [row.key for row in found[:k]]


@pytest.mark.gate
@dear
@given(
    seed=st.integers(0, 1000),
    count=st.integers(1, 40),
    metric=st.sampled_from(["ip", "l2"]),
    k=st.integers(1, 12),
    group_by=st.sampled_from(["key", "colour", "uri"]),
    per_group=st.integers(1, 3),
    dedup=st.none() | st.sampled_from([0.9, 0.999, 0.01, 0.3]),
    min_score=st.none() | st.sampled_from([-0.5, 0.2, 0.7, 1.5]),
)
def test_the_results_are_those_of_going_through_all_rows(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    count: int,
    metric: Metric,
    k: int,
    group_by: str,
    per_group: int,
    dedup: float | None,
    min_score: float | None,
) -> None:
    rng = np.random.default_rng(seed)
    rows = [
        Row(
            f"k{number:02}",
            unit(float(rng.integers(0, 180)) + 0.25),
            uri=f"file:///p/{rng.integers(0, 6)}.png",
            columns={"colour": COLOURS[rng.integers(0, 4)], "size": "1"},
        )
        for number in range(count)
    ]
    rules = Rules(group_by, per_group if group_by != "key" else 1, dedup, min_score)
    searcher = Searcher.open(make_root(tmp_path_factory.mktemp("root"), rows, metric=metric))
    found = searcher.search(EAST, k, rules=rules)[0]
    assert keys(found) == one_by_one(rows, metric, k, rules)
    assert [hit.rank for hit in found] == list(range(1, len(found) + 1))


def test_captions_of_one_picture_are_one_result(tmp_path: Path) -> None:
    rows = [Row(f"c#{n}", unit(n), "text", caption=f"{n}", uri="file:///p/a.png") for n in range(5)]
    searcher = Searcher.open(make_root(tmp_path, [*rows, Row("c#9", unit(50), "text", uri="file:///p/b.png")]))
    assert keys(searcher.search(EAST, 3, rules=Rules("uri"))[0]) == ["c#0", "c#9"]
    assert keys(searcher.search(EAST, 3, rules=Rules("uri", 2))[0]) == ["c#0", "c#1", "c#9"]


def test_a_column_that_no_result_has_is_refused(tmp_path: Path) -> None:
    searcher = Searcher.open(make_root(tmp_path, [Row("a", unit(0), columns={"colour": "red"})]))
    with pytest.raises(UsageError, match="has no column colur; did you mean colour\\? it has"):
        searcher.search(EAST, 1, rules=Rules("colur"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"per_group": 0, "group_by": "uri"},
        {"per_group": 2},
        {"dedup": float("nan")},
        {"dedup": "contents"},
        {"min_score": float("inf")},
    ],
)
def test_rules_that_no_row_can_keep_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Rules(**wrong)  # type: ignore[arg-type]


def test_equal_vectors_are_near_duplicates_at_a_cosine_of_1_and_near_ones_are_not(tmp_path: Path) -> None:
    rows = [Row("a", unit(10)), Row("b", unit(10)), Row("c", unit(13)), Row("d", unit(13.5))]
    searcher = Searcher.open(make_root(tmp_path, rows))
    assert keys(searcher.search(EAST, 4, rules=Rules(dedup=1))[0]) == ["a", "c", "d"]
    assert keys(searcher.search(EAST, 4, rules=Rules(dedup=0.9999))[0]) == ["a", "c"]
    assert keys(searcher.search(EAST, 4, rules=Rules(dedup=0.998))[0]) == ["a"]
    assert keys(searcher.search(EAST, 4, rules=Rules(dedup=0.9))[0]) == ["a"]

"""Conditions: what DuckDB finds, this finds; what is no condition over metadata is refused before it does anything."""

import time
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import dear
from tests.roots import Row, make_root, unit
from transforms.errors import UsageError
from transforms.search.searcher import Searcher
from transforms.search.where import MOST_LETTERS, Condition

DUCKDB = duckdb.connect()
EAST = np.array([unit(0)], np.float32)
WORDS = ("shoes", "Shoes", "it's", '"x"', "동그라미", "%", "a_b", "", "12", "-3.5", " 7 ", "2020-01-05", "true", None)
NUMBERS = (0, 1, -3, 12, 7, None)

words = st.sampled_from([word for word in WORDS if word is not None])
quoted = words.map(lambda word: "'" + word.replace("'", "''") + "'")
figures = st.sampled_from(["0", "1", "-3", "12", "7", "3.5"])
texts = st.sampled_from(["word", '"Other Word"', "lower(word)", "coalesce(word, 'none')", 'upper("Other Word")'])
counts = st.sampled_from(
    ["count", "count + 1", "-count", "count * 2", "length(word)", "abs(count)", "count / 2", "count % 5"]
)
operators = st.sampled_from(["=", "<>", "<", "<=", ">", ">="])
simple = st.one_of(
    st.builds("{} {} {}".format, texts, operators, quoted),
    st.builds("{} {} {}".format, counts, operators, figures),
    st.builds("TRY_CAST(word AS DOUBLE) {} {}".format, operators, figures),
    st.builds("TRY_CAST(word AS DATE) {} DATE '2020-01-0{}'".format, operators, st.integers(1, 9)),
    st.builds("{} IN ({}, {})".format, texts, quoted, quoted),
    st.builds("{} NOT IN ({}, {}, NULL)".format, counts, figures, figures),
    st.builds("{} BETWEEN {} AND {}".format, counts, figures, figures),
    st.builds("{} NOT BETWEEN {} AND {}".format, texts, quoted, quoted),
    st.builds(
        "{} {} '%{}_'".format, texts, st.sampled_from(["LIKE", "NOT LIKE", "ILIKE"]), st.sampled_from(["s", "미", "O"])
    ),
    st.builds("{} IS {}NULL".format, st.one_of(texts, counts), st.sampled_from(["", "NOT "])),
    st.sampled_from(["TRUE", "FALSE", "NULL IS NULL", "flag", "NOT flag", "flag IS TRUE", "flag IS NOT FALSE"]),
)
conditions = st.recursive(
    simple,
    lambda inner: st.one_of(
        st.builds("({}) AND {}".format, inner, inner), st.builds("{} OR ({})".format, inner, inner),
        st.builds("NOT ({})".format, inner),
    ),
    max_leaves=5,
)  # fmt: skip


def table(seed: int, rows: int = 40) -> pa.Table:
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {
        "word": [WORDS[place] for place in rng.integers(0, len(WORDS), rows)],
        "Other Word": [WORDS[place] for place in rng.integers(0, len(WORDS), rows)],
        "count": pa.array([NUMBERS[place] for place in rng.integers(0, len(NUMBERS), rows)], pa.int64()),
        "flag": pa.array([(True, False, None)[place] for place in rng.integers(0, 3, rows)], pa.bool_()),
    }
    return pa.table(columns)


@given(condition=conditions, seed=st.integers(0, 50))
def test_a_condition_is_true_where_duckdb_has_it_true(condition: str, seed: int) -> None:
    rows = table(seed)
    wanted = DUCKDB.execute(f"SELECT coalesce(({condition}), FALSE) FROM rows").fetchall()
    columns = {name: rows[name].combine_chunks() for name in rows.column_names}
    assert Condition(condition).matches(columns, len(rows)).tolist() == [one for (one,) in wanted], condition


def test_a_column_of_strings_is_read_as_what_it_is_compared_with() -> None:
    columns = {
        "price": pa.array(["5", " 49.9", "50", "n/a", "", None]),
        "day": pa.array(["2020-01-05", "2020-01-05 10:00:00", "2020-02-01T00:00:00", "soon", "", None]),
        "sold": pa.array(["true", "FALSE", "1", "maybe", "", None]),
    }
    found = {
        condition: Condition(condition).matches(columns, 6).tolist()
        for condition in (
            "price < 50",
            "NOT price < 50",
            "day > '2020-01-05'",
            "day > DATE '2020-01-05'",
            "sold = TRUE",
        )
    }
    yes, no = True, False
    assert found["price < 50"] == [yes, yes, no, no, no, no]
    assert found["NOT price < 50"] == [no, no, yes, no, no, no]
    assert found["day > DATE '2020-01-05'"] == [no, yes, yes, no, no, no]
    assert found["day > '2020-01-05'"] == [no, yes, yes, yes, no, no]  # as strings, which it compares there
    assert found["sold = TRUE"] == [yes, no, yes, no, no, no]


HOSTILE = [
    "", " ", "price <", "1=1; DROP TABLE x", "1=1) UNION SELECT 1 --", "(SELECT count(*) FROM range(1000000000)) > 1",
    "EXISTS (SELECT 1)", "price IN (SELECT 1)", "read_csv('x.csv') = 'x'", "getenv('HOME') = 'x'",
    "current_setting('threads') = '1'", "ATTACH 'x.db'", "PRAGMA database_list", "COPY x TO 'y'", "price = ?",
    "price = $1", "count(*) > 1", "row_number() OVER () > 1", "x.price = 1", "price::blob = 1", "repeat('x', 9) = 1",
    "a -> 'b' = 1", "[1, 2] = price", "{'a': 1} = price", "CASE WHEN price THEN 1 END = 1", "price LIKE word",
    "word SIMILAR TO '(a|aa)+$'", "(" * 5000 + "1=1" + ")" * 3000, "NOT " * 500 + "price = 1",
    "price = 1 OR " * 2000 + "1 = 1", "\0", "price = '\ud800'", "price BETWEEN SYMMETRIC 2 AND 1",
    "word LIKE '!%' ESCAPE '!'", "trim(LEADING 'x' FROM word) = 'a'", "trim(word, 'x') = 'a'",
    "price IS DISTINCT FROM 1", "price COLLATE nocase = 'x'",
]  # fmt: skip


@pytest.mark.parametrize("condition", HOSTILE)
def test_what_is_no_condition_over_metadata_is_refused_in_a_line(condition: str) -> None:
    began = time.monotonic()
    with pytest.raises(UsageError) as refused:
        Condition(condition).matches({"price": pa.array(["1"]), "word": pa.array(["a"])}, 1)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 600
    assert time.monotonic() - began < 30


def test_long_conditions_are_refused() -> None:
    with pytest.raises(UsageError, match="20,000 letters: write it in 10,000"):
        Condition("x" * 2 * MOST_LETTERS)


@pytest.mark.gate
@dear
@given(
    condition=conditions, seed=st.integers(0, 50), k=st.integers(1, 12),
    lists=st.sampled_from([1, 4]), dead=st.sets(st.integers(0, 39), max_size=9),
)  # fmt: skip
def test_a_search_finds_the_nearest_of_the_rows_for_which_it_is_true(
    tmp_path_factory: pytest.TempPathFactory, condition: str, seed: int, k: int, lists: int, dead: set[int]
) -> None:
    rows = table(seed)
    angles = np.random.default_rng(seed).permutation(180)[: len(rows)]
    made = [
        Row(
            f"k{place:02}",
            unit(float(angle)),
            columns={name: None if value is None else str(value) for name, value in row.items()},
        )
        for place, (angle, row) in enumerate(zip(angles, rows.to_pylist(), strict=True))
    ]
    store = make_root(tmp_path_factory.mktemp("root"), made, key=f"IVF{lists},Flat", dead=dead)
    strings = {name: pa.array([row.columns[name] for row in made], pa.string()) for name in rows.column_names}
    true = np.flatnonzero(Condition(condition).matches(strings, len(made)))
    wanted = sorted(set(true.tolist()) - dead, key=lambda place: angles[place])[:k]
    found = Searcher.open(store).search(EAST, k, where=condition)[0]
    assert [hit.key for hit in found] == [f"k{place:02}" for place in wanted]


def test_a_column_that_no_row_has_is_refused(tmp_path: Path) -> None:
    searcher = Searcher.open(make_root(tmp_path, [Row("a", unit(0), columns={"price": "1"})]))
    with pytest.raises(UsageError, match="has no column prize; did you mean price"):
        searcher.search(EAST, 1, where="prize < 5 AND price < 5")
    assert searcher.search(EAST, 1, where="PRICE < 5 AND modality = 'image' AND key LIKE 'a%'")[0][0].key == "a"


def test_many_queries_with_a_condition_are_answered_as_each_alone(tmp_path: Path) -> None:
    rows = [Row(f"k{place}", unit(place * 7), columns={"price": str(place)}) for place in range(20)]
    searcher = Searcher.open(make_root(tmp_path, rows))
    queries = np.array([unit(angle) for angle in range(150)], np.float32)
    together = searcher.search(queries, 3, where="price < 10")
    assert together == [searcher.search(query[None], 3, where="price < 10")[0] for query in queries]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a =", "something is missing at '='"),
        ("a b c", "'b' is not expected there"),
        ("a = (1", "something is missing at '1'"),
        ("a = 'x", "a quote or a comment in it does not end"),
        ("", "use =, <>"),
    ],
)
def test_what_is_not_understood_is_said_without_names_of_the_parser(text: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        Condition(text)
    assert f"is not understood: {why}" in str(caught.value)
    assert "sqlglot" not in str(caught.value) and "class" not in str(caught.value)

"""What a root is asked: its own rows in two halves, held-out ones, or a file; and which rows may be found."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.roots import Row, make_root, unit
from tests.transforms.proof.proofs import directions, proved, vectors_asked
from transforms.batch.plan import version_of
from transforms.batch.request import Kind, Queries
from transforms.errors import UsageError
from transforms.proof import queries
from transforms.queries.encode import QueryEncoder
from transforms.search.searcher import Searcher
from transforms.storage.store import Store

PICTURES, TEXTS = directions(30), directions(20, "text", 1)
KINDS = ["image"] * 30 + ["text"] * 20


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_root(tmp_path / "root", PICTURES + TEXTS, key="IVF4,Flat")


def file_of(path: Path, kind: Kind, column: str | None = None) -> Queries:
    return Queries(f"file://{path}", version_of(f"file://{path}"), kind, column)


def test_pictures_are_asked_for_pictures_and_texts_for_pictures(store: Store) -> None:
    searcher = Searcher.open(store)
    sets = queries.of_root(searcher, 5, 0)
    assert [(one.asked.name, one.asked.modality, len(one.own)) for one in sets] == [
        ("image", "image", 5),
        ("text", "image", 5),
    ]
    for one in sets:
        assert {KINDS[row] for row in one.own.tolist()} == {one.asked.name}
        np.testing.assert_allclose(one.vectors, searcher.stored.all(one.own), atol=1e-6)


@pytest.mark.parametrize("count", [5, 1000])
def test_what_is_tuned_on_is_not_reported_on(store: Store, count: int) -> None:
    searcher = Searcher.open(store)
    reported, tuned = queries.of_root(searcher, count, 3), queries.of_root(searcher, count, 3, tuning=True)
    for one, other, rows in zip(reported, tuned, (30, 20), strict=True):
        assert not set(one.own.tolist()) & set(other.own.tolist())
        assert len(one.own) == len(other.own) == min(count, rows // 2)


def test_a_seed_draws_the_same_again_and_another_others(store: Store) -> None:
    drawn = [queries.of_root(Searcher.open(store), 5, seed)[0].own.tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("kind", ["text", "keyword"])
def test_where_there_are_no_pictures_texts_are_asked_for_texts_and_else_keywords(tmp_path: Path, kind: str) -> None:
    rows = directions(20, "text" if kind == "text" else "keyword")
    sets = queries.of_root(Searcher.open(make_root(tmp_path / "root", rows)), 4, 0)
    assert [(one.asked.name, one.asked.modality) for one in sets] == [(kind, kind)]


def test_a_row_alone_has_nothing_to_find(tmp_path: Path) -> None:
    searcher = Searcher.open(make_root(tmp_path / "root", directions(1)))
    with pytest.raises(UsageError, match="holds too few rows to be asked about: give --queries FILE"):
        queries.of_root(searcher, 5, 0)
    searcher = Searcher.open(make_root(tmp_path / "other", PICTURES + TEXTS[:1]))
    assert [one.asked.name for one in queries.of_root(searcher, 5, 0)] == ["image"]


def test_a_row_is_none_of_its_own_neighbours_and_others_of_it_are_as_near(tmp_path: Path) -> None:
    rows = [Row(f"k{number}", unit(3 * (number // 2))) for number in range(40)]  # each twice
    store = make_root(tmp_path / "root", rows)
    (asked,) = queries.of_root(Searcher.open(store), 10, 0)
    ((ids, distances),) = proved(store, tmp_path / "work", asked, near=39)
    assert not (ids == asked.own[:, None]).any()
    np.testing.assert_array_equal(ids[:, 0], asked.own ^ 1)
    np.testing.assert_allclose(distances[:, 0], -1, rtol=1e-6)


def test_dead_rows_are_neither_asked_nor_found(tmp_path: Path) -> None:
    store = make_root(tmp_path / "root", PICTURES[:15], PICTURES[15:] + TEXTS, key="IVF4,Flat", dead=(2, 65536 + 20))
    gone = {2, 65536 + 20}
    sets = [
        *queries.of_root(Searcher.open(store), 100, 0),
        *queries.of_root(Searcher.open(store), 100, 0, tuning=True),
        vectors_asked(np.array([unit(6), unit(15), unit(16)], np.float32)),
    ]
    found = proved(store, tmp_path / "work", *sets)
    assert sum(len(one.own) for one in sets[:4]) == 29 + 19
    assert not {row for one in sets for row in one.own.tolist()} & gone
    assert all(not {*ids.reshape(-1).tolist()} & gone for ids, _ in found)
    assert {(ids >= 0).sum(axis=1).max() for ids, _ in found[:4]} == {28, 29}
    assert (found[4][0] >= 0).sum(axis=1).tolist() == [48, 48, 48]


def labelled(tmp_path: Path) -> Store:
    """Twenty labelled rows, and others with none, nothing in it, or no such column."""
    rows = [Row(f"k{n}", unit(n), columns={"a.b": "x" if n % 2 else "y"}) for n in range(20)]
    rows += [Row(f"n{n}", unit(n), columns={"a.b": None if n % 2 else ""}) for n in range(8)]
    return make_root(tmp_path / "root", rows, directions(9, name="other"), key="IVF4,Flat")


def test_held_out_rows_are_a_fifth_of_those_that_have_a_label_and_found_by_none(tmp_path: Path) -> None:
    store = labelled(tmp_path)
    asked = queries.held_out(Searcher.open(store), "a.b", "image", 1000, 0)
    assert len(asked.own) == 4 and set(asked.own.tolist()) < set(range(20))
    ((ids, _),) = proved(store, tmp_path / "work", asked)
    assert [sorted(row for row in found if row >= 0) for found in ids.tolist()] == [
        sorted(set(range(20)) - set(asked.own.tolist()))
    ] * 4
    assert len(queries.held_out(Searcher.open(store), "a.b", "image", 3, 0).own) == 3


def test_held_out_rows_of_one_set_may_be_found_by_another(tmp_path: Path) -> None:
    store = labelled(tmp_path)
    asked = queries.held_out(Searcher.open(store), "a.b", "image", 1000, 0)
    _, (ids, _) = proved(store, tmp_path / "work", asked, vectors_asked(asked.vectors))
    assert (ids[:, :3] == asked.own[:, None]).any(axis=1).all()


@pytest.mark.parametrize(
    ("column", "said"),
    [("gone", "has no column gone"), ("few", "4 rows have something in it; five are the least"), ('q"', 'q"')],
)
def test_a_column_that_says_too_little_is_refused(tmp_path: Path, column: str, said: str) -> None:
    rows = [Row(f"k{n}", unit(n), columns={"few": "x" if n < 4 else None}) for n in range(20)]
    searcher = Searcher.open(make_root(tmp_path / "root", rows))
    with pytest.raises(UsageError, match=said):
        queries.held_out(searcher, column, None, 10, 0)


def asked_of(store: Store, file: Queries, most: int = queries.MOST) -> queries.Named:
    searcher = Searcher.open(store)
    return queries.of_file(searcher, QueryEncoder(searcher.generation.request), file, None, most)


def test_vectors_are_called_by_their_numbers_and_what_has_no_direction_is_left_out(
    tmp_path: Path, store: Store
) -> None:
    vectors = np.array([unit(9), (0, 0), unit(20), (np.nan, 1), (5, 0)], np.float32)
    np.save(tmp_path / "q.npy", vectors)
    named = asked_of(store, file_of(tmp_path / "q.npy", "npy"))
    assert (named.names, named.left_out) == (("0", "2", "4"), 2)
    np.testing.assert_allclose(named.queries.vectors, [unit(9), unit(20), (1, 0)], rtol=1e-6)
    assert named.queries.own.tolist() == [-1, -1, -1]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: np.zeros((0, 2), np.float32), "holds nothing that can be searched with"),
        (lambda: np.zeros((3, 2), np.float32), "holds nothing that can be searched with"),
        (lambda: np.ones((3, 5), np.float32), "holds vectors of 5 components, this root takes 2"),
        (lambda: np.ones((7, 2), np.float32), "holds more than 6 queries"),
    ],
)
def test_a_file_that_cannot_be_asked_is_refused(
    tmp_path: Path, store: Store, made: Callable[[], np.ndarray], said: str
) -> None:
    np.save(tmp_path / "q.npy", made())
    with pytest.raises(UsageError, match=said):
        asked_of(store, file_of(tmp_path / "q.npy", "npy"), most=6)


def test_more_texts_than_are_taken_are_refused_before_any_is_encoded(tmp_path: Path, store: Store) -> None:
    (tmp_path / "q.txt").write_text("north\n" * 7)
    with pytest.raises(UsageError, match="holds more than 6 queries"):
        asked_of(store, file_of(tmp_path / "q.txt", "txt"), most=6)


def test_a_column_that_the_file_has_not_is_named(tmp_path: Path, store: Store) -> None:
    (tmp_path / "q.csv").write_text("text\nnorth\n")
    with pytest.raises(UsageError, match="--text-column gone"):
        asked_of(store, replace(file_of(tmp_path / "q.csv", "csv"), column="gone"))

"""The curve: what searches find at each setting is what a plain look at their results says, and what it costs."""

from collections.abc import Sequence
from pathlib import Path

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines import build
from tests.roots import Row, make_root, unit
from tests.transforms.proof.proofs import directions, proved, vectors_asked
from transforms.evaluation.curve import Point
from transforms.proof import curve, queries
from transforms.proof.exact import Neighbours
from transforms.proof.request import Asked, QuerySet
from transforms.search.searcher import Searcher
from transforms.storage.store import Store

K = 5


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A thousand ready vectors, whose codes are poor, and which are at hand."""
    folder = tmp_path_factory.mktemp("curve")
    np.save(folder / "rows.npy", np.random.default_rng(0).standard_normal((1000, 8)).astype(np.float32))
    words = ("--vectors", str(folder / "rows.npy"), "--index-key", "IVF8,PQ2x4", "--no-progress")
    assert build.main(["--root", str(folder / "root"), *words]) == 0
    return Store.at(str(folder / "root"))


@pytest.fixture(scope="module")
def asked(stored: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[QuerySet, Neighbours]:
    """Rows of it, and their exact neighbours."""
    (drawn,) = queries.of_root(Searcher.open(stored), 60, 0)
    (found,) = proved(stored, tmp_path_factory.mktemp("proof") / "work", drawn)
    return drawn, found


def points_of(
    searcher: Searcher,
    one: QuerySet,
    exact: Neighbours,
    k: int,
    nprobes: Sequence[int],
    shortlists: Sequence[int] = (0,),
) -> list[Point]:
    return list(curve.points(searcher, one, exact, k, nprobes, shortlists, until_enough=False))


def shares(searcher: Searcher, one: QuerySet, nprobe: int | None, shortlist: int) -> list[float]:
    """Recall of each query, by searches alone and a plain look at all vectors."""
    vectors = searcher.stored.all(np.arange(1000)).astype(np.float64)
    told = []
    for query, own in zip(one.vectors, one.own.tolist(), strict=True):
        wanted = [row for row in np.argsort(-(vectors @ query), kind="stable").tolist() if row != own][:K]
        (hits,) = searcher.search(query[None], K + 1, nprobe, one.asked.modality, shortlist)
        found = [hit.id for hit in hits if hit.id != own][:K]
        told.append(len({*found} & {*wanted}) / K)
    return told


@pytest.mark.parametrize("shortlist", [0, 10, 100])
def test_recall_is_what_a_plain_look_at_the_results_says(
    stored: Store, asked: tuple[QuerySet, Neighbours], shortlist: int
) -> None:
    searcher = Searcher.open(stored)
    for point in points_of(searcher, *asked, K, [1, 2, 8], [shortlist]):
        wanted = shares(searcher, asked[0], point.nprobe, shortlist)
        np.testing.assert_allclose(point.recall.shares, wanted)
        assert point.recall.mean.value == pytest.approx(np.mean(wanted))
        assert 0 < point.p50_ms <= point.p99_ms and point.batch_ms > 0


def test_stored_vectors_and_more_lists_find_more(stored: Store, asked: tuple[QuerySet, Neighbours]) -> None:
    raw, few, all_lists = (
        points_of(Searcher.open(stored), *asked, K, [nprobe], [shortlist])[0].recall.mean.value
        for nprobe, shortlist in ((8, 0), (1, 100), (8, 100))
    )
    assert raw < 0.9 > few and all_lists > 0.9


def test_codes_are_those_of_the_lists_that_are_probed(tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).standard_normal((400, 6)).astype(np.float32)
    rows = [Row(f"k{number}", vector.tolist()) for number, vector in enumerate(vectors)]
    store = make_root(tmp_path / "root", rows, key="IVF8,Flat", metric="l2", normalize=False, nprobe=2)
    searcher = Searcher.open(store)
    (one,) = queries.of_root(searcher, 30, 0)
    (exact,) = proved(store, tmp_path / "work", one)
    index = faiss.read_index(str(tmp_path / "root" / searcher.generation.index.path))
    ivf = faiss.extract_index_ivf(index)
    sizes = np.array([ivf.invlists.list_size(number) for number in range(ivf.nlist)])
    for nprobe in (1, 3, 8):
        _, lists = ivf.quantizer.search(one.vectors, nprobe)
        (point,) = points_of(searcher, one, exact, K, [nprobe])
        assert point.codes == pytest.approx(sizes[lists].sum(axis=1).mean())


def test_settings_of_a_curve_are_powers_of_two_all_lists_and_the_usual(stored: Store, tmp_path: Path) -> None:
    searcher = Searcher.open(stored)
    assert curve.shortlists_of(searcher) == (0, 100)
    assert curve.nprobes_of(searcher) == tuple(sorted({1, 2, 4, 8, searcher.generation.trained.nprobe}))
    flat = Searcher.open(make_root(tmp_path / "root", directions(30), key="IVF5,Flat", nprobe=3))
    assert (curve.nprobes_of(flat), curve.shortlists_of(flat)) == ((1, 2, 3, 4, 5), (0,))


def test_the_usual_setting_is_marked_and_is_a_usual_search(stored: Store, asked: tuple[QuerySet, Neighbours]) -> None:
    searcher = Searcher.open(stored)
    usual = searcher.generation.trained.nprobe
    points = points_of(searcher, *asked, K, [usual, 2 * usual], [0, 100])
    assert [(point.nprobe, point.shortlist) for point in points if point.is_default] == [(usual, 100)]
    np.testing.assert_allclose(points[2].recall.shares, shares(searcher, asked[0], None, 100))


def test_no_more_lists_are_tried_once_almost_all_is_found(tmp_path: Path) -> None:
    store = make_root(tmp_path / "root", directions(100), key="IVF8,Flat", nprobe=2)
    (one,) = queries.of_root(Searcher.open(store), 20, 0)
    (exact,) = proved(store, tmp_path / "work", one)
    tried = [point.nprobe for point in curve.points(Searcher.open(store), one, exact, 2, [1, 2, 4, 8], [0])]
    assert tried == [1, 2, 4][: len(tried)] and len(tried) < 4
    assert len(points_of(Searcher.open(store), one, exact, 2, [1, 2, 4, 8])) == 4


def test_where_there_are_fewer_rows_than_results_all_of_them_are_wanted(tmp_path: Path) -> None:
    store = make_root(tmp_path / "root", directions(60), key="IVF4,Flat")
    (one,) = queries.of_root(Searcher.open(store), 10, 0)
    (exact,) = proved(store, tmp_path / "work", one, near=400)
    points = points_of(Searcher.open(store), one, exact, 200, [1, 2, 4])
    # A usual search looks into more lists until it has 200, one of two lists does not.
    assert [point.recall.mean.value == 1 for point in points] == [True, False, True]


def reversed_ties(count: int) -> tuple[list[Row], Neighbours]:
    """A row that is nearest, and equal ones, of which the exact neighbours name those with the highest ids."""
    rows = [Row("nearest", unit(0)), *(Row(f"k{number}", unit(20)) for number in range(count))]
    ids = np.array([[0, *range(count, 0, -1)]], np.int64)
    return rows, (ids, np.array([[-1.0, *[-float(np.cos(np.deg2rad(20)))] * count]], np.float32))


def test_of_equal_rows_it_does_not_matter_which_are_found(tmp_path: Path) -> None:
    rows, exact = reversed_ties(9)
    searcher = Searcher.open(make_root(tmp_path / "root", rows))
    one = vectors_asked(np.array([unit(0)], np.float32))
    (point,) = points_of(searcher, one, exact, 3, [1])
    assert (point.recall.mean.value, point.nearest) == (1, 1)
    (point,) = points_of(searcher, one, (exact[0], exact[1] * np.linspace(1, 0.99, 10, dtype=np.float32)), 3, [1])
    assert point.recall.mean.value == pytest.approx(1 / 3)


def test_more_equal_rows_than_are_kept_are_found(tmp_path: Path) -> None:
    rows = [Row(f"k{number}", unit(0 if number < 300 else 30)) for number in range(320)]
    store = make_root(tmp_path / "root", rows, key="IVF2,Flat")
    (one,) = queries.of_root(Searcher.open(store), 100, 0)
    (exact,) = proved(store, tmp_path / "work", one)
    assert [point.recall.mean.value for point in points_of(Searcher.open(store), one, exact, 10, [1, 2])] == [1, 1]


def test_a_query_that_lies_far_off_forgives_the_others_nothing(tmp_path: Path) -> None:
    vectors = np.random.default_rng(3).standard_normal((200, 6)).astype(np.float32)
    rows = [Row(f"k{number}", vector.tolist()) for number, vector in enumerate(vectors)]
    store = make_root(tmp_path / "root", rows, key="IVF16,Flat", metric="l2", normalize=False)
    near = np.random.default_rng(4).standard_normal((20, 6)).astype(np.float32)
    told: list[NDArray[np.float64]] = []
    for number, vectors_of in enumerate((near, np.concatenate([near, np.full((1, 6), 1e4, np.float32)]))):
        one = vectors_asked(vectors_of)
        (exact,) = proved(store, tmp_path / f"work{number}", one)
        (point,) = points_of(Searcher.open(store), one, exact, K, [2])
        told.append(point.recall.shares[:20])
    assert told[0].mean() < 0.9
    np.testing.assert_array_equal(told[0], told[1])


def test_of_an_item_with_several_rows_the_nearest_counts(tmp_path: Path) -> None:
    rows = [Row(f"k{number // 4}", unit(3 * number), "keyword", part=number % 4) for number in range(80)]
    store = make_root(tmp_path / "root", rows, key="IVF4,Flat", nprobe=4)
    (one,) = queries.of_root(Searcher.open(store), 20, 0)
    (exact,) = proved(store, tmp_path / "work", one)
    (point,) = points_of(Searcher.open(store), one, exact, 3, [4])
    assert (point.recall.mean.value, point.nearest) == (1, 1)
    few, *_ = points_of(Searcher.open(store), one, exact, 3, [1])
    searcher, wanted = Searcher.open(store), []
    for query, own, ids in zip(one.vectors, one.own.tolist(), exact[0].tolist(), strict=True):
        items = [item for item in dict.fromkeys(row // 4 for row in ids if row >= 0) if item != own // 4][:3]
        (hits,) = searcher.search(query[None], 4, 1, "keyword")
        wanted.append(len({f"k{item}" for item in items} & {hit.key for hit in hits if hit.key != f"k{own // 4}"}) / 3)
    np.testing.assert_allclose(few.recall.shares, wanted)


def test_vectors_find_pictures_and_texts_of_an_item_once(tmp_path: Path) -> None:
    rows = directions(30) + directions(30, "text", 1)
    store = make_root(tmp_path / "root", rows, key="IVF2,Flat", nprobe=2)
    one = vectors_asked(np.array([unit(degrees) for degrees in range(0, 90, 7)], np.float32))
    (exact,) = proved(store, tmp_path / "work", one)
    (point,) = points_of(Searcher.open(store), one, exact, 10, [2])
    assert point.recall.mean.value == 1


def test_a_kind_is_asked_of_its_own_rows(tmp_path: Path) -> None:
    store = make_root(tmp_path / "root", directions(30) + directions(40, "text", 1), key="IVF4,Flat")
    sets = queries.of_root(Searcher.open(store), 10, 0)
    for one, exact in zip(sets, proved(store, tmp_path / "work", *sets), strict=True):
        (point,) = points_of(Searcher.open(store), one, exact, K, [4])
        assert (point.queries_of, point.recall.mean.value) == (one.asked.name, 1)
        assert exact[0].max() < 30
    assert Asked("text", "image") == sets[1].asked

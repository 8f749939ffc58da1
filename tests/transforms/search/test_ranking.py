"""Ranking: the nearest row of every key, ties by id, nothing missed, whatever an index cuts and in whatever order."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from transforms.search.ranking import NO_ROW, Reach, over_fetched, rank


@dataclass(frozen=True)
class Rows:
    """A table of rows that answers looks as an index does: the nearest of the lists probed, ties in any order."""

    distances: NDArray[np.float32]
    ids: NDArray[np.int64]
    keys: NDArray[np.int64]
    lists: NDArray[np.int64]
    shuffle: int

    def look(self, reach: Reach) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        probed = np.flatnonzero(self.lists < reach.nprobe)
        any_order = np.random.default_rng(self.shuffle + reach.rows).permutation(probed)
        nearest = any_order[np.argsort(self.distances[any_order], kind="stable")][: reach.rows]
        if reach.by_id:
            nearest = probed[np.lexsort((self.ids[probed], self.distances[probed]))][: reach.rows]
        short = reach.rows - len(nearest)
        return (
            np.concatenate((self.distances[nearest], np.full(short, np.inf, np.float32))),
            np.concatenate((self.ids[nearest], np.full(short, NO_ROW))),
        )

    def keys_of(self, ids: NDArray[np.int64]) -> list[int]:
        return [int(self.keys[np.flatnonzero(self.ids == row)[0]]) for row in ids]

    def truth(self, k: int, nprobe: int, most: int) -> list[tuple[float, int]]:
        while True:
            probed = np.flatnonzero(self.lists < nprobe).tolist()
            rows = sorted((float(self.distances[p]), int(self.ids[p]), int(self.keys[p])) for p in probed)
            best: dict[int, tuple[float, int]] = {}
            for distance, row, key in rows:
                best.setdefault(key, (distance, row))
            if len(best) >= k or nprobe >= most:
                return list(best.values())[:k]
            nprobe = min(2 * nprobe, most)


@st.composite
def tables(draw: st.DrawFn) -> Rows:
    count = draw(st.integers(1, 60))
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    return Rows(
        distances=rng.integers(0, draw(st.integers(1, 40)), count).astype(np.float32),
        ids=rng.permutation(count * 3)[:count].astype(np.int64),
        keys=rng.integers(0, draw(st.integers(1, 60)), count),
        lists=rng.integers(0, 9, count),
        shuffle=seed,
    )


@given(rows=tables(), k=st.integers(1, 70), depth=st.integers(1, 70), nprobe=st.integers(1, 9), fixed=st.booleans())
def test_the_result_is_that_of_comparing_every_row(rows: Rows, k: int, depth: int, nprobe: int, fixed: bool) -> None:
    most = Reach(len(rows.ids), nprobe if fixed else 9)
    ranked = rank(rows.look, rows.keys_of, k, Reach(depth, nprobe), most)
    found = list(zip(ranked.distances.tolist(), ranked.ids.tolist(), strict=True))
    assert found == rows.truth(k, nprobe, most.nprobe)


def test_one_look_is_enough_when_it_shows_the_end_of_the_ties() -> None:
    rows = Rows(np.arange(50, dtype=np.float32), np.arange(50), np.arange(50), np.zeros(50, np.int64), 0)
    looks: list[Reach] = []

    def look(reach: Reach) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        looks.append(reach)
        return rows.look(reach)

    rank(look, rows.keys_of, 10, Reach(11, 1), Reach(50, 8))
    assert looks == [Reach(11, 1)]


@given(
    rows=tables(), k=st.integers(1, 70), depth=st.integers(1, 70), nprobe=st.integers(1, 9), dead=st.integers(1, 10),
    looked=st.booleans(),
)  # fmt: skip
def test_dead_rows_are_as_if_they_were_not_there(
    rows: Rows, k: int, depth: int, nprobe: int, dead: int, looked: bool
) -> None:
    def are_alive(ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        return ids % 11 >= dead

    def keys_of(ids: NDArray[np.int64]) -> list[int]:
        assert are_alive(ids).all()
        return rows.keys_of(ids)

    lives = are_alive(rows.ids)
    living = Rows(rows.distances[lives], rows.ids[lives], rows.keys[lives], rows.lists[lives], 0)
    most = Reach(len(rows.ids), nprobe if looked else 9)
    ranked = rank(rows.look, keys_of, k, Reach(depth, nprobe), most, are_alive)
    found = list(zip(ranked.distances.tolist(), ranked.ids.tolist(), strict=True))
    assert found == living.truth(k, nprobe, most.nprobe)


@pytest.mark.parametrize(("rows", "dead"), [(11, 0.05), (11, 0.5), (301, 0.05), (31, 0.9)])
def test_a_look_most_likely_holds_what_is_wanted_beside_the_dead(rows: int, dead: float) -> None:
    fetched = over_fetched(rows, dead)
    alive = np.random.default_rng(0).binomial(fetched, 1 - dead, 20_000)
    assert (alive >= rows).mean() > 0.99
    assert fetched < 2.5 * rows / (1 - dead)
    assert over_fetched(rows, 0.0) == rows

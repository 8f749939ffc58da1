"""What slices found, taken together: the nearest in order of distance and id, and nothing of scans that differ."""

from pathlib import Path

import numpy as np
import pytest

from tests.roots import Row, make_root, unit
from transforms.batch.slices import _arrays, _scan_of
from transforms.generations.published import open_generation
from transforms.index.adaptive.stop import Stop
from transforms.search.looks import FirstScan
from transforms.search.ranking import NO_ROW, Reach
from transforms.search.slices import Joined, Whole

QUERIES = np.array([unit(0), unit(90)], np.float32)


def scan(rows: int, distances: list[list[float]], ids: list[list[int]]) -> FirstScan:
    return FirstScan(Reach(rows, 2), QUERIES, np.array(distances, np.float32), np.array(ids))


@pytest.fixture
def joined(tmp_path: Path) -> Joined:
    store = make_root(tmp_path, [Row("a", unit(0))])
    return Joined(Whole(store, open_generation(store)), None)


def test_fewer_rows_than_a_slice_found_are_the_nearest_with_the_lowest_ids(joined: Joined) -> None:
    joined.add(scan(3, [[0.5, 0.5, 0.9], [0.1, 0.2, 0.3]], [[7, 3, 9], [1, 2, 4]]))
    distances, ids = joined.scan(QUERIES, Reach(2, 2, by_id=True), None, None)
    assert ids.tolist() == [[9, 3], [4, 2]]
    np.testing.assert_allclose(distances, [[0.9, 0.5], [0.3, 0.2]])


def test_slices_are_taken_together_and_what_was_not_found_comes_last(joined: Joined) -> None:
    joined.add(scan(2, [[0.9, 0.1], [0.3, -1]], [[5, 6], [8, NO_ROW]]))
    joined.add(scan(2, [[0.9, 0.8], [-1, -1]], [[4, 7], [NO_ROW, NO_ROW]]))
    assert joined.scan(QUERIES, Reach(2, 2), None, None)[1].tolist() == [[4, 5], [8, NO_ROW]]
    assert joined.scan(QUERIES[::-1], Reach(2, 2), None, None)[1].tolist() == [[8, NO_ROW], [4, 5]]


def test_slices_that_were_scanned_otherwise_are_refused(joined: Joined) -> None:
    joined.add(scan(2, [[0.9, 0.1], [0.3, 0.2]], [[5, 6], [8, 9]]))
    with pytest.raises(ValueError, match="others 2 at"):
        joined.add(scan(3, [[0.9, 0.1, 0], [0.3, 0.2, 0]], [[5, 6, 7], [8, 9, 1]]))


def test_what_slices_did_not_look_for_is_looked_for_in_the_whole(joined: Joined) -> None:
    joined.add(scan(1, [[0.5], [0.5]], [[7], [8]]))
    assert joined.scan(QUERIES, Reach(1, 1), None, None)[1].tolist() == [[0], [0]]  # another nprobe
    assert joined.scan(np.array([unit(5)], np.float32), Reach(1, 2), None, None)[1].tolist() == [[0]]  # another query


def test_queries_that_stopped_in_the_slices_look_further_in_the_whole(joined: Joined) -> None:
    stop = Stop(1.5, 10)
    stopped = FirstScan(Reach(1, 1, stop=stop), QUERIES, np.array([[0.5], [0.5]], np.float32), np.array([[7], [8]]))
    back = _scan_of(_arrays(stopped), QUERIES, joined._whole)
    assert back.reach == stopped.reach
    joined.add(back)
    assert joined.scan(QUERIES, Reach(1, 1, stop=stop), None, None)[1].tolist() == [[7], [8]]
    assert joined.scan(QUERIES, Reach(1, 1), None, None)[1].tolist() == [[0], [0]]

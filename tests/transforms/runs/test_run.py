"""A run knows the root that it was begun on."""

import dataclasses
import pickle
from pathlib import Path

import pytest

from tests.transforms.bare_runs import REQUEST, lay, reference
from transforms.errors import PixdexError
from transforms.markers import ListsMarker
from transforms.runs import beginning
from transforms.runs.run import Run
from transforms.storage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path / "root"))


def test_a_marker_of_other_work_is_an_error_and_never_a_skip(store: Store) -> None:
    run = beginning.begin(store, REQUEST)
    lay(store, "files/lists", 1)
    run.commit("add", 3, ListsMarker(3, "a" * 64, 5, reference("lists")))

    assert run.marker("add", 4, ListsMarker, "a" * 64) is None
    assert run.marker("add", 3, ListsMarker, "a" * 64) is not None
    with pytest.raises(PixdexError, match=r"answers aaaaaaaaaaaa…, this run asks for bbbbbbbbbbbb…: .*--abandon-plan"):
        run.marker("add", 3, ListsMarker, "b" * 64)


@pytest.mark.parametrize("size", [None, 0, 2])
def test_a_marker_without_its_file_is_not_believed_and_not_adopted(store: Store, size: int | None) -> None:
    run = beginning.begin(store, REQUEST)
    lay(store, "files/lists", 1)
    marker = run.commit("add", 3, ListsMarker(3, "d", 5, reference("lists")))
    if size is None:
        store.local_path("files/lists").unlink()
    else:
        lay(store, "files/lists", size)

    assert run.marker("add", 3, ListsMarker, "d") is None
    with pytest.raises(PixdexError, match=r"files/lists is missing or cut short, .* different this time: .*--abandon"):
        run.commit("add", 3, dataclasses.replace(marker, lists=reference("other")))


def test_markers_are_read_in_the_order_of_their_tasks(store: Store) -> None:
    run = beginning.begin(store, REQUEST)
    lay(store, "files/lists", 1)
    for number in (2, 0, 1):
        run.commit("add", number, ListsMarker(number, "d", number, reference("lists")))

    assert [marker.number for marker in run.markers("add", range(3), ListsMarker)] == [0, 1, 2]


def test_a_worker_that_sees_another_folder_under_the_name_of_the_root_says_so(tmp_path: Path) -> None:
    with pytest.raises(PixdexError, match="mount that on every worker"):
        _ = Run(Store.at(str(tmp_path)), 1).request


def test_what_was_read_of_a_run_does_not_travel_to_its_workers(store: Store) -> None:
    run = beginning.begin(store, REQUEST)
    before = pickle.dumps(run)
    assert run.request == REQUEST
    assert not run.is_planned
    assert pickle.dumps(run) == before
    assert pickle.loads(before) == run  # noqa: S301 - what was written a line above

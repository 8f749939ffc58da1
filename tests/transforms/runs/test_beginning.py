"""Which run comes next, and what two do that begin at once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.transforms.bare_runs import OTHER, REQUEST, finish, plan, publish_run
from transforms.errors import PixdexError
from transforms.runs import beginning
from transforms.runs.run import Run
from transforms.storage.store import Store
from transforms.tasks import publish


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path / "root"))


def test_a_run_is_unfinished_until_it_is_published(store: Store) -> None:
    run = beginning.begin(store, REQUEST)
    assert beginning.unfinished(store) == run == Run(store, 1)
    assert run.request == REQUEST

    plan(run)
    finish(run)
    assert beginning.unfinished(store) == run
    publish.publish(run)
    assert beginning.unfinished(store) is None


def test_a_run_killed_before_its_request_was_there_burns_no_number(store: Store) -> None:
    store.local_path("plans/000001").mkdir(parents=True)
    assert beginning.runs(store) == []
    assert beginning.begin(store, REQUEST).generation == 1


def test_an_abandoned_run_burns_its_generation_and_its_shards(store: Store) -> None:
    run = beginning.begin(store, REQUEST)
    plan(run, shards=7)
    beginning.abandon(run)
    beginning.abandon(run)

    assert beginning.unfinished(store) is None
    assert (beginning.next_number(store), beginning.next_shard(store)) == (2, 7)
    assert publish_run(store).next_shard == 9


def test_two_that_begin_the_same_request_at_once_share_the_run(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        begun = set(pool.map(lambda _: beginning.begin(store, REQUEST), range(8)))

    assert begun == {Run(store, 1)}
    assert beginning.unfinished(store) == Run(store, 1)


def test_of_two_that_begin_different_requests_at_once_one_is_told_to_wait(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    beginning.begin(store, REQUEST)
    monkeypatch.setattr(beginning, "next_number", lambda _: 1)  # what it had read before the other began

    with pytest.raises(PixdexError, match=r"another run has just begun .* wait for it, then run again"):
        beginning.begin(store, OTHER)


def test_one_that_begins_a_moment_later_gives_way(store: Store) -> None:
    first = beginning.begin(store, REQUEST)

    with pytest.raises(PixdexError, match="another run has just begun"):
        beginning.begin(store, OTHER)
    assert beginning.begin(store, REQUEST) == first
    assert beginning.unfinished(store) == first

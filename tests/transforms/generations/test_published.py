"""Which generation is published, and which one is current."""

from pathlib import Path

import pytest

from tests.transforms.bare_runs import OTHER, publish_run
from transforms.generations import published
from transforms.runs import beginning
from transforms.storage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path / "root"))


def test_a_new_root_has_nothing(store: Store) -> None:
    assert published.current(store) is None
    assert beginning.unfinished(store) is None
    assert published.numbers(store) == beginning.runs(store) == []
    assert (beginning.next_number(store), beginning.next_shard(store)) == (1, 0)


def test_the_highest_number_is_the_current_generation(store: Store) -> None:
    first, second = publish_run(store), publish_run(store, OTHER)

    assert (first.generation, second.generation) == (1, 2)
    assert published.current(store) == second
    assert published.numbers(store) == [1, 2]


def test_what_is_no_manifest_is_no_generation(store: Store) -> None:
    found = publish_run(store)
    for name in ("LATEST", "000009.json.bak", "x.json", ".000009.json.123"):
        store.create(f"generations/{name}", b"{}")

    assert published.current(store) == found

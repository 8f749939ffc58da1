"""Which generation is published, and which one is current."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tests.transforms.bare_runs import OTHER, REQUEST, publish_run
from transforms.errors import PixdexError
from transforms.generations import published
from transforms.markers import StageMarker
from transforms.record_json import encode
from transforms.runs import beginning
from transforms.runs.run import Run
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.upkeep.rollback import roll_back


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


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"checksum": ""}, "has no checksum of itself"),
        ({"checksum": "0" * 64}, "does not match its checksum"),
        ({"request_digest": "other"}, "does not match its checksum"),
    ],
)
def test_a_manifest_that_is_not_sealed_is_not_believed(store: Store, change: dict[str, Any], why: str) -> None:
    generation = publish_run(store)
    store.overwrite(layout.generation(1), encode(dataclasses.replace(generation, **change)))
    with pytest.raises(PixdexError, match=rf"generations/000001\.json is damaged, it {why}: restore it"):
        published.current(store)


def test_a_manifest_in_the_place_of_another_is_not_believed(store: Store) -> None:
    first, _ = publish_run(store), publish_run(store, OTHER)
    store.overwrite(layout.generation(2), encode(first))
    with pytest.raises(PixdexError, match=r"000002\.json is damaged, it is that of generation 1"):
        published.current(store)


def test_a_manifest_that_is_gone_is_known_by_its_plan(store: Store) -> None:
    for number, request in enumerate((REQUEST, OTHER), start=1):
        publish_run(store, request)
        store.commit(layout.stage_marker(number, "publish"), StageMarker("publish", 1, 0.0))
    assert published.lost(store) is None
    store.remove(layout.generation(1))
    assert published.lost(store) is None  # pixdex gc removes those of before
    store.remove(layout.generation(2))
    assert published.lost(store) == 2
    beginning.abandon(Run(store, 2))
    assert published.lost(store) == 1


def test_a_run_that_found_nothing_to_do_has_lost_nothing(store: Store) -> None:
    publish_run(store)
    run = beginning.begin(store, OTHER)
    assert published.lost(store) is None
    beginning.abandon(run)
    store.commit(layout.stage_marker(2, "publish"), StageMarker("publish", 1, 0.0))
    assert published.lost(store) is None


def test_a_rollback_whose_manifest_is_gone_is_known(store: Store) -> None:
    first, _ = publish_run(store), publish_run(store, OTHER)
    assert roll_back(store, first).generation == 3
    assert published.lost(store) is None
    store.remove(layout.generation(3))
    assert published.lost(store) == 3


def test_what_is_no_manifest_is_no_generation(store: Store) -> None:
    found = publish_run(store)
    for name in ("LATEST", "000009.json.bak", "x.json", ".000009.json.123"):
        store.create(f"generations/{name}", b"{}")

    assert published.current(store) == found

"""Ids, key tables and tombstones: every living row is in one place."""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.transforms.upkeep.verify.changed import delta_of, named, with_delta, with_table
from transforms.generations import key_tables, tables, tombstones
from transforms.generations.manifest import Generation
from transforms.generations.tombstones import Tombstones
from transforms.records import row_ids
from transforms.storage.store import Store
from transforms.upkeep.verify import verify

# --- ids ---


def test_a_delta_that_was_written_again_is_whole(store: Store, generation: Generation) -> None:
    assert named(store, with_delta(store, generation, lambda _: None)) == set()


@pytest.mark.parametrize("place", ["merged index", "same delta"])
def test_an_id_that_is_in_lists_twice_is_seen_and_the_one_that_is_missing(
    store: Store, generation: Generation, place: str
) -> None:
    def change(ids: NDArray[np.int64]) -> None:
        ids[0] = 0 if place == "merged index" else ids[1]

    wrong = with_delta(store, generation, change)
    found = named(store, wrong)
    assert generation.index.path in found
    assert any("twice" in finding.what for finding in verify(store, wrong).findings)
    assert named(store, wrong, quick=True) == set()


@pytest.mark.parametrize("number", [5 << 16, (1 << 16) + 60_000, (1 << 40)])
def test_an_id_of_no_row_is_seen(store: Store, generation: Generation, number: int) -> None:
    def change(ids: NDArray[np.int64]) -> None:
        ids[0] = number

    wrong = with_delta(store, generation, change)
    assert {delta_of(store, wrong), generation.index.path} <= named(store, wrong)


def test_a_live_row_that_tombstones_bury_is_seen(store: Store, generation: Generation) -> None:
    dead = tombstones.read_all(store, generation.tables.tombstones)
    buried = [int(row) for row in row_ids(0, 170) if not dead.are_alive(np.array([row], np.int64))[0]]
    assert len(buried) == 3
    other = [5 if row == buried[0] else row for row in buried]
    file = tombstones.write(store, Tombstones.of(np.array(sorted(other), np.int64)))

    def name_it(rows: list[dict[str, Any]]) -> None:
        rows[0] |= asdict(file)

    wrong = with_table(store, generation, "tombstones", name_it)
    assert named(store, wrong), "the key tables say otherwise"


# --- key tables ---


def with_keys(
    store: Store, generation: Generation, change: Callable[[NDArray[np.void]], NDArray[np.void]]
) -> Generation:
    """The generation with other entries in its only hash bucket."""
    (bucket,) = tables.buckets_of(store, generation)
    written = key_tables.write_entries(store, change(key_tables.read_entries(store, bucket.file).copy()))

    def name_it(rows: list[dict[str, Any]]) -> None:
        rows[0] |= asdict(written)

    return with_table(store, generation, "keys", name_it)


def _swap(entries: NDArray[np.void]) -> NDArray[np.void]:
    entries[[3, 4]] = entries[[4, 3]]
    return entries


def _twice(entries: NDArray[np.void]) -> NDArray[np.void]:
    entries[4] = entries[3]
    return entries


def _drop(entries: NDArray[np.void]) -> NDArray[np.void]:
    return np.delete(entries, 3)


def _name_a_row_of_another(entries: NDArray[np.void]) -> NDArray[np.void]:
    pictures = np.flatnonzero((entries["image"] >= 0) & (entries["shard"] == 0))
    entries["image"][pictures[0]] = entries["image"][pictures[1]]
    return entries


def _name_a_row_of_no_shard(entries: NDArray[np.void]) -> NDArray[np.void]:
    entries["shard"][np.flatnonzero(entries["image"] >= 0)[0]] = 99
    return entries


def _forget_a_reject(entries: NDArray[np.void]) -> NDArray[np.void]:
    entries["reject"] = 0
    return entries


@pytest.mark.parametrize(
    "change",
    [_swap, _twice, _drop, _name_a_row_of_another, _name_a_row_of_no_shard, _forget_a_reject],
    ids=lambda change: change.__name__.strip("_"),
)
def test_entries_of_the_key_table_that_do_not_fit_are_seen(
    store: Store, generation: Generation, change: Callable[[NDArray[np.void]], NDArray[np.void]]
) -> None:
    wrong = with_keys(store, generation, change)
    (bucket,) = tables.buckets_of(store, wrong)
    assert wrong.tables.keys is not None
    assert named(store, wrong) & {bucket.file.path, wrong.tables.keys.path}


def test_a_key_table_that_was_written_again_is_whole(store: Store, generation: Generation) -> None:
    assert named(store, with_keys(store, generation, lambda entries: entries)) == set()


def test_a_hash_bucket_that_no_table_names_is_seen(store: Store, generation: Generation) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[0]["bits"] = 1

    assert named(store, with_table(store, generation, "keys", change))


@pytest.mark.parametrize("count", ["entries", "rejected", "images", "texts", "keywords"])
def test_a_wrong_count_of_a_hash_bucket_is_seen(store: Store, generation: Generation, count: str) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[0][count] += 1

    wrong = with_table(store, generation, "keys", change)
    (bucket,) = tables.buckets_of(store, wrong)
    assert wrong.tables.keys is not None
    assert named(store, wrong) >= {bucket.file.path, wrong.tables.keys.path}
    assert named(store, wrong, quick=True) == {wrong.tables.keys.path}


# --- tombstones ---


def with_tombstones(store: Store, generation: Generation, ids: list[int]) -> Generation:
    """The generation with more dead rows."""
    dead = tombstones.read_all(store, generation.tables.tombstones)
    more = Tombstones.joined([dead, Tombstones.of(np.array(ids, np.int64))])
    file = tombstones.write(store, more)

    def name_it(rows: list[dict[str, Any]]) -> None:
        rows[0] |= {"rows": more.rows, **asdict(file)}

    return with_table(store, generation, "tombstones", name_it)


@pytest.mark.parametrize("dead", [7 << 16, 60_000], ids=["of no shard", "of no row"])
def test_tombstones_of_what_never_was_are_seen(store: Store, generation: Generation, dead: int) -> None:
    wrong = with_tombstones(store, generation, [dead])
    ((_, file),) = tables.tombstones_of(store, wrong).values()
    assert file.path in named(store, wrong)


def test_tombstones_of_a_shard_that_was_merged_away_are_no_fault(store: Store, generation: Generation) -> None:
    later = replace(generation, next_shard=9)
    assert named(store, with_tombstones(store, later, [8 << 16])) == set()


def test_a_dead_row_in_lists_whose_shard_is_gone_is_seen(store: Store, generation: Generation) -> None:
    gone = (generation.next_shard + 1) << 16

    def change(ids: NDArray[np.int64]) -> None:
        ids[0] = gone

    wrong = with_delta(store, replace(generation, next_shard=generation.next_shard + 2), change)
    assert delta_of(store, wrong) in named(store, with_tombstones(store, wrong, [gone]))


def test_a_dead_row_that_is_in_lists_twice_is_seen(store: Store, generation: Generation) -> None:
    dead = tombstones.read_all(store, generation.tables.tombstones)
    buried = row_ids(0, 170)[dead.are_dead(row_ids(0, 170))]

    def change(ids: NDArray[np.int64]) -> None:
        ids[0] = buried[0]

    wrong = with_delta(store, generation, change)
    assert delta_of(store, wrong) in named(store, wrong)

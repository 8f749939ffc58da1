"""The key tables of a run: an entry for every item that it knows, in buckets of their hash, each written once.

As those of `test_bury`, run at leisure:

    pytest -m slow tests/transforms/stages/test_tombstones.py tests/transforms/stages/test_keys.py
"""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines import build
from tests.end_to_end.builds import every_file, make_work_small
from tests.end_to_end.reindexing import Collection, collection, generation_of
from tests.transforms.built import ROWS, run_up_to
from tests.transforms.small_runs import go, tasks
from transforms.errors import PixdexError
from transforms.generations import key_tables, tables
from transforms.generations.key_tables import Bucket
from transforms.markers import KeysMarker
from transforms.records import Reindex
from transforms.runs import beginning, inventory
from transforms.runs.inventory import key_bits
from transforms.runs.run import Run
from transforms.stages.embed import EmbedPartitions
from transforms.stages.keys import UpdateKeys
from transforms.stages.plan import PlanItems
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.tasks.keys import shard_entries

pytestmark = pytest.mark.slow

KEY = ("--index-key", "IVF4,Flat")


@pytest.fixture
def small_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket is to hold 64 items."""
    monkeypatch.setattr(key_tables, "ENTRIES_PER_BUCKET", 64)


@pytest.fixture
def first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_buckets: None) -> Run:
    """A first build of 300 texts that stands before its key tables."""
    return run_up_to("keys", tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a hundred pictures, of which two are broken, forty rows, and their index, which tests copy."""
    folder = tmp_path_factory.mktemp("built")
    made = broken(collection(folder / "sources"))
    with pytest.MonkeyPatch.context() as patch:
        make_work_small(patch)
        patch.setattr(key_tables, "ENTRIES_PER_BUCKET", 64)
        assert build.main(["--root", str(folder / "root"), *made.arguments, *KEY]) == 0
    return folder


def broken(items: Collection) -> Collection:
    items.pictures |= {"p010": -1, "p011": -2}
    items.write()
    return items


@pytest.fixture
def items(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_buckets: None) -> Collection:
    """The collection, as it was when the index in `root` was made of it."""
    make_work_small(monkeypatch)
    shutil.copytree(built / "root", tmp_path / "root")
    return broken(collection(built / "sources"))  # keys hold its path, so that it stays where it is


def night(root: Path) -> Run:
    """Begins a reindex that stands before its key tables."""
    store, published = Store.at(str(root)), generation_of(root)
    run = beginning.begin(store, replace(published.request, reindex=Reindex(published.generation)))
    go(PlanItems(run, beginning.next_shard(store)))
    go(EmbedPartitions(run))
    return run


def entries_of(run: Run) -> NDArray[np.void]:
    """All entries of the key tables that a run made, bucket by bucket."""
    return key_tables.joined([key_tables.read_entries(run.store, marker.file) for marker in inventory.key_markers(run)])


def known_before(run: Run) -> NDArray[np.void]:
    """All entries of the generation that a run goes on from."""
    assert run.base is not None
    return all_of(run, tables.buckets_of(run.store, run.base))


def removed_by(run: Run) -> NDArray[np.void]:
    """All entries that the plan of a run removes."""
    return all_of(run, tables.removed_of(run.store, run.plan))


def all_of(run: Run, buckets: Sequence[Bucket]) -> NDArray[np.void]:
    return key_tables.joined([key_tables.read_entries(run.store, bucket.file) for bucket in buckets])


def as_set(entries: NDArray[np.void]) -> set[tuple[int, ...]]:
    found = set(map(tuple, entries.tolist()))
    assert len(found) == len(entries)
    return found


def files_of(run: Run) -> dict[int, KeysMarker]:
    return {marker.number: marker for marker in inventory.key_markers(run)}


def forget(run: Run) -> None:
    """Takes the marker of the stage away, so that it is not done."""
    run.store.local_path(layout.stage_marker(run.generation, "keys")).unlink()


def test_every_item_of_a_first_build_has_an_entry_in_the_bucket_of_its_hash(first: Run) -> None:
    go(UpdateKeys(first))
    assert key_bits(first) == 3
    assert tasks(first, "keys") == len(files_of(first)) == 8
    expected = [shard_entries(first.store, marker, first.request.sources) for marker in first.shards()]
    assert as_set(entries_of(first)) == as_set(key_tables.joined(expected))
    for number, marker in files_of(first).items():
        entries = key_tables.read_entries(first.store, marker.file)
        np.testing.assert_array_equal(entries["high"] >> np.uint64(61), number)
        np.testing.assert_array_equal(entries, key_tables.sort(entries))


def test_a_marker_counts_what_its_bucket_has(first: Run) -> None:
    go(UpdateKeys(first))
    markers = inventory.key_markers(first)
    assert sum(marker.entries for marker in markers) == sum(marker.texts for marker in markers) == ROWS
    assert {(marker.images, marker.keywords, marker.rejected) for marker in markers} == {(0, 0, 0)}
    for marker in markers:
        assert len(key_tables.read_entries(first.store, marker.file)) == marker.entries


def test_few_items_have_one_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_up_to("keys", tmp_path, monkeypatch)
    go(UpdateKeys(run))
    assert tasks(run, "keys") == 1
    assert len(entries_of(run)) == ROWS


def test_a_second_run_changes_no_file(first: Run) -> None:
    go(UpdateKeys(first))
    forget(first)
    root = first.store.local_path("")
    before = every_file(root)
    go(UpdateKeys(first))
    after = every_file(root)
    stage = layout.stage_marker(first.generation, "keys")
    assert {path: stat for path, stat in after.items() if path != stage} == before


def test_a_stage_that_is_done_writes_nothing(first: Run) -> None:
    go(UpdateKeys(first))
    before = every_file(first.store.local_path(""))
    go(UpdateKeys(first))
    assert every_file(first.store.local_path("")) == before


def test_bundles_that_run_twice_write_the_same_buckets(first: Run) -> None:
    go(UpdateKeys(first))
    once = files_of(first)
    forget(first)
    for number in once:
        first.store.local_path(layout.marker(first.generation, "keys", number)).unlink()
    go(UpdateKeys(first), "--direct_runner_bundle_repeat=1")
    assert files_of(first) == once
    assert tasks(first, "keys") == len(once)


def test_a_bucket_whose_file_is_lost_is_written_again(first: Run) -> None:
    go(UpdateKeys(first))
    once = files_of(first)
    forget(first)
    first.store.local_path(once[5].file.path).unlink()
    go(UpdateKeys(first))
    assert files_of(first) == once
    assert first.store.holds(once[5].file)


def test_a_marker_of_another_plan_is_refused(first: Run) -> None:
    go(UpdateKeys(first))
    forget(first)
    path = first.store.local_path(layout.marker(first.generation, "keys", 2))
    path.write_text(path.read_text().replace(files_of(first)[2].digest, "0" * 64))
    with pytest.raises(PixdexError, match="--abandon-plan"):
        go(UpdateKeys(first))


def test_rejects_have_entries_without_rows(items: Collection, tmp_path: Path) -> None:
    store, published = Store.at(str(tmp_path / "root")), generation_of(tmp_path / "root")
    buckets = tables.buckets_of(store, published)
    entries = key_tables.joined([key_tables.read_entries(store, bucket.file) for bucket in buckets])
    assert len(entries) == 140
    rejected = entries[entries["reject"] != 0]
    assert len(rejected) == 2 and not len(key_tables.dead_ids(rejected))
    assert len(np.unique(key_tables.dead_ids(entries))) == published.totals.vectors == 178


def test_a_reindex_keeps_what_stays_drops_what_is_removed_and_adds_what_is_new(
    items: Collection, tmp_path: Path
) -> None:
    items.pictures |= {"new": 500, "p005": 501, "p010": 502}
    del items.pictures["p003"], items.rows["k004"]
    items.write()
    run = night(tmp_path / "root")
    go(UpdateKeys(run))

    before, removed = as_set(known_before(run)), as_set(removed_by(run))
    new = key_tables.joined([shard_entries(run.store, marker, run.request.sources) for marker in run.shards()])
    assert removed < before and len(removed) == 4 and len(new) == 3
    assert as_set(entries_of(run)) == (before - removed) | as_set(new)
    assert sum(marker.rejected for marker in inventory.key_markers(run)) == 1


def test_a_bucket_that_nothing_falls_into_keeps_its_file(items: Collection, tmp_path: Path) -> None:
    items.pictures |= {"new": 500}
    items.write()
    run = night(tmp_path / "root")
    go(UpdateKeys(run))
    assert run.base is not None
    before = {bucket.number: bucket.file for bucket in tables.buckets_of(run.store, run.base)}
    after = {number: marker.file for number, marker in files_of(run).items()}
    assert before.keys() == after.keys()
    (entry,) = key_tables.joined([shard_entries(run.store, marker, run.request.sources) for marker in run.shards()])
    assert [number for number in before if before[number] != after[number]] == [int(entry["high"]) >> 62]
    assert len(before) == 4


def test_what_is_gone_leaves_a_bucket_that_nothing_new_falls_into(items: Collection, tmp_path: Path) -> None:
    del items.pictures["p003"], items.pictures["p010"]
    items.write()
    run = night(tmp_path / "root")
    go(UpdateKeys(run))
    assert run.plan.items == 0
    assert as_set(entries_of(run)) == as_set(known_before(run)) - as_set(removed_by(run))
    assert len(entries_of(run)) == 138


def test_a_collection_that_grew_is_cut_into_more_buckets_and_one_that_shrank_into_as_many(
    items: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_tables, "ENTRIES_PER_BUCKET", 16)
    items.pictures |= {f"new{number}": 500 + number for number in range(5)}
    items.write()
    run = night(tmp_path / "root")
    go(UpdateKeys(run))
    assert key_bits(run) == 4 and len(files_of(run)) == 16
    new = key_tables.joined([shard_entries(run.store, marker, run.request.sources) for marker in run.shards()])
    assert as_set(entries_of(run)) == as_set(known_before(run)) | as_set(new)

    monkeypatch.setattr(key_tables, "ENTRIES_PER_BUCKET", 1 << 19)
    assert key_bits(run) == 2, "never fewer than before"


def test_twice_is_once_in_a_reindex_too(items: Collection, tmp_path: Path) -> None:
    items.pictures |= {"new": 500, "p005": 501}
    items.write()
    run = night(tmp_path / "root")
    go(UpdateKeys(run), "--direct_runner_bundle_repeat=1")
    once = files_of(run)
    assert len(entries_of(run)) == 141
    forget(run)
    before = every_file(tmp_path / "root")
    go(UpdateKeys(run))
    assert files_of(run) == once
    assert before.items() <= every_file(tmp_path / "root").items()


def test_a_reindex_with_nothing_to_do_writes_no_bucket(items: Collection, tmp_path: Path) -> None:
    run = night(tmp_path / "root")
    before = every_file(tmp_path / "root")
    go(UpdateKeys(run))
    assert tasks(run, "keys") == 0 and not files_of(run)
    assert every_file(tmp_path / "root").keys() - before.keys() == {layout.stage_marker(run.generation, "keys")}

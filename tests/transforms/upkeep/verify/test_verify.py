"""Whether a generation is whole: what does not agree with the rest of it is named, though no file is damaged."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from tests.transforms.upkeep.verify.changed import delta_of, named, table_rows, with_delta, with_table, with_total
from transforms.digests import digest
from transforms.generations import published, tables
from transforms.generations.manifest import Generation
from transforms.index.lists.opened import opened_lists
from transforms.records import FileReference
from transforms.storage import layout, parquet_files
from transforms.storage.store import Store
from transforms.upkeep import listed_ids
from transforms.upkeep.report import REBUILD, RESTORE
from transforms.upkeep.verify import verify


@pytest.mark.parametrize("quick", [False, True])
def test_what_a_build_and_a_night_made_is_whole(store: Store, generation: Generation, *, quick: bool) -> None:
    totals = generation.totals
    assert (totals.tombstones, totals.rejected, generation.tables.keys is None) == (3, 2, False)
    report = verify(store, generation, quick=quick)
    assert report.findings == []
    assert report.files == len(published.files(store, generation))


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("more", [1, -1])
@pytest.mark.parametrize("total", ["vectors", "tombstones"])
def test_a_wrong_total_is_seen(store: Store, generation: Generation, total: str, more: int, *, quick: bool) -> None:
    assert named(store, with_total(generation, total, more), quick=quick)


@pytest.mark.parametrize("total", ["items", "rejected"])
def test_a_wrong_total_of_items_is_seen(store: Store, generation: Generation, total: str) -> None:
    assert named(store, with_total(generation, total))


def test_a_shard_that_has_other_rows_than_its_table_says_is_seen(store: Store, generation: Generation) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[0]["rows"] += 1
        rows[0]["images"] += 1

    wrong = with_total(with_table(store, generation, "shards", change), "vectors")
    assert named(store, wrong) & {wrong.tables.shards.path, tables.file_of(table_rows(store, wrong, "shards")[0]).path}


def test_a_shard_that_no_table_names_is_seen(store: Store, generation: Generation) -> None:
    wrong = with_table(store, generation, "shards", lambda rows: rows.pop())
    assert named(store, wrong)


def test_a_delta_that_no_table_names_is_seen(store: Store, generation: Generation) -> None:
    wrong = with_table(store, generation, "blocks", lambda rows: rows.pop())
    assert named(store, wrong)


def test_a_file_of_rejects_that_no_table_names_is_seen(store: Store, generation: Generation) -> None:
    wrong = with_table(store, generation, "rejects", lambda rows: rows.pop())
    assert wrong.tables.rejects.path in named(store, wrong)


def test_a_trained_index_of_another_fingerprint_is_seen(store: Store, generation: Generation) -> None:
    wrong = replace(generation, trained=replace(generation.trained, fingerprint="0" * 64))
    assert named(store, wrong)


# --- totals ---


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("total", ["items", "embedded", "rejected", "images", "texts", "keywords", "shards", "blocks"])
def test_any_other_wrong_total_is_seen(store: Store, generation: Generation, total: str, *, quick: bool) -> None:
    assert named(store, with_total(generation, total), quick=quick)


def test_dead_codes_are_counted_in_the_lists_too(store: Store, generation: Generation) -> None:
    assert generation.index.path in named(store, with_total(generation, "tombstones"))


@pytest.mark.parametrize(("table", "way_out"), [("blocks", REBUILD), ("segments", REBUILD), ("keys", RESTORE)])
def test_a_lost_table_is_found_with_what_brings_it_back(
    store: Store, generation: Generation, table: str, way_out: str
) -> None:
    store.remove(getattr(generation.tables, table).path)
    (finding,) = verify(store, generation).findings
    assert finding.what == f"is missing: {way_out}"


def test_a_block_of_other_rows_than_its_table_says_is_seen(store: Store, generation: Generation) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[-1]["rows"] += 1

    wrong = with_table(store, generation, "blocks", change)
    assert named(store, wrong) == {delta_of(store, wrong), wrong.tables.blocks.path}


@pytest.mark.parametrize("row", [1, -1])
@pytest.mark.parametrize("column", ["first_list", "last_list", "offset"])
def test_ranges_of_the_merged_index_that_leave_a_gap_are_seen(
    store: Store, generation: Generation, column: str, row: int
) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[row][column] += 1

    wrong = with_table(store, generation, "segments", change)
    own = f"pieces:{digest(table_rows(store, wrong, 'segments'))}"
    wrong = replace(wrong, index=replace(wrong.index, checksum=own))
    assert [
        finding.what.partition(",")[0]
        for finding in verify(store, wrong).findings
        if finding.path.endswith(wrong.tables.segments.path)
    ] == ["has ranges that leave a gap"]


def test_another_table_of_ranges_than_the_index_was_written_with_is_seen(store: Store, generation: Generation) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[-1]["checksum"] = "xxh3:0000000000000000"

    wrong = with_table(store, generation, "segments", change)
    assert named(store, wrong) == {wrong.tables.segments.path, generation.index.path}


# --- damage and disagreement ---


def test_what_is_damaged_hides_nothing_else_that_is_wrong(store: Store, generation: Generation) -> None:
    shard = tables.file_of(table_rows(store, generation, "shards")[0])
    store.remove(shard.path)
    store.overwrite(generation.tables.rejects.path, b"rubbish")

    def change(ids: NDArray[np.int64]) -> None:
        ids[0] = ids[1]

    assert named(store, generation) == {shard.path, generation.tables.rejects.path}
    store.overwrite(generation.tables.rejects.path, b"")
    whole = with_delta(store, with_table(store, _with_rejects_back(store, generation), "keys", _one_more), change)
    found = named(store, whole)
    assert whole.tables.keys is not None
    assert found >= {shard.path, whole.tables.keys.path, delta_of(store, whole), generation.index.path}


def _with_rejects_back(store: Store, generation: Generation) -> Generation:
    shards = table_rows(store, generation, "shards")
    files = {file.path: file for file in store.walk("rejects")}
    rows = []
    for shard in shards:
        (path,) = [path for path in files if layout.shard_stem(shard["shard"]) in path]
        reference = FileReference(path, files[path].bytes, f"sha256:{store.sha256(path)}")
        rows.append({"shard": shard["shard"], "rejected": shard["rejected"], **asdict(reference)})
    written = parquet_files.write_table(store, pa.Table.from_pylist(rows))
    return replace(generation, tables=replace(generation.tables, rejects=written))


def _one_more(rows: list[dict[str, Any]]) -> None:
    rows[0]["entries"] += 1


def test_lists_are_read_in_parts_and_every_part_counts(
    store: Store, generation: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {part.lists for part in listed_ids.parts_of_file(store, generation)}
    monkeypatch.setattr(listed_ids, "PART_BYTES", 100)
    parts = list(listed_ids.parts_of_file(store, generation))
    assert len(parts) > len(whole)
    ids = np.concatenate([part.ids(store) for part in parts])
    block = tables.blocks_of(store, generation)[0]
    with opened_lists(store, block.lists) as lists:
        assert sorted(ids.tolist()) == sorted(lists.read(lists.lists).unpack()[2].tolist())
    assert named(store, generation) == set()

    def change(ids: NDArray[np.int64]) -> None:
        ids[0] = 0

    wrong = with_delta(store, generation, change)
    assert named(store, wrong) == {delta_of(store, wrong), generation.index.path}

"""Whether a generation is whole: what does not agree with the rest of it is named, though no file is damaged."""

import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from pipelines import build
from tests.end_to_end import reindexing
from tests.end_to_end.reindexing import collection
from transforms.generations import key_tables, published, tables, tombstones
from transforms.generations.manifest import Generation
from transforms.generations.tombstones import Tombstones
from transforms.index.lists.opened import opened_lists
from transforms.index.lists.writer import write_lists
from transforms.records import FileReference, digest, row_ids
from transforms.storage import layout, parquet_files
from transforms.storage.store import Store
from transforms.upkeep import listed_ids, row_set
from transforms.upkeep.report import MOST_FINDINGS, REBUILD, RESTORE, Finding, Report
from transforms.upkeep.row_set import RowSet
from transforms.upkeep.verify import verify


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root of a build and a night: with a delta of two rows, tombstones and rejects."""
    folder = tmp_path_factory.mktemp("built")
    made = collection(folder / "sources", pictures=120, rows=40)
    made.pictures["bad"] = -1
    made.write()
    root = folder / "root"
    assert build.main(["--root", str(root), *made.arguments, "--index-key", "IVF4,Flat"]) == 0
    made.pictures |= {"second": 502, "third": 503, "worse": -2}
    del made.pictures["p003"], made.rows["k003"]
    made.write()
    assert reindexing.run(root, "--max-tombstones", "1") == 0
    return root


@pytest.fixture
def store(built: Path, tmp_path: Path) -> Store:
    shutil.copytree(built, tmp_path / "root")
    return Store.at(str(tmp_path / "root"))


@pytest.fixture
def generation(store: Store) -> Generation:
    found = published.current(store)
    assert found is not None
    return found


def named(store: Store, generation: Generation, *, quick: bool = False) -> set[str]:
    """The paths, relative to the root, of what is wrong."""
    return {finding.path.removeprefix(f"{store.url}/") for finding in verify(store, generation, quick=quick).findings}


def with_table(
    store: Store, generation: Generation, name: str, change: Callable[[list[dict[str, Any]]], object]
) -> Generation:
    """The generation with another table, whose rows were changed."""
    stands: FileReference = getattr(generation.tables, name)
    table = parquet_files.read(store, stands)
    rows = table.to_pylist()
    change(rows)
    written = parquet_files.write_table(store, pa.Table.from_pylist(rows, table.schema))
    return replace(generation, tables=replace(generation.tables, **{name: written}))


def with_total(generation: Generation, name: str, more: int = 1) -> Generation:
    totals = generation.totals
    return replace(generation, totals=replace(totals, **{name: getattr(totals, name) + more}))


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
    assert named(store, wrong) & {wrong.tables.shards.path, tables.file_of(_rows(store, wrong, "shards")[0]).path}


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


def _rows(store: Store, generation: Generation, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = parquet_files.read(store, getattr(generation.tables, name)).to_pylist()
    return found


# --- ids ---


def with_delta(store: Store, generation: Generation, change: Callable[[NDArray[np.int64]], None]) -> Generation:
    """The generation with another delta, as many rows long, whose ids were changed; it is the last block."""
    block = tables.blocks_of(store, generation)[-1]
    assert (block.merged, block.rows) == (False, 2)
    with opened_lists(store, block.lists) as lists:
        list_nos, codes, ids = lists.read(lists.lists).unpack()
    ids = ids.copy()
    change(ids)
    trained = generation.trained
    with store.scratch() as scratch:
        file = scratch / "block.ivf"
        with file.open("wb") as out:
            seal = write_lists(
                out, list_nos=list_nos, codes=codes, ids=ids, nlist=trained.nlist, fingerprint=trained.fingerprint
            )
        folder = layout.lists_folder(trained.fingerprint)
        written = store.upload(file, folder, layout.block_stem(1), f"xxh3:{seal.checksum}")

    def name_it(rows: list[dict[str, Any]]) -> None:
        rows[-1] |= asdict(written)

    return with_table(store, generation, "blocks", name_it)


def delta_of(store: Store, generation: Generation) -> str:
    return tables.blocks_of(store, generation)[-1].lists.path


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
    own = f"pieces:{digest(_rows(store, wrong, 'segments'))}"
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


# --- damage and disagreement ---


def test_what_is_damaged_hides_nothing_else_that_is_wrong(store: Store, generation: Generation) -> None:
    shard = tables.file_of(_rows(store, generation, "shards")[0])
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
    shards = _rows(store, generation, "shards")
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


# --- parts ---


def test_rows_are_crossed_off_once() -> None:
    rows = RowSet({3: row_set.first_rows(20), 1: row_set.first_rows(65_536), 7: np.array([4], np.uint8)})
    assert rows.rows == 20 + 65_536 + 1
    first = np.concatenate([row_ids(1, 65_536), row_ids(3, 19)])
    assert rows.take(first[::-1]).tolist() == []
    assert (rows.rows, rows.example) == (2, (3 << 16) + 19)
    wrong = [-1, 1 << 16, (3 << 16) + 20, (5 << 16), (7 << 16) + 1, 1 << 50]
    assert rows.take(np.array([*wrong, (3 << 16) + 19, (3 << 16) + 19], np.int64)).tolist() == sorted(
        [*wrong, (3 << 16) + 19]
    )
    assert rows.rows == 1
    assert RowSet({}).take(np.array([5], np.int64)).tolist() == [5]


def test_a_report_keeps_a_thousand_findings_and_counts_all(store: Store) -> None:
    report = Report(store)
    for number in range(1500):
        report.found(f"lists/{number:04d}.ivf", "is missing")
    assert (len(report.findings), report.count) == (MOST_FINDINGS, 1500)
    assert report.findings[0] == Finding(f"{store.url}/lists/0000.ivf", f"is missing: {REBUILD}")


def test_what_a_reader_says_stands_in_a_finding_without_its_own_way_out(store: Store, generation: Generation) -> None:
    path = delta_of(store, generation)
    whole = store.read(path)
    store.overwrite(path, whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    (finding,) = verify(store, generation).findings
    assert finding.what.startswith("is damaged or truncated: the bodies of its lists ")
    assert finding.what.endswith(f"do not match their checksum: {REBUILD}")

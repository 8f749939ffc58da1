"""Key tables: what is new, changed, gone or unchanged, and where an item's rows are."""

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from transforms.errors import PixdexError
from transforms.generations import key_tables
from transforms.generations.key_tables import ENTRIES_PER_BUCKET, ENTRY, LISTED, Bucket
from transforms.records import Changes, FileReference
from transforms.storage import parquet_files
from transforms.storage.store import Store

NO_ORIGINS = np.empty(0, np.uint64)
KEYS = st.integers(0, 30)
KNOWN = st.dictionaries(KEYS, st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 2)))
"""Version, type of reject (0: embedded) and container of known items."""

LISTED_ITEMS = st.dictionaries(KEYS, st.integers(0, 3))


def known_of(items: dict[int, tuple[int, int, int]]) -> NDArray[np.void]:
    entries = np.zeros(len(items), ENTRY)
    entries["high"] = entries["low"] = list(items)
    for place, (version, reject, origin) in enumerate(items.values()):
        entries[place]["version"], entries[place]["reject"], entries[place]["origin"] = version, reject, origin
        entries[place]["shard"] = version
    return entries


def listed_of(items: dict[int, int]) -> NDArray[np.void]:
    found = np.zeros(len(items), LISTED)
    found["high"] = found["low"] = list(items)
    found["version"] = list(items.values())
    found["position"] = np.arange(len(items))
    return found


@given(
    known=KNOWN, listed=LISTED_ITEMS, retry=st.sampled_from([None, [], [1], [2]]), unopened=st.sampled_from([[], [1]])
)
def test_every_item_is_counted_as_what_became_of_it(
    known: dict[int, tuple[int, int, int]], listed: dict[int, int], retry: list[int] | None, unopened: list[int]
) -> None:
    listed = {key: version for key, version in listed.items() if known.get(key, (0, 0, 0))[2] not in unopened}
    found = key_tables.compare(
        known_of(known),
        listed_of(listed),
        np.array(unopened, np.uint64),
        None if retry is None else np.array(retry, np.uint32),
    )
    new = listed.keys() - known.keys()
    changed = {key for key in listed.keys() & known.keys() if listed[key] != known[key][0]}
    kept = {key for key in known.keys() - listed.keys() if known[key][2] in unopened}
    gone = known.keys() - listed.keys() - kept
    same = (listed.keys() & known.keys()) - changed
    again = {key for key in same if retry is not None and known[key][1] and (not retry or known[key][1] in retry)}
    stays = (same - again) | kept

    assert {key for key, chosen in zip(listed, found.chosen, strict=True) if chosen} == new | changed | again
    assert {key for key, removed in zip(known, found.removed, strict=True) if removed} == gone | changed | again
    rejected = {key for key in stays if known[key][1]}
    assert found.counts == Changes(
        new=len(new), changed=len(changed), gone=len(gone), unchanged=len(stays - rejected), rejected=len(rejected),
        retried=len(again),
    )  # fmt: skip


def test_items_of_damaged_shards_come_again() -> None:
    known = known_of({1: (7, 0, 0), 2: (8, 0, 0), 3: (8, 1, 0)})  # a shard is named for the version here
    found = key_tables.compare(known, listed_of({1: 7, 2: 8, 3: 8}), NO_ORIGINS, None, np.array([8]))
    assert found.chosen.tolist() == found.removed.tolist() == [False, True, True]
    assert found.counts.retried == 2


@pytest.mark.parametrize(("retry", "again"), [(None, False), ([5], False), ([], True)])
def test_an_item_that_lacks_its_picture_is_tried_again_and_keeps_its_words(
    retry: list[int] | None, again: bool
) -> None:
    known, listed = known_of({1: (7, 0, 0), 2: (7, 0, 0), 3: (7, 0, 0)}), listed_of({1: 7, 2: 7, 3: 7})
    known["picture"] = listed["picture"] = [1, 1, 0]  # the third names none
    known["words"] = listed["words"] = 2
    known["image"], known["text"], known["keyword"] = [-1, 1, -1], [2, 3, 4], -1
    found = key_tables.compare(known, listed, NO_ORIGINS, None if retry is None else np.array(retry, np.uint32))
    assert found.chosen.tolist() == found.removed.tolist() == [again, False, False]
    assert (found.counts.retried, found.counts.unchanged) == (int(again), 3 - again)
    first = found.records[0]
    assert (first["shard"], first["image"], first["text"], first["keyword"]) == (7, -1, 2, -1)
    assert first["whole"] == (not again)


PARTS = st.tuples(st.integers(0, 2), st.integers(0, 2))
"""Hashes of a picture and of words; 0: there is none, or nobody wrote it down."""


@given(
    known=st.dictionaries(KEYS, st.tuples(PARTS, st.integers(0, 1), st.integers(7, 8))),
    listed=st.dictionaries(KEYS, PARTS),
)
def test_an_item_keeps_the_vectors_of_what_is_the_same_and_of_nothing_else(
    known: dict[int, tuple[tuple[int, int], int, int]], listed: dict[int, tuple[int, int]]
) -> None:
    entries, items = (
        known_of({key: (1, reject, 0) for key, (_, reject, _) in known.items()}),
        listed_of(dict.fromkeys(listed, 2)),
    )
    for place, (parts, _, shard) in enumerate(known.values()):
        entries[place]["picture"], entries[place]["words"], entries[place]["shard"] = *parts, shard
        entries[place]["image"] = 10 * place if parts[0] else -1
        entries[place]["text"], entries[place]["keyword"] = (10 * place + 1, 10 * place + 2) if parts[1] else (-1, -1)
    for place, parts in enumerate(listed.values()):
        items[place]["picture"], items[place]["words"] = parts
    found = key_tables.compare(entries, items, NO_ORIGINS, None, np.array([8]))
    carried = 0
    for record, (key, parts) in zip(found.records, listed.items(), strict=True):
        before, reject, shard = known.get(key, ((0, 0), 1, 8))
        is_sound = not reject and shard == 7
        same = [is_sound and bool(now) and now == then for now, then in zip(parts, before, strict=True)]
        place = 10 * list(known).index(key) if key in known else 0
        assert record["image"] == (place if same[0] else -1)
        assert (record["text"], record["keyword"]) == ((place + 1, place + 2) if same[1] else (-1, -1))
        assert record["shard"] == (7 if any(same) else -1)
        carried += is_sound and parts == before and any(parts)
    assert found.counts.carried == carried


def test_tables_of_before_have_no_hashes_of_parts(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path))
    entries = random_entries(10)
    columns = {name: pa.array(entries[name]) for name in ENTRY.names or () if name not in ("picture", "words")}
    file = parquet_files.write_table(store, pa.table(columns))
    np.testing.assert_array_equal(key_tables.read_entries(store, file), entries)


@given(st.lists(KEYS, unique=True), st.lists(KEYS, unique=True))
def test_records_are_found_among_others_by_their_hash(some: list[int], others: list[int]) -> None:
    places = key_tables.place_among(listed_of(dict.fromkeys(some, 0)), known_of(dict.fromkeys(others, (0, 0, 0))))
    assert places.tolist() == [others.index(key) if key in others else -1 for key in some]


def random_entries(count: int, seed: int = 0) -> NDArray[np.void]:
    generator = np.random.default_rng(seed)
    entries = np.zeros(count, ENTRY)
    for name in ("high", "low", "version"):
        entries[name] = generator.integers(0, 1 << 64, count, np.uint64)
    entries["shard"] = generator.integers(0, 1 << 40, count)
    entries["image"] = entries["text"] = entries["keyword"] = -1
    return key_tables.sort(entries)


@pytest.mark.parametrize(("stored", "read"), [(0, 3), (3, 0), (2, 2), (1, 4), (4, 1)])
def test_a_bucket_is_read_from_files_of_larger_and_smaller_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: int, read: int
) -> None:
    monkeypatch.setattr(key_tables, "_ROWS_PER_GROUP", 64)
    store, entries = Store.at(str(tmp_path)), random_entries(2000)
    files = [
        Bucket(number, stored, key_tables.write_entries(store, some))
        for number, some in key_tables.by_bucket(entries, stored)
    ]
    parts = [key_tables.read_bucket(store, files, number, read) for number in range(1 << read)]
    for number, part in enumerate(parts):
        assert ((part["high"].astype(object) * 2**read) // 2**64 == number).all()
    np.testing.assert_array_equal(key_tables.sort(np.concatenate(parts)), entries)


@given(st.lists(st.integers(0, (1 << 64) - 1)), st.integers(0, 6))
def test_records_go_into_the_bucket_of_their_first_bits(highs: list[int], bits: int) -> None:
    records = np.zeros(len(highs), LISTED)
    records["high"], records["position"] = highs, np.arange(len(highs))
    parts = dict(key_tables.by_bucket(records, bits))
    assert sum(len(part) for part in parts.values()) == len(highs)
    for number, part in parts.items():
        assert all(int(high) >> (64 - bits) == number for high in part["high"])
        assert part["position"].tolist() == sorted(part["position"].tolist())


def test_an_items_rows_are_its_picture_its_text_and_a_run_of_keywords() -> None:
    entries = np.zeros(3, ENTRY)
    entries["shard"] = [1, 2, 3]
    entries["image"], entries["text"], entries["keyword"] = [4, -1, -1], [9, 0, -1], [20, -1, 7]
    entries["keywords"] = [3, 0, 2]
    expected = [65540, 65545, 65556, 65557, 65558, 131072, 196615, 196616]
    assert sorted(key_tables.dead_ids(entries).tolist()) == expected


def test_a_whole_shard_of_ready_embeddings_is_one_entry() -> None:
    assert key_tables.dead_ids(key_tables.whole_shard(5, 4)).tolist() == [(5 << 16) + row for row in range(4)]


def test_hashes_tell_keys_and_versions_apart() -> None:
    found = key_tables.listed(pa.array(["a", "b", "a"]), pa.array(["1", "1", "2"]), 10)
    assert found["position"].tolist() == [10, 11, 12]
    assert found["high"][0] == found["high"][2] != found["high"][1]
    assert found["version"][0] == found["version"][1] != found["version"][2]
    assert key_tables.reject_of("") and key_tables.origin_of("")


HASHES = st.tuples(st.integers(0, 2), st.integers(0, 2))
"""Both halves of a hash; there are few, so that many share one half or both."""


def hashed(pairs: list[tuple[int, int]]) -> NDArray[np.void]:
    records = np.zeros(len(pairs), LISTED)
    for place, (high, low) in enumerate(pairs):
        records[place]["high"], records[place]["low"], records[place]["position"] = high, low, place
    return records


@given(st.lists(HASHES))
def test_sorting_keeps_the_order_of_equal_hashes_and_tells_which_are_repeated(pairs: list[tuple[int, int]]) -> None:
    ordered = key_tables.sort(hashed(pairs))
    expected = sorted(range(len(pairs)), key=pairs.__getitem__)
    assert ordered["position"].tolist() == expected
    seen: set[tuple[int, int]] = set()
    repeated = []
    for place in expected:
        repeated.append(pairs[place] in seen)
        seen.add(pairs[place])
    assert key_tables.same_as_before(ordered).tolist() == repeated


@given(st.lists(HASHES), st.lists(HASHES, unique=True))
def test_a_hash_is_among_others_only_with_both_halves(
    some: list[tuple[int, int]], others: list[tuple[int, int]]
) -> None:
    truth = {pair: place for place, pair in enumerate(others)}
    records, known = hashed(some), hashed(others)
    assert key_tables.place_among(records, known).tolist() == [truth.get(pair, -1) for pair in some]
    assert key_tables.is_among(records, known).tolist() == [pair in truth for pair in some]


def test_the_highest_hash_is_found_too() -> None:
    top = (1 << 64) - 1
    records = np.zeros(2, LISTED)
    records["high"], records["low"] = top, [top, top - 1]
    assert key_tables.place_among(records, records[::-1]).tolist() == [1, 0]
    assert [number for number, _ in key_tables.by_bucket(records, 11)] == [2047]


ROWS = st.lists(
    st.tuples(
        st.integers(0, 1 << 40),
        st.integers(-1, 65535),
        st.integers(-1, 65535),
        st.integers(0, 60000),
        st.integers(0, 5),
    ),
    max_size=12,
)
"""Shard, row of the picture, of the text, of the first keyword, and how many keywords."""


@given(ROWS)
def test_dead_ids_are_all_rows_of_the_entries(rows: list[tuple[int, int, int, int, int]]) -> None:
    entries = np.zeros(len(rows), ENTRY)
    expected = []
    for entry, (shard, image, text, keyword, keywords) in zip(entries, rows, strict=True):
        entry["shard"], entry["image"], entry["text"] = shard, image, text
        entry["keyword"], entry["keywords"] = keyword if keywords else -1, keywords
        numbers = [row for row in (image, text) if row >= 0] + list(range(keyword, keyword + keywords))
        expected += [shard * 65536 + row for row in numbers]
    found = key_tables.dead_ids(entries)
    assert found.dtype == np.int64
    assert sorted(found.tolist()) == sorted(expected)
    texts = [shard * 65536 + text for shard, _, text, _, _ in rows if text >= 0]
    assert key_tables.row_ids_of(entries, "text").tolist() == texts


@given(st.integers(1, 1 << 36))
def test_there_are_just_enough_buckets(items: int) -> None:
    bits = key_tables.bits_for(items)
    assert items <= ENTRIES_PER_BUCKET << bits
    assert bits == 0 or items > ENTRIES_PER_BUCKET << (bits - 1)


def test_a_full_bucket_is_cut_in_two_by_one_more_item() -> None:
    assert key_tables.bits_for(ENTRIES_PER_BUCKET) == 0 and key_tables.bits_for(ENTRIES_PER_BUCKET + 1) == 1


def test_neighbouring_buckets_leave_no_hash_out() -> None:
    file = FileReference("bucket", 0, "")
    ranges = [Bucket(number, 3, file).hash_range for number in range(8)]
    assert ranges[0][0] == 0 and ranges[-1][1] == (1 << 64) - 1
    assert all(after[0] == before[1] + 1 for before, after in itertools.pairwise(ranges))
    assert Bucket(0, 0, file).hash_range == (0, (1 << 64) - 1)


@pytest.mark.parametrize("count", [0, 1, 500])
def test_entries_are_stored_as_they_are_and_equal_ones_once(tmp_path: Path, count: int) -> None:
    store, entries = Store.at(str(tmp_path)), random_entries(count)
    entries["image"] = np.arange(count) - 1
    entries["reject"] = np.uint32((1 << 32) - 1)
    entries["origin"] = np.uint64((1 << 64) - 1)
    file = key_tables.write_entries(store, entries)
    again = key_tables.read_entries(store, file)
    assert again.dtype == ENTRY
    np.testing.assert_array_equal(again, entries)
    assert key_tables.write_entries(store, again) == file
    assert len(store.names("tables")) == 1


def test_of_a_bucket_only_the_row_groups_are_read_that_can_hold_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_tables, "_ROWS_PER_GROUP", 100)
    store, entries = Store.at(str(tmp_path)), random_entries(1600)
    file = key_tables.write_entries(store, entries)
    read: list[list[int]] = []
    plain = pq.ParquetFile.read_row_groups

    def noting(opened: pq.ParquetFile, groups: list[int]) -> pa.Table:
        read.append(groups)
        return plain(opened, groups)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", noting)
    for number in range(8):
        found = key_tables.read_entries(store, file, number, 3)
        places = np.flatnonzero(entries["high"] >> np.uint64(61) == number)
        np.testing.assert_array_equal(found, entries[places])
        assert read.pop() == list(range(places[0] // 100, places[-1] // 100 + 1))


def test_a_bucket_without_entries_is_empty(tmp_path: Path) -> None:
    store, entries = Store.at(str(tmp_path)), random_entries(50)
    entries["high"] >>= np.uint64(1)  # none has the highest bit
    file = key_tables.write_entries(store, entries)
    assert len(key_tables.read_entries(store, file, 1, 1)) == 0
    assert key_tables.read_bucket(store, [Bucket(0, 1, file)], 1, 1).dtype == ENTRY
    assert len(key_tables.read_bucket(store, [], 0, 0)) == 0


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path))
    file = key_tables.write_entries(store, random_entries(500))
    path = store.local_path(file.path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(PixdexError, match=f"{file.path} is damaged"):
        key_tables.read_entries(store, file)
    path.unlink()
    with pytest.raises(PixdexError, match=file.path):
        key_tables.read_entries(store, file)

"""A shard's key-table entries name exactly the rows of each of its items."""

import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from transforms.generations import key_tables
from transforms.generations.key_tables import ENTRY
from transforms.markers import ShardMarker
from transforms.records import FileReference, Source
from transforms.shards import files
from transforms.shards.files import Reject
from transforms.storage.store import Store
from transforms.tasks.keys import shard_entries

SHARD = 4097
PICTURES = Source("images", "file:///pictures")

Item = tuple[bool, bool, int]
"""Whether an item has a picture, and a text; and how many keywords."""

Row = tuple[str, str, int]
"""The key, the modality and the part of a row."""

ITEMS = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 4)).filter(any), max_size=12)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path))


def rows_of(items: dict[str, Item]) -> list[Row]:
    """The rows of a shard in the order in which they are stored."""
    pictures = [(key, "image", 0) for key, (picture, _, _) in items.items() if picture]
    texts = [(key, "text", 0) for key, (_, text, _) in items.items() if text]
    keywords = [(key, "keyword", part) for key, (_, _, count) in items.items() for part in range(count)]
    return pictures + texts + keywords


def uri_of(key: str) -> str:
    """The CSV that a row's key names."""
    return unicodedata.normalize("NFD" if "Gr" in key else "NFC", key.partition("#")[0])


def write(store: Store, rows: list[Row], shard: int = SHARD, *, pictures: bool = False) -> FileReference:
    """Writes a shard of rows whose URI is what their key begins with, or all of it where they are `pictures`."""
    keys = [key for key, _, _ in rows]
    nothing = pa.nulls(len(rows), pa.int32())
    metadata = pa.table(
        {
            "key": pa.array(keys, pa.string()),
            "uri": pa.array(keys if pictures else list(map(uri_of, keys)), pa.string()),
            "modality": pa.array([modality for _, modality, _ in rows], pa.string()),
            "part": pa.array([part for _, _, part in rows], pa.int32()),
            "caption": pa.nulls(len(rows), pa.string()),
            "version": pa.array([f"version of {key}" for key in keys], pa.string()),
            "width": nothing,
            "height": nothing,
        }
    )
    return files.write_embeddings(store, shard, metadata, np.ones((len(rows), 4), np.float32))


def rejected(store: Store, kinds: dict[str, str], shard: int = SHARD) -> FileReference | None:
    """Writes rejects of these keys and types."""
    found = [
        Reject(key, uri_of(key), f"version of {key}", "image", 0, "decode", kind, "no picture")
        for key, kind in kinds.items()
    ]
    return files.write_rejects(store, shard, found)


def entries_of(
    store: Store, embeddings: FileReference | None, rejects: FileReference | None = None, *sources: Source
) -> NDArray[np.void]:
    marker = ShardMarker(SHARD, 0, "", 0, 0, 0, 0, 0, 0, embeddings, rejects, 0.0)
    return shard_entries(store, marker, sources or (PICTURES,))


def by_key(entries: NDArray[np.void], keys: list[str]) -> dict[str, np.void]:
    """The entries by the key whose hash they have; every one must have that of a key."""
    hashes = {tuple(pair): key for pair, key in zip(key_tables.hashes(pa.array(keys)).tolist(), keys, strict=True)}
    found = {hashes[entry["high"], entry["low"]]: entry for entry in entries}
    assert len(found) == len(entries)
    return found


@given(ITEMS)
def test_an_entry_names_the_rows_of_its_item_and_no_others(store: Store, shapes: list[Item]) -> None:
    items = {f"item {number}": shape for number, shape in enumerate(shapes)}
    rows = rows_of(items)
    found = by_key(entries_of(store, write(store, rows)), list(items) or ["none"])
    assert found.keys() == items.keys()
    for key, entry in found.items():
        named = key_tables.dead_ids(np.array([entry], ENTRY)) - (SHARD << 16)
        assert [rows[row] for row in sorted(named.tolist())] == [row for row in rows if row[0] == key]
        assert (entry["image"] >= 0, entry["text"] >= 0, entry["keywords"]) == items[key]
        assert (entry["keyword"] >= 0) == (entry["keywords"] > 0)


def test_an_entry_has_the_version_of_its_item_and_the_number_of_its_shard(store: Store) -> None:
    found = by_key(
        entries_of(store, write(store, rows_of({"한글": (True, True, 2), "b": (True, False, 0)}))), ["한글", "b"]
    )
    versions = key_tables.short_hashes(pa.array(["version of 한글", "version of b"]))
    assert [found["한글"]["version"], found["b"]["version"]] == versions.tolist()
    assert {int(entry["shard"]) for entry in found.values()} == {SHARD}
    assert all(entry["reject"] == entry["origin"] == 0 for entry in found.values())


def test_keywords_of_neighbours_do_not_run_together(store: Store) -> None:
    items = {"a": (False, False, 3), "b": (False, True, 0), "c": (False, False, 1), "d": (False, False, 2)}
    found = by_key(entries_of(store, write(store, rows_of(items))), list(items))
    runs = {key: (entry["keyword"].item(), entry["keywords"].item()) for key, entry in found.items()}
    assert runs == {"a": (1, 3), "b": (-1, 0), "c": (4, 1), "d": (5, 2)}


def test_a_rejected_item_has_no_rows_but_a_hash_of_the_type_of_its_reject(store: Store) -> None:
    embeddings = write(store, rows_of({"good": (True, False, 0)}))
    rejects = rejected(store, {"bad": "UnidentifiedImageError", "huge": "DecompressionBombError"})
    found = by_key(entries_of(store, embeddings, rejects), ["good", "bad", "huge"])
    assert found["good"]["reject"] == 0
    for key, kind in (("bad", "UnidentifiedImageError"), ("huge", "DecompressionBombError")):
        entry = found[key]
        assert entry["reject"] == key_tables.reject_of(kind)
        assert (entry["image"], entry["text"], entry["keyword"], entry["keywords"]) == (-1, -1, -1, 0)
        assert entry["version"] == key_tables.short_hashes(pa.array([f"version of {key}"]))[0]
        assert entry["shard"] == SHARD
        assert not len(key_tables.dead_ids(np.array([entry], ENTRY)))


def test_a_shard_may_be_all_rejects_or_nothing_at_all(store: Store) -> None:
    found = entries_of(store, None, rejected(store, {"bad": "ValueError"}))
    assert len(found) == 1 and found["reject"][0] == key_tables.reject_of("ValueError")
    nothing = entries_of(store, None)
    assert nothing.dtype == ENTRY and not len(nothing)


def test_entries_are_sorted_by_hash_with_rejects_among_them(store: Store) -> None:
    names = [f"k{number}" for number in range(40)]
    embeddings = write(store, rows_of(dict.fromkeys(names[:20], (True, True, 1))))
    entries = entries_of(store, embeddings, rejected(store, dict.fromkeys(names[20:], "ValueError")))
    assert len(entries) == 40
    np.testing.assert_array_equal(entries, key_tables.sort(entries))


def test_keys_of_a_csv_have_it_for_their_origin(store: Store) -> None:
    one, other = Source("csv", "file:///one.csv"), Source("csv", "file:///other.csv")
    keys = ["file:///one.csv#7", "file:///other.csv#7", "file:///pictures/one.csv#7", "file:///one.csv2#7"]
    embeddings = write(store, rows_of(dict.fromkeys(keys, (False, True, 0))))
    rejects = rejected(store, {"file:///one.csv#bad": "ValueError"})
    found = by_key(entries_of(store, embeddings, rejects, PICTURES, one, other), [*keys, "file:///one.csv#bad"])
    origins = {key: entry["origin"].item() for key, entry in found.items()}
    first, second = key_tables.origin_of(one.pattern), key_tables.origin_of(other.pattern)
    assert origins == dict(zip(keys, [first, second, 0, 0], strict=True)) | {"file:///one.csv#bad": first}


def test_a_csv_whose_name_is_decomposed_is_found_in_its_composed_keys(store: Store) -> None:
    source = Source("csv", "file:///Gru\u0308n.csv")
    entries = entries_of(store, write(store, [("file:///Gr\u00fcn.csv#1", "text", 0)]), None, source)
    assert entries["origin"].tolist() == [key_tables.origin_of(source.pattern)]


def test_a_picture_that_is_called_like_a_row_has_no_csv_for_its_origin(store: Store) -> None:
    keys = ["file:///one.csv#odd.png", "file:///one.csv"]
    embeddings = write(store, rows_of(dict.fromkeys(keys, (True, False, 0))), pictures=True)
    assert not entries_of(store, embeddings, None, PICTURES, Source("csv", "file:///one.csv"))["origin"].any()


def test_a_csv_with_pictures_is_read_every_time_and_is_no_origin(store: Store) -> None:
    embeddings = write(store, rows_of({"file:///one.csv#1": (True, True, 0)}))
    source = Source("csv", "file:///one.csv", image_column="image")
    assert not entries_of(store, embeddings, None, source)["origin"].any()

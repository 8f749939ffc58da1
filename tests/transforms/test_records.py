"""Records travel and lie on storage as JSON that is the same for the same record."""

import dataclasses
import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms import records
from transforms.digests import digest
from transforms.errors import PixdexError, UsageError
from transforms.generations.manifest import Generation
from transforms.markers import ListsMarker, PieceMarker, ShardMarker, StageMarker, TrainMarker
from transforms.record_json import decode, encode
from transforms.records import (
    ROWS_PER_SHARD,
    EncoderSettings,
    FileReference,
    IndexSettings,
    Partition,
    Plan,
    Request,
    Source,
    row_ids,
    split_ids,
)

STORED: list[type[Any]] = [
    Request, Plan, Partition, ShardMarker, ListsMarker, TrainMarker, PieceMarker, StageMarker, Generation,
]  # fmt: skip
REFERENCE = FileReference("tables/table-1.parquet", 7, f"sha256:{0:064}")


def any_of(kind: type[Any]) -> st.SearchStrategy[Any]:
    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    st.register_type_strategy(str, texts)
    st.register_type_strategy(int, st.integers(-(2**53), 2**53))
    digits = st.text("0123456789abcdef", min_size=64, max_size=64)
    st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))
    names = st.text("abc0-_.", min_size=1, max_size=8).map(lambda name: f"{name}z")
    paths = st.lists(names, min_size=1, max_size=3).map("/".join)
    reference = st.builds(FileReference, paths, st.integers(0, 2**53), digits.map("sha256:{}".format))
    st.register_type_strategy(FileReference, reference)
    version: dict[str, Any] = {}
    if "format_version" in kind.__dataclass_fields__:
        version["format_version"] = st.just(records.FORMAT_VERSION)
    return st.builds(kind, **version)


@pytest.mark.parametrize("kind", STORED)
@given(data=st.data())
def test_a_record_reads_back_as_it_was_written(kind: type[Any], data: st.DataObject) -> None:
    record = data.draw(any_of(kind))

    assert decode(encode(record), kind, "a file") == record


@pytest.mark.parametrize("kind", STORED)
@given(data=st.data())
def test_equal_records_have_equal_bytes_with_sorted_keys(kind: type[Any], data: st.DataObject) -> None:
    record = data.draw(any_of(kind))
    written = encode(record)

    assert written == encode(dataclasses.replace(record))
    assert written.endswith(b"\n")
    json.loads(written, object_pairs_hook=_sorted_pairs)


def _sorted_pairs(pairs: list[tuple[str, object]]) -> None:
    names = [name for name, _ in pairs]
    assert names == sorted(names)


def test_a_newer_format_is_refused_by_the_name_of_its_file() -> None:
    newer = encode(dataclasses.replace(StageMarker("plan", 1, 0.0), format_version=records.NEWEST_VERSION + 1))

    with pytest.raises(PixdexError, match=r"r/plan\.json has format version 6.* reads up to 5: upgrade pixdex"):
        decode(newer, StageMarker, "r/plan.json")


def test_a_newer_format_is_refused_even_when_its_fields_are_others() -> None:
    with pytest.raises(PixdexError, match="upgrade pixdex"):
        decode(b'{"format_version": 9, "stage": {"name": "plan"}}', StageMarker, "r/plan.json")


@pytest.mark.parametrize(
    "damaged",
    [b"", b"{", b"null", b"[]", b"{}", b'{"stage":1,"tasks":1,"finished":0}', b'{"stage":"\xff","tasks":1}', b"\0" * 9],
)
def test_damage_is_refused_by_the_name_of_the_file(damaged: bytes) -> None:
    with pytest.raises(PixdexError, match=r"r/embed\.json is not a readable StageMarker .* restore it"):
        decode(damaged, StageMarker, "r/embed.json")


@pytest.mark.parametrize(
    "path",
    [
        "../up", "a/../b", "a/..", "..", ".", "a/./b", "", "/etc/passwd", "a/", "a//b", "file:///a", "s3://b/a",
        "..\\up", "a\\..\\b", "a\0b", "a\nb", "a\x1b[2J", "a\u202eb", "a\ud800",
    ],
)  # fmt: skip
def test_a_path_that_leads_out_of_the_root_is_refused_with_its_file(path: str) -> None:
    with pytest.raises(UsageError, match="is no path of a file below a root"):
        FileReference(path, 7, "sha256:00")
    marker = json.loads(encode(ListsMarker(3, "d", 10, REFERENCE)))
    marker["lists"]["path"] = path
    with pytest.raises(PixdexError, match=r"^r/add\.json[: ]"):
        decode(json.dumps(marker).encode(), ListsMarker, "r/add.json")


@pytest.mark.parametrize(
    "path", ["tables/0.parquet", "lease.json", "a b/..c/d..", "embeddings/0000/shard-1.parquet", "한"]
)
def test_a_path_below_the_root_is_taken(path: str) -> None:
    assert FileReference(path, 7, "sha256:00").path == path


@given(st.binary())
def test_any_bytes_are_a_record_or_one_error(data: bytes) -> None:
    with pytest.raises(PixdexError):
        decode(data, ListsMarker, "a file")


@given(st.integers(1, 40).flatmap(lambda cut: st.tuples(st.just(cut), st.integers(0, 255))))
def test_a_truncated_record_is_refused(cut: tuple[int, int]) -> None:
    whole = encode(ListsMarker(3, "d", 10, REFERENCE))

    with pytest.raises(PixdexError):
        decode(whole[: -cut[0] - 1], ListsMarker, "a file")


@given(st.integers(0, (1 << 47) - 1), st.integers(1, ROWS_PER_SHARD))
def test_an_id_leads_back_to_its_shard_and_row(shard: int, rows: int) -> None:
    ids = row_ids(shard, rows)
    shards, found = split_ids(ids)

    assert ids.dtype == shards.dtype == found.dtype == np.int64
    assert (shards == shard).all()
    assert np.array_equal(found, np.arange(rows))


def test_the_last_row_of_a_shard_is_just_before_the_first_of_the_next() -> None:
    assert row_ids(6, ROWS_PER_SHARD)[-1] + 1 == row_ids(7, 1)[0]


SETTINGS = EncoderSettings("demo", "f", 64, ("image", "text"))
REQUEST = Request((Source("images", "file:///a"), Source("images", "file:///b")), SETTINGS, IndexSettings())


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(REQUEST, seed=1),
        dataclasses.replace(REQUEST, sources=REQUEST.sources[::-1]),
        dataclasses.replace(REQUEST, sources=REQUEST.sources[:1]),
        dataclasses.replace(REQUEST, encoder=dataclasses.replace(SETTINGS, batch=63)),
        dataclasses.replace(REQUEST, index=IndexSettings(metric="l2")),
    ],
)
def test_another_request_has_another_digest(other: Request) -> None:
    assert digest(other) != digest(REQUEST) == digest(dataclasses.replace(REQUEST))


def test_a_field_that_was_added_changes_no_digest_of_before_but_where_it_says_something() -> None:
    before = msgspec.json.decode(encode(REQUEST))
    assert before["index"].pop("refine") == "none"
    stored = dataclasses.replace(REQUEST, index=IndexSettings(refine="f16"))
    assert digest(before) == digest(REQUEST) != digest(stored)
    assert decode(msgspec.json.encode(before), Request, "r") == REQUEST


def test_a_digest_knows_where_one_part_ends_and_the_next_begins() -> None:
    assert digest("ab", "c") != digest("a", "bc") != digest(["a"], "bc")
    assert digest(1) != digest("1")
    assert digest("a", "b") != digest("b", "a")

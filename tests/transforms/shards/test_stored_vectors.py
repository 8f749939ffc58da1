"""The refine store's files: any row comes back by its id, and no damage passes unseen."""

import io
import random
from collections.abc import Sequence, Set
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.damages import damaged
from transforms.errors import PixdexError
from transforms.records import FileReference, row_ids
from transforms.shards.stored_vectors import (
    GROUP_ROWS,
    KINDS,
    Extent,
    Kind,
    VectorFile,
    VectorWriter,
    opened_vectors,
    pack,
)
from transforms.storage.store import Store

Shards = dict[int, NDArray[np.float32]]


def written(kind: Kind, dim: int, shards: Shards, missing: Set[tuple[int, int]] = frozenset()) -> tuple[bytes, str]:
    """A file of these vectors, without some rows `(shard, row)`; and its checksum."""
    out = io.BytesIO()
    writer = VectorWriter(out, Extent.of(kind, dim, [(shard, len(rows)) for shard, rows in sorted(shards.items())]))
    for shard, vectors in sorted(shards.items()):
        kept = np.array([(shard, row) not in missing for row in range(len(vectors))], np.bool_)
        for first in range(0, len(vectors), GROUP_ROWS):
            part = slice(first, first + GROUP_ROWS)
            if kept[part].any():
                group = pack(kind, vectors[part][kept[part]], np.flatnonzero(kept[part]), len(vectors[part]))
                writer.append(shard, first, group)
    length, checksum = writer.finish()
    assert length == len(out.getvalue())
    return out.getvalue(), checksum


def opened(content: bytes, checksum: str, length: int | None = None) -> VectorFile:
    def read(ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        return [content[start:stop] for start, stop in ranges]

    return VectorFile(read, "a.f16", len(content) if length is None else length, checksum)


def vectors_of(seed: int, counts: dict[int, int], dim: int) -> Shards:
    rng = np.random.default_rng(seed)
    return {
        shard: rng.standard_normal((rows, dim)).astype(np.float16).astype(np.float32) for shard, rows in counts.items()
    }


@given(
    kind=st.sampled_from(KINDS),
    dim=st.integers(1, 5),
    counts=st.dictionaries(st.integers(0, 1 << 30), st.sampled_from([1, 2, 4095, 4096, 4097, 9000]), max_size=3),
    seed=st.integers(0, 99),
)
def test_any_row_comes_back_by_its_id(kind: Kind, dim: int, counts: dict[int, int], seed: int) -> None:
    shards = vectors_of(seed, counts, dim)
    content, checksum = written(kind, dim, shards)
    file = opened(content, checksum)
    file.verify()
    rng = np.random.default_rng(seed)
    known = [
        (int(number), row)
        for shard, rows in shards.items()
        for number, row in zip(row_ids(shard, len(rows)), rows, strict=True)
    ]
    strange = [(number + (1 << 31) << 16, None) for number in range(3)]
    some = [known[place] for place in rng.integers(0, len(known), 20)] if known else []
    asked = [*some, *strange, *[((shard << 16) + len(rows), None) for shard, rows in shards.items()]]
    order = rng.permutation(len(asked))
    got, held = file.read(np.array([asked[place][0] for place in order], np.int64))
    for place, vector, is_held in zip(order, got, held, strict=True):
        wanted = asked[place][1]
        assert is_held == (wanted is not None)
        if wanted is None:
            assert not vector.any()
        else:
            # A step of the widest component that these numbers have.
            assert np.abs(vector - wanted).max() <= (0 if kind != "sq8" else 12 / 255)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_and_groups_that_are_left_out_are_zero(kind: Kind) -> None:
    shards = vectors_of(1, {3: 10_000, 5: 3}, 4)
    missing = {(3, row) for row in range(4096, 8192)} | {(3, 7), (5, 0), (5, 1), (5, 2)}
    file = opened(*written(kind, 4, shards, missing))
    file.verify()
    got, held = file.read(row_ids(3, 10_000))
    assert held.all()
    assert not got[4096:8192].any() and np.abs(got[8192:] - shards[3][8192:]).max() < 0.03
    assert kind == "sq8" or not got[7].any()
    assert not file.read(row_ids(5, 3))[0].any()


SMALL = np.array([[0, -1, 5], [1, 1, 5], [0.3, 0.2, 5]], np.float32)


def test_a_file_whose_bytes_are_the_nearest_steps_is_read_as_it_was() -> None:
    """`SMALL` as it was written before errors were evened out: the format is the same."""
    content = bytes.fromhex(
        "504958524f5753000100000000000000"  # head
        "000000ffff004c9900"  # rows
        "00000000000080bf0000a0408180803b8180003c00000000"  # scales
        "7371380000000000030000000000000001000000000000000100000000000000"  # footer
        "0000000000000000030000000000000083516107e9e83cfe"
        "310000000000000038000000000000001758be37e5548b480100000000000000504958524f575300"  # tail
    )
    file = opened(content, "488b54e537be5817")
    file.verify()
    got, held = file.read(row_ids(0, 3))
    assert held.all() and np.abs(got - SMALL).max() <= 1 / 255
    again, _ = written("sq8", 3, {0: SMALL})
    assert again[:16] == content[:16] and len(again) == len(content)


def test_a_byte_a_component_is_off_by_less_than_a_step_and_never_outside() -> None:
    vectors = SMALL
    file = opened(*written("sq8", 3, {0: vectors}))
    got, _ = file.read(row_ids(0, 3))
    assert np.abs(got - vectors).max(axis=0) == pytest.approx([0, 0, 0], abs=2 / 255)
    assert got[:2] == pytest.approx(vectors[:2], abs=1e-6)  # the ends are exact, and what does not vary is too
    assert (got >= vectors.min(axis=0) - 1e-6).all() and (got <= vectors.max(axis=0) + 1e-6).all()


def test_groups_out_of_order_or_of_another_size_are_refused() -> None:
    writer = VectorWriter(io.BytesIO(), Extent.of("f16", 2, [(1, 5000)]))
    whole, rest = (pack("f16", np.ones((rows, 2), np.float32), np.arange(rows), rows) for rows in (4096, 904))
    writer.append(1, 4096, rest)
    for packed in (whole, rest):
        with pytest.raises(ValueError, match="begins no group"):
            writer.append(1, 0, packed)


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_told_or_changes_nothing_that_is_read(kind: Kind) -> None:
    shards = vectors_of(2, {0: 5000, 9: 40}, 3)
    content, checksum = written(kind, 3, shards)
    rng = random.Random(4)
    for _ in range(300):
        wrong = damaged(content, rng, [b"other", content[:500]])
        with pytest.raises(PixdexError, match=r"a\.f16 is damaged|a\.f16 has format"):
            opened(wrong, checksum).verify()
    for length in (0, 16, len(content) - 1, len(content) + 1):
        with pytest.raises(PixdexError):
            opened(content, checksum, length)


def test_a_file_of_another_checksum_or_of_a_newer_format_is_refused() -> None:
    content, checksum = written("f16", 2, vectors_of(3, {0: 3}, 2))
    with pytest.raises(PixdexError, match="its footer does not match its checksum"):
        opened(content, "0" * 16)
    newer = content[:-16] + (2).to_bytes(8, "little") + content[-8:]
    with pytest.raises(PixdexError, match="has format 2, this pixdex reads 1: upgrade pixdex"):
        opened(newer, checksum)


@pytest.mark.parametrize("url", ["{folder}", "memory://vectors-of-tests"])
def test_a_root_on_a_folder_or_an_object_store_gives_the_same_rows(tmp_path: Path, url: str) -> None:
    store, shards = Store.at(url.format(folder=tmp_path / "root")), vectors_of(5, {2: 6000}, 8)
    content, checksum = written("sq8", 8, shards)
    (tmp_path / "vectors.sq8").write_bytes(content)
    file = store.upload(tmp_path / "vectors.sq8", "vectors/none", "block-0", f"xxh3:{checksum}")
    ids = row_ids(2, 6000)[[5999, 0, 4095, 4096, 0]]
    got, held = opened_vectors(store, file).read(ids)
    assert held.all() and np.abs(got - shards[2][ids & 0xFFFF]).max() < 0.03
    opened_vectors(store, file).verify()
    with pytest.raises(PixdexError, match="it should have 1 bytes, and 88 at least"):
        opened_vectors(store, FileReference(file.path, 1, file.checksum))
    store.remove(file.path)
    with pytest.raises(PixdexError, match="is missing: restore it from a backup"):
        opened_vectors(store, file)

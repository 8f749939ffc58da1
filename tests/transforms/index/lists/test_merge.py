"""Merging by ranges of lists: the bytes of writing all at once, whatever the blocks, pieces and their order."""

import io
import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from transforms.errors import PixdexError
from transforms.index.lists.gather import gather
from transforms.index.lists.merge import (
    MergedRange,
    MergedSegment,
    StepBuffers,
    merge_range,
    merge_segment,
    merged_sizes,
    plan_pieces,
)
from transforms.index.lists.reader import ListFile
from transforms.index.lists.writer import write_lists

FINGERPRINT = "1a77" * 16


def list_file(
    list_nos: NDArray[np.int64],
    codes: NDArray[np.uint8],
    ids: NDArray[np.int64],
    nlist: int,
    name: str = "block.ivf",
    *,
    fingerprint: str = FINGERPRINT,
    lists: range | None = None,
) -> ListFile:
    out = io.BytesIO()
    write_lists(
        out,
        list_nos=list_nos,
        codes=codes,
        ids=ids,
        nlist=nlist,
        fingerprint=fingerprint,
        lists=lists,
        fence_bytes=200,
    )
    return ListFile(out, name)


def blocks(seed: int, cuts: list[int], rows: int, nlist: int, code_size: int) -> tuple[ListFile, list[ListFile]]:
    """All rows as one file, and cut into blocks at `cuts`."""
    rng = np.random.default_rng(seed)
    list_nos = rng.integers(0, nlist, rows) ** 2 // nlist  # small list numbers are crowded
    codes = rng.integers(0, 256, (rows, code_size), dtype=np.uint8)
    ids = np.cumsum(rng.integers(1, 5, rows)) + (3 << 16)
    parts = [slice(a, b) for a, b in itertools.pairwise([0, *sorted(cuts), rows])]
    return list_file(list_nos, codes, ids, nlist), [
        list_file(list_nos[part], codes[part], ids[part], nlist, f"block-{i}.ivf") for i, part in enumerate(parts)
    ]


def file_of(source: ListFile) -> bytes:
    file = source._file
    assert isinstance(file, io.BytesIO)
    return file.getvalue()


@given(
    data=st.data(),
    seed=st.integers(0, 1000),
    rows=st.integers(0, 400),
    nlist=st.sampled_from([1, 2, 7, 64, 300]),
    code_size=st.sampled_from([1, 4, 12, 33]),
    piece_bytes=st.sampled_from([1, 300, 5000, 1 << 20]),
)
def test_any_blocks_pieces_and_order_give_the_bytes_of_one_file(
    data: st.DataObject, *, seed: int, rows: int, nlist: int, code_size: int, piece_bytes: int
) -> None:
    whole, inputs = blocks(seed, data.draw(st.lists(st.integers(0, rows), max_size=5)), rows, nlist, code_size)
    shuffled = list(inputs)
    random.Random(seed).shuffle(shuffled)

    out = io.BytesIO()
    segment = merge_segment(shuffled, range(nlist), out, step_bytes=piece_bytes, fence_bytes=200)
    assert out.getvalue() == file_of(whole) and segment == MergedSegment(whole.rows, whole.seal)

    pieces = plan_pieces(inputs, piece_bytes)
    assert list(itertools.chain(*pieces)) == list(range(nlist))
    sizes = merged_sizes(inputs)
    target = io.BytesIO()
    buffers = StepBuffers()
    for piece in data.draw(st.permutations(pieces)):
        target.seek(int(sizes[: piece.start].sum()) * (code_size + 8))
        merged = merge_range(shuffled, piece, target, buffers=buffers)
        assert merged.stored.rows == sizes[piece.start : piece.stop].sum() == merged.bytes // (code_size + 8)
    assert target.getvalue() == whole.read(range(nlist)).body.tobytes()


def test_any_range_of_lists_can_be_merged_fence_or_not() -> None:
    whole, inputs = blocks(1, [100, 250], 400, 64, 5)
    for start, stop in itertools.combinations_with_replacement(range(0, 65, 3), 2):
        out = io.BytesIO()
        merge_range(inputs, range(start, stop), out)
        assert out.getvalue() == whole.read(range(start, stop)).body.tobytes()


def test_segments_over_other_ranges_of_lists_merge_with_whole_blocks() -> None:
    whole, inputs = blocks(2, [150, 300], 400, 64, 5)
    base = []
    for lists in (range(20), range(20, 64)):
        out = io.BytesIO()
        merge_segment(inputs[:2], lists, out, fence_bytes=200)
        base.append(ListFile(out, f"segment-{lists.start}.ivf"))
    out = io.BytesIO()
    merge_segment([inputs[2], base[1], base[0]], range(64), out, step_bytes=500, fence_bytes=200)
    assert out.getvalue() == file_of(whole)


def test_pieces_are_cut_where_all_inputs_have_fences_and_close_to_the_size_asked_for() -> None:
    _, inputs = blocks(3, [3000], 6000, 256, 32)
    pieces = plan_pieces(inputs, 20_000)
    assert plan_pieces(inputs, 20_000) == pieces and len(pieces) > 8
    widest = max(
        sum(source.span(range(start, start + 1)) for source in inputs) for start in inputs[0].fence_lists[:-1].tolist()
    )
    for piece in pieces:
        read = sum(source.span(piece) for source in inputs)
        assert read <= max(20_000, widest)
        assert read == sum(source.sizes(piece).rows for source in inputs) * 40, "a byte outside the piece was read"


def test_the_checksum_is_that_of_the_bytes_written() -> None:
    _, inputs = blocks(4, [10], 50, 8, 5)
    again: list[MergedRange] = [merge_range(inputs, range(8), io.BytesIO()) for _ in range(2)]
    assert again[0].checksum == again[1].checksum != merge_range(inputs, range(5), io.BytesIO()).checksum


def test_a_block_of_another_trained_index_is_refused_by_name() -> None:
    _, inputs = blocks(5, [10], 50, 8, 5)
    empty = np.empty(0, np.int64)
    other = list_file(empty, np.empty((0, 5), np.uint8), empty, 8, "block-00012-ab.ivf", fingerprint="9f3c" * 16)
    message = r"shard index block-00012-ab\.ivf was built from trained index 9f3c.*this merge uses 1a77.*'pixdex add'"
    with pytest.raises(PixdexError, match=message):
        merge_range([*inputs, other], range(8), io.BytesIO())
    with pytest.raises(PixdexError, match=r"block-0\.ivf was built from trained index 1a77.*uses 9f3c"):
        merge_range(inputs, range(8), io.BytesIO(), fingerprint="9f3c" * 16)


@pytest.mark.parametrize(("nlist", "code_size"), [(9, 5), (8, 6)])
def test_a_block_of_another_shape_is_refused_by_name(nlist: int, code_size: int) -> None:
    _, inputs = blocks(6, [], 50, 8, 5)
    _, others = blocks(6, [], 50, nlist, code_size)
    with pytest.raises(PixdexError, match=f"has {nlist} lists of {code_size}-byte codes"):
        merged_sizes([*inputs, *others])


def test_blocks_with_ids_in_common_are_refused_by_name() -> None:
    _, inputs = blocks(7, [20], 50, 8, 5)
    with pytest.raises(PixdexError, match=r"block-1\.ivf and block-1\.ivf overlap"):
        merge_range([*inputs, inputs[1]], range(8), io.BytesIO())


def test_a_damaged_block_stops_the_merge_and_is_named() -> None:
    _, inputs = blocks(8, [20], 50, 8, 5)
    raw = bytearray(file_of(inputs[1]))
    raw[20] ^= 4
    with pytest.raises(PixdexError, match=r"block-1\.ivf is damaged"):
        merge_range([inputs[0], ListFile(io.BytesIO(raw), "block-1.ivf")], range(8), io.BytesIO())


@pytest.mark.parametrize("scale", [3, 40_000, 3_000_000])
def test_gather_joins_segments_of_any_size_in_any_order(scale: int) -> None:
    rng = np.random.default_rng(9)
    lengths = rng.integers(0, scale, 12)
    bounds = np.append(0, np.cumsum(lengths))
    buffer = rng.integers(0, 256, bounds[-1], dtype=np.uint8)
    order = rng.permutation(12)[:9]
    expected = b"".join(buffer[bounds[i] : bounds[i + 1]].tobytes() for i in order)
    assert b"".join(gather(buffer, bounds, order)) == expected

"""The list format: what is written comes back, by range, in few bytes read; and no damage passes unseen."""

import io
from pathlib import Path
from typing import BinaryIO

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from transforms.errors import PixdexError
from transforms.index.lists.format import MAX_FENCES, ListSizes, Seal, fence_spacing
from transforms.index.lists.reader import ListFile
from transforms.index.lists.writer import ListWriter, write_lists

FINGERPRINT = "9f3c" * 16
Entries = tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]


def entries(seed: int, rows: int, nlist: int, code_size: int, first_list: int = 0) -> Entries:
    rng = np.random.default_rng(seed)
    list_nos = rng.integers(first_list, nlist, rows) if rows else np.empty(0, np.int64)
    codes = rng.integers(0, 256, (rows, code_size), dtype=np.uint8)
    return list_nos, codes, rng.permutation(rows).astype(np.int64) * 3 + seed


def file_bytes(data: Entries, nlist: int, fence_bytes: int = 64, lists: range | None = None) -> bytes:
    out = io.BytesIO()
    list_nos, codes, ids = data
    write_lists(
        out,
        list_nos=list_nos,
        codes=codes,
        ids=ids,
        nlist=nlist,
        fingerprint=FINGERPRINT,
        lists=lists,
        fence_bytes=fence_bytes,
    )
    return out.getvalue()


class CountingFile(io.BytesIO):
    """Counts reads and the bytes they return."""

    reads = 0
    returned = 0

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # narrower buffer than BytesIO's
        got = super().readinto(buffer)
        self.reads += 1
        self.returned += got
        return got


@given(
    data=st.data(),
    seed=st.integers(0, 1000),
    rows=st.integers(0, 300),
    nlist=st.integers(1, 70),
    code_size=st.sampled_from([1, 3, 4, 8, 20, 33]),
    fence_bytes=st.sampled_from([1, 64, 1000, 1 << 16]),
)
def test_any_range_comes_back_sorted_by_list_and_id(
    data: st.DataObject, *, seed: int, rows: int, nlist: int, code_size: int, fence_bytes: int
) -> None:
    list_nos, codes, ids = entries(seed, rows, nlist, code_size)
    file = ListFile(io.BytesIO(file_bytes((list_nos, codes, ids), nlist, fence_bytes)), "a.ivf")
    start = data.draw(st.integers(0, nlist))
    lists = range(start, data.draw(st.integers(start, nlist)))

    got_lists, got_codes, got_ids = file.read(lists).unpack()

    order = np.lexsort((ids, list_nos))
    order = order[(list_nos[order] >= lists.start) & (list_nos[order] < lists.stop)]
    assert (got_lists == list_nos[order]).all() and (got_ids == ids[order]).all() and (got_codes == codes[order]).all()
    assert file.sizes(lists).rows == len(order)
    assert (file.nlist, file.lists, file.code_size, file.rows) == (nlist, range(nlist), code_size, rows)
    assert file.fingerprint == FINGERPRINT
    assert file.id_range == ((int(ids.min()), int(ids.max())) if rows else (0, -1))
    file.verify()


def test_bodies_are_codes_then_ids_list_by_list() -> None:
    codes = np.arange(6, dtype=np.uint8).reshape(3, 2)
    body = file_bytes((np.array([4, 1, 4]), codes, np.array([9, 5, 7])), nlist=6)[16:]
    expected = bytes([2, 3]) + (5).to_bytes(8, "little")
    expected += bytes([4, 5, 0, 1]) + (7).to_bytes(8, "little") + (9).to_bytes(8, "little")
    assert body[: len(expected)] == expected


def test_the_order_in_which_entries_come_changes_no_byte() -> None:
    list_nos, codes, ids = entries(1, 500, 40, 12)
    by_id = np.argsort(ids)
    assert file_bytes((list_nos, codes, ids), 40) == file_bytes((list_nos[by_id], codes[by_id], ids[by_id]), 40)


def test_many_lists_are_sorted_too() -> None:
    list_nos, codes, ids = entries(2, 4000, 200_000, 4)
    got_lists, got_codes, got_ids = (
        ListFile(io.BytesIO(file_bytes((list_nos, codes, ids), 200_000)), "a.ivf").read(range(200_000)).unpack()
    )
    order = np.lexsort((ids, list_nos))
    assert (got_lists == list_nos[order]).all() and (got_ids == ids[order]).all() and (got_codes == codes[order]).all()


def test_a_file_can_answer_for_a_part_of_the_lists() -> None:
    file = ListFile(io.BytesIO(file_bytes(entries(3, 200, 50, 8, 30), 50, lists=range(30, 50))), "a.ivf")
    assert file.lists == range(30, 50) and file.nlist == 50
    assert file.read(range(30)).stored.rows == 0
    assert file.read(range(50)).stored.rows == 200


@pytest.mark.parametrize("cut", [1, 7, 64, 10**6])
def test_runs_and_chunks_change_no_byte(cut: int) -> None:
    whole = file_bytes(entries(4, 300, 32, 5), 32)
    source = ListFile(io.BytesIO(whole), "a.ivf")
    out = io.BytesIO()
    writer = ListWriter(
        out,
        nlist=32,
        lists=range(32),
        code_size=5,
        fingerprint=FINGERPRINT,
        spacing=fence_spacing(range(32), 300 * 13, 64),
    )
    for lists in (range(5), range(5, 6), range(6, 32)):
        part = source.read(lists)
        body = part.body.tobytes()
        writer.append(part.stored, [memoryview(body)[i : i + cut] for i in range(0, len(body), cut)])
    writer.finish(source.id_range)
    assert out.getvalue() == whole


def test_fences_are_few_and_stand_where_other_files_have_theirs() -> None:
    big = fence_spacing(range(1_000_000), 1 << 40)
    small = fence_spacing(range(1_000_000), 1 << 24)
    assert 1_000_000 / big <= MAX_FENCES and small % big == 0


def test_a_range_is_read_in_few_bytes() -> None:
    list_nos, codes, ids = entries(5, 200_000, 4096, 64)
    raw = file_bytes((list_nos, codes, ids), 4096, fence_bytes=1 << 12)
    counting = CountingFile(raw)
    file = ListFile(counting, "a.ivf")
    opened = counting.returned
    assert counting.reads <= 2 and opened < 200_000 < len(raw) / 50
    part = file.read(range(1000, 1010))
    assert counting.reads <= 4
    assert counting.returned - opened < 4 * len(part.body) + 4096


@pytest.mark.parametrize("rows", [0, 90])
def test_a_flipped_bit_anywhere_is_noticed(rows: int) -> None:
    raw = bytearray(file_bytes(entries(6, rows, 20, 3), 20))
    for position in range(len(raw)):
        raw[position] ^= 1 << (position % 8)
        with pytest.raises(PixdexError, match=r"block-7\.ivf"):
            ListFile(io.BytesIO(raw), "block-7.ivf").verify()
        raw[position] ^= 1 << (position % 8)
    ListFile(io.BytesIO(raw), "block-7.ivf").verify()


def test_a_damaged_fence_leaves_the_others_readable() -> None:
    raw = bytearray(file_bytes(entries(7, 300, 32, 8), 32))
    raw[16] ^= 1
    file = ListFile(io.BytesIO(raw), "a.ivf")
    assert file.read(range(16, 32)).stored.rows > 0
    with pytest.raises(PixdexError, match="bodies of its lists 0"):
        file.read(range(1))


def test_truncation_at_any_byte_is_noticed() -> None:
    raw = file_bytes(entries(8, 60, 10, 2), 10)
    for length in range(len(raw)):
        with pytest.raises(PixdexError, match="truncated"):
            ListFile(io.BytesIO(raw[:length]), "a.ivf")


def test_a_newer_format_says_to_upgrade() -> None:
    raw = bytearray(file_bytes(entries(9, 10, 4, 2), 4))
    raw[-16] = 2
    with pytest.raises(PixdexError, match="upgrade"):
        ListFile(io.BytesIO(raw), "a.ivf")


def test_another_file_under_the_name_is_refused() -> None:
    first, second = (file_bytes(entries(seed, 10, 4, 2), 4) for seed in (10, 11))
    seal = ListFile(io.BytesIO(first), "a.ivf").seal
    assert ListFile(io.BytesIO(first), "a.ivf", Seal(len(first), seal.checksum)).rows == 10
    with pytest.raises(PixdexError, match="referred"):
        ListFile(io.BytesIO(second), "a.ivf", seal)


def test_unassigned_and_doubled_entries_are_refused() -> None:
    codes = np.zeros((3, 2), np.uint8)
    with pytest.raises(PixdexError, match=r"entry 1 \(id 8\) is in list -1"):
        file_bytes((np.array([0, -1, 1]), codes, np.array([7, 8, 9])), 4)
    with pytest.raises(PixdexError, match="id 8 stands twice in list 1"):
        file_bytes((np.array([1, 0, 1]), codes, np.array([8, 8, 8])), 4)


def test_lists_out_of_order_and_bodies_of_another_length_are_refused() -> None:
    def writer(out: BinaryIO) -> ListWriter:
        return ListWriter(out, nlist=8, lists=range(8), code_size=1, fingerprint="", spacing=1)

    one = ListSizes(np.array([3]), np.array([1]))
    started = writer(io.BytesIO())
    started.append(one, [memoryview(bytes(9))])
    with pytest.raises(ValueError, match="continue"):
        started.append(one, [memoryview(bytes(9))])
    for length in (8, 10):
        with pytest.raises(ValueError, match="take 9 bytes"):
            writer(io.BytesIO()).append(one, [memoryview(bytes(length))])


@pytest.mark.parametrize("protocol", ["file", "memory"])
def test_files_of_fsspec_are_read_like_local_ones(protocol: str, tmp_path: Path) -> None:
    filesystem = fsspec.filesystem(protocol)
    path = f"{tmp_path}/a.ivf"
    filesystem.makedirs(str(tmp_path), exist_ok=True)
    filesystem.pipe_file(path, file_bytes(entries(12, 300, 32, 8), 32))
    with filesystem.open(path, "rb") as file:
        opened = ListFile(file, path)
        opened.verify()
        assert opened.read(range(3, 9)).stored.rows > 0

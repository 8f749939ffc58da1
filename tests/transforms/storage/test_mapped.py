"""Rows of a mapped file are asked for together where they are not in memory, and not at all where they are."""

import mmap
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from transforms.storage import mapped

PAGE = mmap.PAGESIZE
ROWS = np.array([3, 4, 5, 900, 4000, 4095], np.int64)


@pytest.fixture
def stored(tmp_path: Path) -> NDArray[Any]:
    """A mapped file of 4,096 rows that is not in memory, nor read ahead by itself."""
    file = tmp_path / "rows"
    file.write_bytes(np.arange(4096 * 256, dtype="<f4").tobytes())
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
        if not hasattr(os, "posix_fadvise") or not hasattr(mmap, "MADV_RANDOM"):
            pytest.skip("this system cannot be told to forget a file")
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        memory = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    memory.madvise(mmap.MADV_RANDOM)
    array = np.frombuffer(memory, "<f4").reshape(4096, 256)
    if any(mapped.is_resident(array.ctypes.data + row * 1024) for row in range(4096)):
        pytest.skip("this filesystem keeps all files in memory")
    return array


def resident(stored: NDArray[Any]) -> set[int]:
    """The pages that are in memory."""
    return {page for page in range(stored.nbytes // PAGE) if mapped.is_resident(stored.ctypes.data + page * PAGE)}


def test_the_pages_of_rows_come_and_no_others(stored: NDArray[Any]) -> None:
    mapped.ask_ahead(stored, ROWS)
    wanted = set((ROWS * 1024 // PAGE).tolist())
    for _ in range(1000):
        if wanted <= resident(stored):
            break
        time.sleep(0.01)
    assert resident(stored) == wanted


def test_what_is_there_is_not_asked_for(stored: NDArray[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(mapped, "_madvise", lambda address, length, _: asked.append(length))
    mapped.ask_ahead(stored, ROWS)
    assert sum(asked) == PAGE * len(set((ROWS * 1024 // PAGE).tolist())) and len(asked) < len(ROWS)
    before = len(asked)
    assert stored[ROWS].sum() > 0
    mapped.ask_ahead(stored, ROWS)
    mapped.ask_ahead(stored, ROWS[:0])
    assert len(asked) == before


def test_a_system_without_the_call_reads_as_it_did(stored: NDArray[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "_madvise", None)
    mapped.ask_ahead(stored, ROWS)
    assert not resident(stored)

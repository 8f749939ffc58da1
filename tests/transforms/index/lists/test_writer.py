"""A list file below a root has a name of its content, and is there whole or not at all."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from transforms.index.lists.format import Seal
from transforms.index.lists.reader import ListFile
from transforms.index.lists.writer import write_lists, write_lists_file
from transforms.storage import layout
from transforms.storage.store import Store


def write(out: BinaryIO) -> tuple[int, Seal]:
    list_nos, codes = np.array([1, 0, 1]), np.arange(6, dtype=np.uint8).reshape(3, 2)
    return 3, write_lists(out, list_nos=list_nos, codes=codes, ids=np.arange(3), nlist=2, fingerprint="ab" * 32)


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store.at(str(tmp_path / "root") if request.param == "folder" else f"memory://{tmp_path.name}")


def test_a_list_file_is_named_and_sealed_by_its_content(store: Store) -> None:
    rows, file = write_lists_file(store, "lists/ab", "block-0000000000", write)

    scheme, _, checksum = file.checksum.partition(":")
    assert (rows, scheme) == (3, "xxh3")
    assert file.path == f"lists/ab/block-0000000000-{checksum[:16]}.ivf"
    assert write_lists_file(store, "lists/ab", "block-0000000000", write) == (rows, file)
    with store.open(file.path) as stream:
        ListFile(stream, file.path, Seal(file.bytes, checksum)).verify()


def test_a_failure_while_lists_are_written_leaves_nothing(store: Store) -> None:
    def fail(out: BinaryIO) -> tuple[int, Seal]:
        write(out)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_lists_file(store, "lists/ab", "block-0000000000", fail)

    assert store.names("lists/ab") == store.names(layout.SCRATCH) == []

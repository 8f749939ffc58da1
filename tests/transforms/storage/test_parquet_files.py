"""A parquet file is read whole and checked, or named as what is wrong."""

import random
from pathlib import Path

import pyarrow as pa
import pytest

from transforms.errors import PixdexError, UsageError
from transforms.records import FileReference
from transforms.storage import parquet_files
from transforms.storage.store import Store

TABLE = pa.table({"number": list(range(5000)), "text": [f"text {number}" for number in range(5000)]})


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store.at(str(tmp_path / "root") if request.param == "folder" else f"memory://{tmp_path.name}")


@pytest.fixture
def reference(store: Store) -> FileReference:
    with store.scratch() as scratch:
        parquet_files.write(TABLE, scratch / "table.parquet")
        return store.upload(scratch / "table.parquet", "tables", "t")


def damage(store: Store, reference: FileReference, data: bytes) -> None:
    store.overwrite(reference.path, data)


def test_what_was_written_is_read(store: Store, reference: FileReference) -> None:
    assert parquet_files.read(store, reference).equals(TABLE)


def test_a_flipped_bit_anywhere_is_noticed_or_changes_nothing(store: Store, reference: FileReference) -> None:
    sound = store.read(reference.path)
    generator = random.Random(0)
    for _ in range(200):
        data = bytearray(sound)
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        damage(store, reference, bytes(data))
        try:
            assert parquet_files.read(store, reference).equals(TABLE)
        except PixdexError as error:
            assert reference.path in str(error)


@pytest.mark.parametrize("keep", [0, 1, 0.5, -1])
def test_a_file_cut_short_is_named(store: Store, reference: FileReference, keep: float) -> None:
    sound = store.read(reference.path)
    damage(store, reference, sound[: int(keep * len(sound)) if isinstance(keep, float) else keep])
    with pytest.raises(PixdexError, match=rf"{reference.path} is damaged \(it should have {len(sound)} bytes\)"):
        parquet_files.read(store, reference)


def test_a_missing_file_is_named(store: Store, reference: FileReference) -> None:
    store.remove(reference.path)
    with pytest.raises(PixdexError, match=rf"{reference.path} is missing"):
        parquet_files.read(store, reference)


@pytest.mark.parametrize("path", ["../elsewhere", "/etc/passwd", "a//b"])
def test_a_table_that_names_a_file_out_of_the_root_is_refused_with_its_own_name(store: Store, path: str) -> None:
    table = pa.table({"path": ["tables/own", None, path], "bytes": [1, None, 1]})
    reference = parquet_files.write_table(store, table)
    with pytest.raises(UsageError, match=f"{reference.path}: '{path}' is no path"):
        parquet_files.read(store, reference)

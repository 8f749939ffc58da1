"""A shard's parquet is what other tools read, small, and the same bytes for the same rows."""

from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from transforms.records import FileReference, row_ids
from transforms.shards import files
from transforms.shards.files import Reject
from transforms.storage.store import Store

SCHEMA = [
    ("id", "int64"), ("key", "string"), ("uri", "string"), ("modality", "string"), ("part", "int32"),
    ("caption", "string"), ("version", "string"), ("width", "int32"), ("height", "int32"),
    ("embedding", "fixed_size_list<element: float>[6]"), ("group", "string"), ("source_key", "string"),
]  # fmt: skip


def metadata(rows: int) -> pa.Table:
    names = [f"이름 {row}" for row in range(rows)]
    return pa.table(
        {
            "key": names,
            "uri": names,
            "modality": ["image"] * rows,
            "part": pa.array([0] * rows, pa.int32()),
            "caption": pa.array([None if row % 2 else "말" for row in range(rows)], pa.string()),
            "version": names,
            "width": pa.array([None if row % 3 else row for row in range(rows)], pa.int32()),
            "height": pa.array(range(rows), pa.int32()),
            "group": pa.array(["007"] * rows, pa.string()),
            "source_key": pa.array([""] * rows, pa.string()),
        }
    )


def vectors(rows: int, dim: int = 6) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((rows, dim)).astype(np.float32)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path / "root"))


@pytest.fixture
def shard(store: Store, monkeypatch: pytest.MonkeyPatch) -> FileReference:
    monkeypatch.setattr(files, "ROWS_PER_GROUP", 8)
    return files.write_embeddings(store, 12, metadata(30), vectors(30))


def test_columns_have_the_names_the_order_and_the_types_of_the_format(store: Store, shard: FileReference) -> None:
    schema = pq.read_schema(store.local_path(shard.path))

    assert [(field.name, str(field.type)) for field in schema] == SCHEMA
    assert schema.metadata[b"pixdex.format_version"] == b"1"


def test_a_shard_lies_where_its_number_says(store: Store, shard: FileReference) -> None:
    assert shard.path.startswith("embeddings/0000/shard-0000000012-")
    far = files.write_embeddings(store, 3 * 4096 + 1, metadata(1), vectors(1))
    assert far.path.startswith("embeddings/0003/shard-0000012289-")


def test_pandas_polars_and_duckdb_read_the_same_values(store: Store, shard: FileReference) -> None:
    file = str(store.local_path(shard.path))
    frames = (pd.read_parquet(file), pl.read_parquet(file))
    in_duckdb = duckdb.execute("select id, key, embedding, width from read_parquet(?)", [file]).fetchall()

    for frame in frames:
        assert np.array_equal(np.stack(list(frame["embedding"])), vectors(30))
        assert list(frame["id"]) == row_ids(12, 30).tolist()
        assert list(frame["key"]) == metadata(30)["key"].to_pylist()
        assert list(frame.columns) == [name for name, _ in SCHEMA]
    assert np.array_equal(np.array([row[2] for row in in_duckdb], np.float32), vectors(30))
    assert [(row[0], row[1], row[3]) for row in in_duckdb] == list(
        zip(row_ids(12, 30).tolist(), metadata(30)["key"].to_pylist(), metadata(30)["width"].to_pylist(), strict=True)
    )


def test_embeddings_are_split_into_byte_streams_and_compressed_without_dictionaries(
    store: Store, shard: FileReference
) -> None:
    description = pq.ParquetFile(store.local_path(shard.path)).metadata
    group = description.row_group(0)
    columns = {group.column(number).path_in_schema: group.column(number) for number in range(group.num_columns)}

    assert "BYTE_STREAM_SPLIT" in columns["embedding.list.element"].encodings
    for column in columns.values():
        assert column.compression == "ZSTD"
        assert not {"PLAIN_DICTIONARY", "RLE_DICTIONARY"} & set(column.encodings)
        assert not column.has_dictionary_page


def test_a_component_rounded_to_float16_takes_less_than_two_bytes(store: Store) -> None:
    plain = vectors(2000, 512)
    rounded = (plain / np.linalg.norm(plain, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)

    size = files.write_embeddings(store, 0, metadata(2000), rounded).bytes
    without = files.write_embeddings(store, 0, metadata(2000), np.zeros((2000, 512), np.float32)).bytes

    assert 1.6 < (size - without) / rounded.size <= 1.9


def test_equal_rows_have_equal_bytes(store: Store) -> None:
    assert len({files.write_embeddings(store, 4, metadata(30), vectors(30)).checksum for _ in range(2)}) == 1


def test_vectors_read_back_to_the_bit(store: Store, shard: FileReference) -> None:
    found = files.read_vectors(store, shard)

    assert found.dtype == np.float32
    assert np.array_equal(found, vectors(30))


def test_rejects_read_back_as_they_were_written(store: Store) -> None:
    written = [
        Reject("k1", "u1", "v1", "image", 0, "decode", "OSError", "한글 메시지"),
        Reject("k2", "u2", "v2", None, None, "plan", "WrongNumberOfCells", "x"),
    ]
    reference = files.write_rejects(store, 7, written)

    assert reference is not None
    assert reference.path.startswith("rejects/0000/shard-0000000007-")
    found = files.read_rejects(store, reference)
    assert [Reject(**row) for row in found.to_pylist()] == written
    assert found.schema.equals(files.REJECT_SCHEMA)


def test_rejects_without_a_modality_have_the_same_columns(store: Store) -> None:
    reference = files.write_rejects(store, 7, [Reject("k", "u", "v", None, None, "plan", "Empty", "x")])

    assert reference is not None
    assert files.read_rejects(store, reference).schema.equals(files.REJECT_SCHEMA)


def test_no_reject_makes_no_file(store: Store) -> None:
    assert files.write_rejects(store, 7, []) is None
    assert store.names("rejects") == []

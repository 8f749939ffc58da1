"""Vectors are finished and moved in place: a shard takes the memory of its vectors once."""

import dataclasses
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from tests.transforms.embedded import SETTINGS
from transforms.rejects import Failure
from transforms.sources import items
from transforms.tasks.embed.shard_rows import ShardRows

DIM = 16


def texts(count: int, dim: int = DIM) -> ShardRows:
    """As many items of one text each, with random vectors."""
    names = pa.array([f"text {number}" for number in range(count)])
    table = items.table_of(key=names, uri=names, version=names, text=names, columns={})
    rows = ShardRows.of(table, dim)
    rows.vectors[:] = np.random.default_rng(0).standard_normal((count, dim), np.float32)
    return rows


def normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1).astype(np.float32)
    return np.asarray(vectors / norms[:, None], np.float32)


@pytest.mark.parametrize("count", [1, 4095, 4097, 10_000])
def test_every_vector_is_normalised_and_rounded_however_many_there_are(count: int) -> None:
    rows = texts(count)
    expected = normalised(rows.vectors).astype(np.float16).astype(np.float32)
    rows.finish(SETTINGS)

    np.testing.assert_array_equal(rows.vectors, expected)


def test_a_bad_vector_rejects_its_own_item_in_any_chunk() -> None:
    rows = texts(9000)
    rows.vectors[[0, 4096, 8999], 3] = np.nan
    rows.finish(SETTINGS)

    assert [(place, reject.key) for place, reject in rows.rejects.items()] == [
        (place, f"text {place}") for place in (0, 4096, 8999)
    ]


@pytest.mark.parametrize("gone", [(), (0,), (4095, 4096), tuple(range(0, 9000, 2)), tuple(range(9000))])
def test_kept_rows_stay_in_order_with_their_vectors(gone: tuple[int, ...]) -> None:
    rows = texts(9000)
    for row in gone:
        rows.reject(row, Failure("encode", "Bad", "bad"))
    kept = np.delete(np.arange(9000), gone)
    expected = rows.vectors[kept]
    metadata, vectors = rows.keep_sound()

    np.testing.assert_array_equal(vectors, expected)
    assert metadata["key"].to_pylist() == [f"text {row}" for row in kept]


@pytest.mark.parametrize("rejected", [0, 1])
def test_vectors_are_finished_and_kept_without_a_copy_of_them(rejected: int) -> None:
    rows = texts(65_536, 64)
    for row in range(rejected):
        rows.reject(row, Failure("encode", "Bad", "bad"))
    settings = dataclasses.replace(SETTINGS, dim=64)
    tracemalloc.start()
    rows.finish(settings)
    rows.keep_sound()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < rows.vectors.nbytes / 2

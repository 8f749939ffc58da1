"""Vectors are finished and moved in place: a shard takes the memory of its vectors once."""

import dataclasses
import tracemalloc
from typing import Literal

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


@pytest.mark.parametrize("precision", ["float16", "full"])
def test_a_vector_too_long_to_be_indexed_as_it_is_rejects_its_item_and_says_why(
    precision: Literal["float16", "full"],
) -> None:
    rows = texts(5000)
    rows.vectors[[3, 4500]] = 3e38
    rows.vectors[7] = 1e14
    rows.vectors[9, 0] = np.nan
    rows.finish(dataclasses.replace(SETTINGS, normalize=False, precision=precision))
    found = {place: reject.message for place, reject in rows.rejects.items()}

    assert found.keys() == ({3, 4500, 9} if precision == "full" else {3, 4500, 7, 9})
    assert "not finite" in found[9]
    for place in (3, 4500):  # of float16 none is too long that is finite
        assert ("squared norm is above 1e+30" in found[place]) == (precision == "full")


def test_vectors_of_any_length_are_normalised() -> None:
    rows = texts(50)
    rows.vectors[:5] *= np.array([[3e37], [1e-38], [1e-44], [1e25], [1e-25]], np.float32)
    exact = rows.vectors.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    rows.finish(SETTINGS)
    np.testing.assert_allclose(rows.vectors, exact, atol=1e-3)
    assert not rows.rejects


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

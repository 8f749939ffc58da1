"""Vectors of rows, read one by one: of ready embeddings out of the files where they lie."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.roots import Row, make_root, unit
from transforms.generations.published import open_generation
from transforms.ready_range import VectorRange
from transforms.records import row_ids
from transforms.search.refine import ReadyFileError, StoredVectors
from transforms.shards import ready_files


def stored_of(folder: Path, *ranges: VectorRange) -> StoredVectors:
    """What a root whose shards are these ranges would read."""
    store = make_root(folder / "root", [Row("k", unit(0))], normalize=True)
    shards: dict[int, dict[str, Any]] = {number: {"ready": asdict(one)} for number, one in enumerate(ranges)}
    return StoredVectors(store, open_generation(store), shards)


def written(file: Path, vectors: NDArray[Any]) -> VectorRange:
    np.save(file, vectors)
    uri = f"file://{file}"
    return VectorRange(uri, "npy", 0, len(vectors), ready_files.stat(uri)[1])


def test_rows_of_several_files_and_types_come_as_they_are_indexed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    halves, floats = rng.standard_normal((90, 2)).astype(np.float16), rng.standard_normal((50, 2)).astype(np.float32)
    one, other = written(tmp_path / "a.npy", halves), written(tmp_path / "b.npy", floats)
    ends = [VectorRange(one.uri, "npy", start, stop, one.version) for start, stop in ((60, 90), (0, 60))]
    stored = stored_of(tmp_path, ends[0], other, ends[1])
    ids = np.concatenate([row_ids(0, 30), row_ids(1, 50), row_ids(2, 60), row_ids(3, 2)])
    order = rng.permutation(len(ids))
    expected = np.concatenate([halves[60:], floats, halves[:60], np.zeros((2, 2))]).astype(np.float32)
    expected[:-2] /= np.linalg.norm(expected[:-2], axis=1, keepdims=True)
    vectors, held = stored.find(ids[order])
    np.testing.assert_allclose(vectors, expected[order], atol=1e-6)
    np.testing.assert_array_equal(held, order < 140)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_what_is_no_vector_stays_none(tmp_path: Path, dtype: type) -> None:
    stored = stored_of(tmp_path, written(tmp_path / "a.npy", np.array([[3, 4], [np.inf, 1], [1, np.nan]], dtype)))
    vectors, _ = stored.find(row_ids(0, 3))
    np.testing.assert_allclose(vectors[0], [0.6, 0.8], atol=1e-6)
    assert not np.isfinite(vectors[1:]).all(axis=1).any()


def test_a_file_that_is_written_anew_between_two_searches_is_not_read(tmp_path: Path) -> None:
    stored = stored_of(tmp_path, written(tmp_path / "a.npy", np.ones((3, 2), np.float32)))
    assert stored.find(row_ids(0, 3))[1].all()
    np.save(tmp_path / "a.npy", np.zeros((4, 2), np.float32))
    with pytest.raises(ReadyFileError, match=r"a\.npy has changed"):
        stored.find(row_ids(0, 1))
    (tmp_path / "a.npy").unlink()
    with pytest.raises(ReadyFileError, match=r"a\.npy cannot be read"):
        stored.find(row_ids(0, 1))


def test_both_rows_of_a_pair_come_of_their_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images, texts = rng.standard_normal((90, 2)).astype(np.float16), rng.standard_normal((90, 2)).astype(np.float32)
    lone = written(tmp_path / "c.npy", images[:5])
    one, other = written(tmp_path / "a.npy", images), written(tmp_path / "b.npy", texts)
    ends = [
        VectorRange(one.uri, "npy", *ends, one.version, text_uri=other.uri, text_version=other.version)
        for ends in ((60, 90), (0, 60))
    ]
    stored = stored_of(tmp_path, ends[0], lone, ends[1])
    ids = np.concatenate([row_ids(0, 60), row_ids(1, 5), row_ids(2, 120)])
    expected = np.concatenate([images[60:], texts[60:], images[:5], images[:60], texts[:60]]).astype(np.float32)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    order = rng.permutation(len(ids))
    vectors, held = stored.find(ids[order])
    assert held.all() and stored.are_quick
    np.testing.assert_allclose(vectors, expected[order], atol=1e-6)
    np.testing.assert_array_equal(stored.all(ids[order]), vectors)

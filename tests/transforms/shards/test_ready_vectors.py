"""Ranges of ready embeddings are read piece by piece; vectors that cannot be indexed are seen in their bits."""

import os
from pathlib import Path

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tests.transforms.ready import ListKind, Vectors, random_vectors, range_of, save_npy, save_parquet
from transforms.errors import PixdexError
from transforms.ready_range import VectorRange
from transforms.shards import ready_files
from transforms.shards.lengths import LARGEST_SQUARE, too_long
from transforms.shards.ready_vectors import as_indexed, pieces, soundness

KINDS: tuple[ListKind, ...] = ("list", "large_list", "fixed")


def read(ready: VectorRange, dim: int) -> Vectors:
    return np.concatenate(list(pieces(ready, dim)))


@pytest.mark.parametrize("dtype", ["<f2", "<f4"])
@pytest.mark.parametrize(("start", "stop"), [(0, 10_000), (4096, 9000), (9999, 10_000)])
def test_a_range_of_an_npy_file_comes_in_pieces(tmp_path: Path, dtype: str, start: int, stop: int) -> None:
    vectors = random_vectors(10_000, 3, dtype)
    found = list(pieces(range_of(save_npy(tmp_path / "a.npy", vectors), start, stop), 3))
    assert [len(piece) for piece in found[:-1]] == [4096] * (len(found) - 1)
    assert np.array_equal(np.concatenate(found), vectors[start:stop])
    assert found[0].dtype == dtype


@pytest.mark.parametrize("dtype", ["<f2", "<f4"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("group", [None, 1000, 5000])
def test_a_range_of_a_parquet_file_comes_in_the_same_pieces(
    tmp_path: Path, dtype: str, kind: ListKind, group: int | None
) -> None:
    vectors = random_vectors(10_000, 3, dtype)
    file = save_parquet(tmp_path / "a.parquet", vectors, kind, group=group)
    for start, stop in ((0, 10_000), (4096, 9000), (9999, 10_000)):
        found = list(pieces(range_of(file, start, stop), 3))
        assert [len(piece) for piece in found[:-1]] == [4096] * (len(found) - 1)
        assert np.array_equal(np.concatenate(found), vectors[start:stop])
        assert found[0].dtype == dtype


@pytest.mark.parametrize("kind", ["list", "large_list"])
def test_a_vector_that_is_missing_or_of_another_length_comes_as_nan(tmp_path: Path, kind: ListKind) -> None:
    rows = [[1.0, 2.0], None, [3.0, None], [5.0, 6.0], [7.0], []]
    found = read(range_of(save_parquet(tmp_path / "a.parquet", rows, kind), 0, 6), 2)
    assert found[[0, 3]].tolist() == [[1, 2], [5, 6]]
    finite, _ = soundness(found, normalize=False)
    assert finite.tolist() == [True, False, False, True, False, False]


def test_a_missing_number_in_a_list_of_fixed_size_comes_as_nan_and_a_missing_list_is_refused(tmp_path: Path) -> None:
    file = save_parquet(tmp_path / "a.parquet", [[1.0, 2.0], [3.0, None]], "fixed")
    assert soundness(read(range_of(file, 0, 2), 2), normalize=False)[0].tolist() == [True, False]
    file = save_parquet(tmp_path / "b.parquet", [[1.0, 2.0], None], "fixed")
    with pytest.raises(PixdexError, match="write the column as plain lists"):
        read(range_of(file, 0, 2), 2)


def test_objects_of_a_store_are_read_by_range(tmp_path: Path) -> None:
    vectors = random_vectors(40_000, 3)
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/ready/a.npy", save_npy(tmp_path / "a.npy", vectors).read_bytes())
    memory.pipe_file("/ready/a.parquet", save_parquet(tmp_path / "a.parquet", vectors).read_bytes())
    try:
        for name, form, column in (("a.npy", "npy", None), ("a.parquet", "parquet", "embedding")):
            uri = f"memory:///ready/{name}"
            version = ready_files.stat(uri)[1]
            ready = VectorRange(uri, form, 4096, 39_999, version, column)  # type: ignore[arg-type]  # a format by its name
            found = list(pieces(ready, 3))
            assert [len(piece) for piece in found[:-1]] == [4096] * (len(found) - 1)
            assert np.array_equal(np.concatenate(found), vectors[4096:39_999])
    finally:
        memory.rm("/ready", recursive=True)


def test_a_file_that_changed_since_it_was_planned_is_refused(tmp_path: Path) -> None:
    file = save_npy(tmp_path / "a.npy", random_vectors(9, 3))
    ready = range_of(file, 0, 9)
    os.utime(file, (1, 1))
    with pytest.raises(PixdexError, match=r"a\.npy has changed \(stat:.*, planned with stat:.*put it back"):
        read(ready, 3)
    file.unlink()
    with pytest.raises(PixdexError, match=r"a\.npy cannot be read \(No such file.*put it back"):
        read(ready, 3)


@pytest.mark.parametrize("dtype", ["<f2", "<f4"])
def test_vectors_that_are_not_numbers_are_not_sound_and_zeros_are_not_where_a_direction_is_needed(dtype: str) -> None:
    tiny = np.finfo(dtype).smallest_subnormal
    rows = [[1, -2], [np.nan, 1], [1, np.inf], [-np.inf, 0], [0, 0], [-0.0, 0], [0, tiny], [np.finfo(dtype).max, 0]]
    vectors = np.array(rows, dtype)
    finite, sound = soundness(vectors, normalize=True)
    assert finite.tolist() == [True, False, False, False, True, True, True, True]
    assert sound.tolist() == [True, False, False, False, False, False, True, True]
    # As they are, zeros are as good as others, and what is as long as numbers go is not.
    as_they_are = [True, False, False, False, True, True, True, dtype == "<f2"]
    assert soundness(vectors, normalize=False)[1].tolist() == as_they_are


@pytest.mark.parametrize("dim", [1, 3, 512])
def test_a_vector_is_too_long_when_products_of_it_can_overflow_and_it_is_indexed_as_it_is(dim: int) -> None:
    edge = np.sqrt(LARGEST_SQUARE / dim)
    sizes = np.array([0, 1, 0.5 * edge, 0.999 * edge, 1.001 * edge, 1e20, 3e38, np.inf])
    vectors = np.outer(sizes, np.where(np.arange(dim) % 2, -1, 1)).astype(np.float32)
    assert soundness(vectors, normalize=False)[1].tolist() == [True] * 4 + [False] * 4
    assert soundness(vectors, normalize=True)[1].tolist() == [False] + [True] * 6 + [False]
    alone = np.zeros((2, dim), np.float32)
    alone[:, 0] = 0.999 * np.sqrt(LARGEST_SQUARE), 1.001 * np.sqrt(LARGEST_SQUARE)
    assert soundness(alone, normalize=False)[1].tolist() == [True, False]


def test_the_longest_vectors_leave_room_for_sums_of_their_products() -> None:
    assert np.isfinite(np.float32(1e8 * LARGEST_SQUARE))


@given(
    npst.arrays("<f4", st.tuples(st.integers(0, 40), st.integers(1, 4)), elements=st.floats(-(2**60), 2**60, width=32))
)
def test_too_long_is_what_arithmetic_says(vectors: Vectors) -> None:
    squares = (vectors.astype(np.float64) ** 2).sum(axis=1)
    assert too_long(vectors).tolist() == (squares > LARGEST_SQUARE).tolist()
    assert soundness(vectors, normalize=False)[1].tolist() == (squares <= LARGEST_SQUARE).tolist()


FLOATS = st.sampled_from(["<f2", "<f4"]).flatmap(
    lambda dtype: npst.arrays(
        dtype, st.tuples(st.integers(1, 3000).filter(lambda n: n < 5 or n > 1020), st.integers(1, 3)), fill=st.just(1.0)
    )
)


@given(FLOATS)
def test_soundness_is_what_arithmetic_says(vectors: Vectors) -> None:
    finite, sound = soundness(vectors, normalize=True)
    assert np.array_equal(finite, np.isfinite(vectors).all(axis=1))
    assert np.array_equal(sound, np.isfinite(vectors).all(axis=1) & (vectors != 0).any(axis=1))


def test_every_float16_becomes_the_float32_of_the_same_value() -> None:
    values = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    every = values[np.isfinite(values)].reshape(-1, 8)
    found = as_indexed(every, normalize=False)
    assert found.dtype == np.float32
    assert found.tobytes() == every.astype(np.float32).tobytes()


@pytest.mark.parametrize("dtype", ["<f2", "<f4"])
def test_normalised_vectors_have_length_one_whatever_their_size(dtype: str) -> None:
    info = np.finfo(dtype)
    sizes = [1.0, float(info.max) / 2, float(info.smallest_subnormal) * 3, float(info.tiny), 1e-3]
    vectors = np.concatenate([random_vectors(50, 64, "<f4") / 8 * size for size in sizes]).astype(dtype)
    vectors = vectors[soundness(vectors, normalize=True)[1]]
    before = vectors.copy()
    found = as_indexed(vectors, normalize=True)
    exact = vectors.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    assert np.abs(found - exact).max() < 3e-7
    assert np.array_equal(vectors, before)


def test_a_vector_has_the_same_bits_whatever_stands_beside_it() -> None:
    vectors = random_vectors(3000, 48)
    whole = as_indexed(vectors, normalize=True)
    assert np.array_equal(whole[7:2000:3], as_indexed(vectors[7:2000:3], normalize=True))

"""Rows of pairs: those of all pictures, then those of all texts; a bad vector of one of the two rejects both."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.ready import Vectors, random_vectors, range_of, save_npy
from tests.transforms.shards.test_vectors import DIM, ENCODER, normalised, read, register
from transforms.errors import PixdexError
from transforms.ready_range import VectorRange
from transforms.shards import ready_files
from transforms.shards.files import read_rejects
from transforms.shards.ready_vectors import opened_rows, pieces, sound_rows
from transforms.storage.store import Store


def pairs(folder: Path, images: Vectors, texts: Vectors, start: int = 0) -> VectorRange:
    """Pairs of two files, from one on."""
    whole = range_of(save_npy(folder / "img/a.npy", images), start, len(images))
    uri = f"file://{save_npy(folder / 'txt/a.npy', texts)}"
    return replace(whole, text_uri=uri, text_version=ready_files.stat(uri)[1])


def test_pictures_come_first_and_then_texts(tmp_path: Path) -> None:
    images, texts = random_vectors(5000, DIM, seed=1), random_vectors(5000, DIM, seed=2)
    ready = pairs(tmp_path, images, texts, start=300)
    found = list(pieces(ready, DIM))
    assert [len(piece) for piece in found] == [4096, 604, 4096, 604]
    assert np.array_equal(np.concatenate(found), np.concatenate([images[300:], texts[300:]]))


@given(rows=st.lists(st.integers(0, 39), max_size=9), start=st.integers(0, 3))
def test_rows_are_read_one_by_one_in_the_order_asked_for(
    tmp_path_factory: pytest.TempPathFactory, rows: list[int], start: int
) -> None:
    images, texts = random_vectors(20 + start, DIM, seed=1), random_vectors(20 + start, DIM, "<f4", seed=2)
    ready = pairs(tmp_path_factory.mktemp("pairs"), images, texts, start)
    found = opened_rows(ready, DIM)(np.array(rows, np.int64))
    assert np.array_equal(found, np.concatenate([images[start:], texts[start:]])[rows].reshape(-1, DIM))


def test_an_item_is_sound_where_both_its_vectors_are(tmp_path: Path) -> None:
    images, texts = random_vectors(9, DIM), random_vectors(9, DIM)
    images[2], texts[2], texts[7, 1] = 0, np.inf, np.nan
    ready = pairs(tmp_path, images, texts)
    assert np.flatnonzero(~sound_rows(ready, DIM, normalize=True)).tolist() == [2, 7, 11, 16]


def test_a_bad_vector_rejects_the_pair_once_and_says_which(tmp_path: Path) -> None:
    images, texts = random_vectors(5000, DIM, seed=1), random_vectors(5000, DIM, seed=2)
    images[4], texts[4], texts[4500, 2] = 0, np.nan, np.inf
    ready = pairs(tmp_path, images, texts)
    marker = register(tmp_path / "root", ready)
    assert (marker.items, marker.rejected, marker.rows, marker.numbered_rows) == (5000, 2, 9996, 10_000)
    assert (marker.images, marker.texts, marker.keywords) == (4998, 4998, 0)
    assert marker.rejects is not None
    rejects = read_rejects(Store.at(str(tmp_path / "root")), marker.rejects).to_pylist()
    assert [(one["key"], one["uri"], one["modality"]) for one in rejects] == [
        (f"{ready.uri}#4", ready.uri, "image"), (f"{ready.uri}#4500", ready.text_uri, "text"),
    ]  # fmt: skip
    assert [one["message"] for one in rejects] == [
        "the vector is zero: it has no direction", "the vector holds NaN or infinity",
    ]  # fmt: skip
    _, ids, found = read(tmp_path / "root", marker)
    rows = np.setdiff1d(np.arange(10_000), [4, 4500, 5004, 9500])
    assert ids.tolist() == (3 << 16 | rows).tolist()
    assert np.abs(found - normalised(np.concatenate([images, texts])[rows])).max() < 3e-7


def test_wanted_rows_of_pairs_with_rejects_are_those_of_their_ids(tmp_path: Path) -> None:
    images, texts = random_vectors(50, DIM, seed=1), random_vectors(50, DIM, seed=2)
    images[3] = np.nan
    marker = register(tmp_path / "root", pairs(tmp_path, images, texts))
    _, ids, found = read(tmp_path / "root", marker, ENCODER, lambda some: some % 2 == 1)
    rows = np.setdiff1d(np.arange(1, 100, 2), [3, 53])
    assert (ids & 0xFFFF).tolist() == rows.tolist()
    assert np.abs(found - normalised(np.concatenate([images, texts])[rows])).max() < 3e-7


@pytest.mark.parametrize("name", ["img", "txt"])
def test_a_file_that_changed_is_named_whichever_it_is(tmp_path: Path, name: str) -> None:
    ready = pairs(tmp_path, random_vectors(5, DIM), random_vectors(5, DIM))
    rows = opened_rows(ready, DIM)
    os.utime(tmp_path / name / "a.npy", (1, 1))
    with pytest.raises(PixdexError, match=rf"{name}/a\.npy has changed"):
        list(pieces(ready, DIM))
    with pytest.raises(PixdexError, match=rf"{name}/a\.npy has changed"):
        rows(np.arange(10))

"""Routing: rows behind the transforms, in the cell of their nearest parent."""

from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray

from transforms.index.index_key import IndexKey
from transforms.index.lists.reader import ListFile
from transforms.index.lists.writer import write_lists
from transforms.index.training import assemble, routing
from transforms.index.training.clustering import nearest
from transforms.index.training.routing import Router, write_routed
from transforms.index.training.vector_codes import from_codes, to_codes, write_vectors
from transforms.index.vector_transforms import behind_transforms


@pytest.fixture(scope="module")
def vectors() -> NDArray[np.float32]:
    found = np.random.default_rng(0).standard_normal((9000, 16), np.float32) * 0.7 ** np.arange(16, dtype=np.float32)
    unit: NDArray[np.float32] = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    return unit


def routed(router: Router, vectors: NDArray[np.float32], workers: int = 1) -> tuple[bytes, ListFile]:
    ids, out = np.arange(len(vectors)), BytesIO()
    cut = 5000
    parts = [(ids[rows], to_codes(vectors[rows], half=False)) for rows in (slice(cut, None), slice(0, cut))]
    rows, seal = write_routed(out, router, parts, half=True, workers=workers)
    assert rows == len(vectors)
    return out.getvalue(), ListFile(out, "routed", seal)


@pytest.mark.parametrize("key", ["IVF256,Flat", "OPQ4_8,IVF256,Flat", "RR16,IVF256,Flat", "PCAR8,IVF256,Flat"])
def test_rows_are_stored_behind_the_transforms_as_float16_by_cells(key: str, vectors: NDArray[np.float32]) -> None:
    router = assemble.train_parents(IndexKey.parse(key), "ip", vectors, 0)
    expected = behind_transforms(router.index, vectors)
    dim = expected.shape[1]
    _, file = routed(router, vectors)
    cells, codes, ids = file.read(range(16)).unpack()
    assert file.code_size == 2 * dim
    np.testing.assert_allclose(from_codes(codes, dim), expected[ids], atol=1e-3)
    assert (nearest(expected, router.parents, spherical=True)[ids] == cells).mean() > 0.999


@pytest.mark.parametrize("key", ["PCAW16,IVF256,Flat", "PCAWR16,IVF256,Flat"])
def test_whitened_vectors_can_leave_the_range_of_float16_and_stay_float32(
    key: str, vectors: NDArray[np.float32]
) -> None:
    router = assemble.train_parents(IndexKey.parse(key), "l2", vectors, 0)
    _, file = routed(router, vectors)
    _, codes, ids = file.read(range(16)).unpack()
    found = from_codes(codes, 16)
    assert file.code_size == 4 * 16
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, behind_transforms(router.index, vectors)[ids], rtol=1e-3, atol=1e-2)


def test_the_number_of_threads_changes_no_byte(vectors: NDArray[np.float32]) -> None:
    router = assemble.train_parents(IndexKey.parse("OPQ4_8,IVF256,Flat"), "ip", vectors, 0)
    assert routed(router, vectors)[0] == routed(router, vectors, workers=3)[0]


def test_slots_hold_so_many_rows() -> None:
    assert routing.SLOT_ROWS == 4096


@pytest.mark.parametrize("rows", [0, 1, 3000])
def test_vectors_are_written_as_any_lists_are(rows: int) -> None:
    rng = np.random.default_rng(1)
    codes, ids = rng.integers(0, 256, (rows, 24), np.uint8), rng.permutation(rows)
    lists = rng.integers(0, 300, rows)
    one, other = BytesIO(), BytesIO()
    seal = write_vectors(one, list_nos=lists, codes=codes, ids=ids, nlist=300)
    assert seal == write_lists(other, list_nos=lists, codes=codes, ids=ids, nlist=300, fingerprint="")
    assert one.getvalue() == other.getvalue()

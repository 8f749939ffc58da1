"""Given the trained index, any split of the vectors and any order of work give the same entries and merged lists."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tests.examples import costly
from tests.products import round_by_place
from tests.transforms.index.stored_by_faiss import stored_by_faiss
from transforms.index.assignment import TwoLevelAssigner
from transforms.index.encode import Assign, Encoded, centroids, encode_batches, flat_assign
from transforms.index.lists.merge import merge_range
from transforms.index.lists.reader import ListFile
from transforms.index.lists.writer import write_lists
from transforms.shards.vectors import VectorBatch

NLIST, CELLS = 64, 8
SMALL = 24
KEYS = [f"PCA12,IVF{NLIST},PQ6np", f"IVF{NLIST},SQ8", f"IVF{NLIST},Flat", f"PCA18,IVF{NLIST},PQ1x6np"]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Batches are small here: threads would only wait for each other."""
    with threadpool_limits(1):
        yield


@dataclass(frozen=True)
class Trained:
    """A trained index, both ways to assign, and vectors that it was not trained on."""

    index: faiss.Index
    assigns: tuple[Assign, Assign]
    vectors: NDArray[np.float32]


@cache
def trained(key: str, metric: int, dim: int, rows: int) -> Trained:
    rng = np.random.default_rng(1)
    middles = rng.standard_normal((NLIST, dim), np.float32)
    vectors = middles[rng.integers(0, NLIST, 3000 + rows)] + 0.5 * rng.standard_normal((3000 + rows, dim), np.float32)
    faiss.normalize_L2(vectors)
    index = faiss.index_factory(dim, key, metric)
    inner = faiss.downcast_index(faiss.extract_index_ivf(index))
    inner.cp.niter, inner.cp.min_points_per_centroid = 3, 1
    if isinstance(inner, faiss.IndexIVFPQ):
        inner.pq.cp.min_points_per_centroid = 1
    index.train(vectors[:3000])
    lists, bounds = centroids(inner), np.arange(0, NLIST + 1, NLIST // CELLS)
    parents = lists.reshape(CELLS, -1, inner.d).mean(axis=1)
    assigner = TwoLevelAssigner(parents, lists, bounds, metric == faiss.METRIC_INNER_PRODUCT)
    return Trained(index, (flat_assign(index), lambda some: assigner.assign(some, 3)), vectors[3000:])


def encoded(this: Trained, assign: Assign, order: NDArray[np.int64], cuts: list[int], batch_rows: int) -> Encoded:
    """Encodes the vectors in this order, cut into calls of several batches; returns entries with vectors as ids."""
    made = []
    for part in np.split(order, sorted(cuts)):
        starts = range(0, len(part), batch_rows)
        rows = [part[start : start + batch_rows] for start in starts]
        batches = [VectorBatch(some, this.vectors[some]) for some in rows]
        made.append(encode_batches(this.index, iter(batches), assign, batch_rows))
    return Encoded(*(np.concatenate([getattr(one, name) for one in made]) for name in ("ids", "list_nos", "codes")))


def file_of(entries: Encoded, rows: slice) -> ListFile:
    out = io.BytesIO()
    write_lists(
        out,
        list_nos=entries.list_nos[rows],
        codes=entries.codes[rows],
        ids=entries.ids[rows],
        nlist=NLIST,
        fingerprint="ab",
    )
    return ListFile(out, "block.ivf")


def merged(files: list[ListFile]) -> bytes:
    out = io.BytesIO()
    merge_range(files, range(NLIST), out)
    return out.getvalue()


def by_id(entries: Encoded) -> Encoded:
    order = np.argsort(entries.ids)
    np.testing.assert_array_equal(entries.ids[order], np.arange(len(order)))
    return Encoded(entries.ids[order], entries.list_nos[order], entries.codes[order])


def assert_same(one: Encoded, other: Encoded) -> None:
    np.testing.assert_array_equal(one.list_nos, other.list_nos)
    np.testing.assert_array_equal(one.codes, other.codes)


@pytest.mark.parametrize("metric", [faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2], ids=["ip", "l2"])
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("two_level", [False, True], ids=["flat", "two-level"])
@costly
@given(
    seed=st.integers(0, 9999),
    cuts=st.lists(st.integers(0, 400), max_size=4),
    blocks=st.lists(st.integers(0, 400), max_size=4),
    batch_rows=st.sampled_from([32, 64, 96]),
)
def test_any_split_into_shards_batches_and_blocks_gives_the_same_lists(
    key: str, metric: int, *, two_level: bool, seed: int, cuts: list[int], blocks: list[int], batch_rows: int
) -> None:
    this = trained(key, metric, SMALL, 400)
    assign = this.assigns[two_level]
    whole = encoded(this, assign, np.arange(400), [], 64)
    split = by_id(encoded(this, assign, np.random.default_rng(seed).permutation(400), cuts, batch_rows))
    assert_same(split, whole)

    files = [file_of(split, slice(*pair)) for pair in pairwise([0, *sorted(blocks), 400])]
    assert merged(files[::-1]) == merged([file_of(whole, slice(None))])
    assert np.concatenate([file.read(range(NLIST)).unpack()[2] for file in files]).size == 400


REALISTIC = [f"PCA64,IVF{NLIST},PQ16np", f"IVF{NLIST},PQ4x6np", f"PCA96,IVF{NLIST},SQ8", f"PCA96,IVF{NLIST},Flat"]


@pytest.mark.gate
@pytest.mark.parametrize("two_level", [False, True], ids=["flat", "two-level"])
@pytest.mark.parametrize("key", REALISTIC)
def test_rounding_shows_at_realistic_sizes_and_changes_nothing(key: str, *, two_level: bool) -> None:
    this = trained(key, faiss.METRIC_INNER_PRODUCT, 128, 6000)
    assign = this.assigns[two_level]
    whole = encoded(this, assign, np.arange(6000), [], 4096)
    for seed, cuts in ((1, []), (2, [17, 4200]), (3, [1000, 1001, 5999])):
        split = encoded(this, assign, np.random.default_rng(seed).permutation(6000), cuts, 4096)
        if "Flat" in key and round_by_place():  # such codes are the vectors themselves
            np.testing.assert_array_equal(by_id(split).list_nos, whole.list_nos)
            codes = by_id(split).codes.view(np.float32)
            np.testing.assert_allclose(codes, whole.codes.view(np.float32), rtol=0, atol=1e-6)
        else:
            assert_same(by_id(split), whole)


@pytest.mark.parametrize("key", REALISTIC)
def test_entries_are_those_of_faiss_but_for_ties(key: str) -> None:
    this = trained(key, faiss.METRIC_INNER_PRODUCT, 128, 6000)
    ours = encoded(this, this.assigns[0], np.arange(6000), [], 4096)
    lists, codes = stored_by_faiss(this.index, this.vectors, 4096)
    assert (ours.list_nos == lists).mean() > 0.999
    if "Flat" in key:
        np.testing.assert_allclose(ours.codes.view(np.float32), codes.view(np.float32), atol=1e-5)
    else:
        assert (ours.codes == codes).mean() > 0.999

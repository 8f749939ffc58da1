"""A trained index is opened with what assigns to it, from a folder and from an object store alike."""

from pathlib import Path

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.transforms.index import small_training
from transforms.errors import PixdexError
from transforms.index.encode import Encoded, encode_batches
from transforms.index.open_trained import OpenTrained, open_trained
from transforms.index.training import assemble
from transforms.shards.vectors import VectorBatch
from transforms.storage.store import Store

KEYS = ["PCA8,IVF32,PQ4np", "IVF32_HNSW8,SQ8", "Flat"]


@pytest.fixture(scope="module")
def sample() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((1500, 16)).astype(np.float32)


def entries(opened: OpenTrained, vectors: NDArray[np.float32]) -> Encoded:
    return encode_batches(opened.index, [VectorBatch(np.arange(len(vectors)), vectors)], opened.assign)


@pytest.mark.parametrize("many_lists", [False, True])
@pytest.mark.parametrize("key", KEYS)
def test_folders_and_object_stores_open_the_same_index(
    tmp_path: Path, sample: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch, key: str, *, many_lists: bool
) -> None:
    if many_lists:
        monkeypatch.setattr(assemble, "LISTS_ASSIGNED_FLAT", 0)
    made = []
    for location in (str(tmp_path / "root"), f"memory://{tmp_path}"):
        store = Store.at(location)
        made.append(entries(open_trained(store, small_training.train(store, key, "l2", sample).trained), sample))
    np.testing.assert_array_equal(made[0].list_nos, made[1].list_nos)
    np.testing.assert_array_equal(made[0].codes, made[1].codes)


def test_few_lists_are_assigned_flat_though_a_graph_is_there_to_search(
    tmp_path: Path, sample: NDArray[np.float32]
) -> None:
    store = Store.at(str(tmp_path))
    opened = open_trained(store, small_training.train(store, "IVF32_HNSW8,Flat", "l2", sample).trained)
    assert opened.assigner is None and opened.probes == 0
    lists = faiss.extract_index_ivf(opened.index).quantizer.reconstruct_n(0, 32)
    nearest = np.square(sample[:, None] - lists[None]).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(opened.assign(sample), nearest)


def test_many_lists_are_assigned_in_as_many_cells_as_the_audit_says(
    tmp_path: Path, sample: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assemble, "LISTS_ASSIGNED_FLAT", 0)
    store = Store.at(str(tmp_path))
    made = small_training.train(store, "IVF32,Flat", "ip", sample)
    opened = open_trained(store, made.trained)
    audit, assigner = made.assembled.audit, made.assembled.assigner
    assert audit is not None and assigner is not None and opened.assigner is not None
    assert opened.probes == audit.probes and opened.assigner.spherical
    np.testing.assert_array_equal(opened.assign(sample), assigner.assign(sample, audit.probes))


def test_a_missing_index_is_named(tmp_path: Path, sample: NDArray[np.float32]) -> None:
    store = Store.at(str(tmp_path))
    trained = small_training.train(store, "IVF8,Flat", "l2", sample).trained
    store.local_path(trained.index.path).unlink()
    with pytest.raises(PixdexError, match=trained.index.path):
        open_trained(store, trained)


def test_the_centroids_of_a_folder_are_mapped(tmp_path: Path, sample: NDArray[np.float32]) -> None:
    store = Store.at(str(tmp_path))
    trained = small_training.train(store, "IVF32,Flat", "l2", sample).trained
    opened = open_trained(store, trained)
    assert str(store.local_path(trained.index.path)) in Path("/proc/self/maps").read_text()
    assert opened.index.d == 16


def test_sums_of_absolute_differences_have_one_list_and_keep_the_vectors(
    tmp_path: Path, sample: NDArray[np.float32]
) -> None:
    store = Store.at(str(tmp_path))
    made = entries(open_trained(store, small_training.train(store, "Flat", "l1", sample).trained), sample)
    assert not made.list_nos.any()
    np.testing.assert_array_equal(made.codes.view(np.float32), sample)

"""Training twice gives the same bytes, under a name that is made of them."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.examples import costly
from tests.transforms.index import small_training
from transforms.index.index_key import IndexKey
from transforms.index.open_trained import open_trained
from transforms.index.trained import read_training
from transforms.index.training import assemble, clustering, figures
from transforms.markers import TrainedIndex
from transforms.records import Metric
from transforms.storage.store import Store

KEYS = ["Flat", "IVF8,Flat", "IVF8,SQ8", "IVF8,PQ4x4", "OPQ4_8,IVF8,PQ4x4", "PCA8,IVF8,Flat", "IVF8_HNSW8,Flat"]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """OPQ on 600 vectors is hundreds of parallel loops of microseconds: threads would only wait for each other."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(threads)


@pytest.fixture(scope="module")
def sample() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((600, 16)).astype(np.float32)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path / "root"))


def train(store: Store, key: str, metric: Metric, sample: NDArray[np.float32], seed: int = 0) -> TrainedIndex:
    return small_training.train(store, key, metric, sample, seed=seed).trained


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_the_same_sample_and_seed_give_the_same_bytes(
    store: Store, sample: NDArray[np.float32], key: str, metric: Metric
) -> None:
    first = train(store, key, metric, sample)
    content = store.read(first.index.path)

    assert train(store, key, metric, sample) == first
    assert store.read(first.index.path) == content


def test_another_seed_sample_or_metric_gives_another_index(store: Store, sample: NDArray[np.float32]) -> None:
    trained = [
        train(store, "IVF8,Flat", "ip", sample),
        train(store, "IVF8,Flat", "ip", sample, seed=1),
        train(store, "IVF8,Flat", "l2", sample),
        train(store, "IVF8,Flat", "ip", sample[:-1]),
        train(store, "IVF4,Flat", "ip", sample),
    ]

    assert len({one.fingerprint for one in trained}) == 5
    assert len({one.index.checksum for one in trained}) == 5


@pytest.mark.parametrize("key", ["IVF8,Flat", "OPQ4_8,IVF8,PQ4x4"])
def test_files_are_named_by_the_fingerprint_and_the_fingerprint_by_the_files(
    store: Store, sample: NDArray[np.float32], key: str
) -> None:
    trained = train(store, key, "ip", sample)
    sums = [hashlib.sha256(store.read(file.path)).hexdigest() for file in (trained.index, trained.training)]

    assert trained.fingerprint == hashlib.sha256("".join(sums).encode()).hexdigest()
    assert trained.index.path == f"trained/{trained.fingerprint}/index.faiss"
    assert trained.training.path == f"trained/{trained.fingerprint}/training.json"
    assert [trained.index.checksum, trained.training.checksum] == [f"sha256:{value}" for value in sums]
    assert store.names("trained") == [trained.fingerprint]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_the_index_its_lists_and_its_quantizer_have_one_metric(
    store: Store, sample: NDArray[np.float32], key: str, metric: Metric
) -> None:
    index = open_trained(store, train(store, key, metric, sample)).index
    inner = faiss.extract_index_ivf(index)
    wanted = {"ip": faiss.METRIC_INNER_PRODUCT, "l2": faiss.METRIC_L2}[metric]

    assert index.metric_type == inner.metric_type == inner.quantizer.metric_type == wanted
    assert index.is_trained
    assert index.ntotal == 0


def norms_of_centroids(store: Store, metric: Metric, sample: NDArray[np.float32]) -> NDArray[np.float32]:
    index: Any = small_training.train(store, "IVF8,Flat", metric, sample).assembled.index
    quantizer: Any = faiss.downcast_index(index.quantizer)
    return np.asarray(np.linalg.norm(quantizer.reconstruct_n(0, 8), axis=1), np.float32)


def test_centroids_are_spherical_for_inner_product_only(store: Store, sample: NDArray[np.float32]) -> None:
    unit = sample / np.linalg.norm(sample, axis=1, keepdims=True)
    assert np.allclose(norms_of_centroids(store, "ip", unit), 1, atol=1e-5)
    assert not np.allclose(norms_of_centroids(store, "l2", unit), 1, atol=0.05)


@pytest.mark.parametrize("size", [1e-9, 0.25, 1.0, 1e9])
def test_for_inner_product_centroids_are_about_as_long_as_the_vectors(
    store: Store, sample: NDArray[np.float32], size: float
) -> None:
    norms = norms_of_centroids(store, "ip", sample * np.float32(size))
    assert np.ptp(norms) < 1e-5 * norms[0]
    assert 2.8 * size < norms[0] < 5.7 * size


def test_product_quantizers_are_trained_without_polysemous_codes(store: Store, sample: NDArray[np.float32]) -> None:
    index: Any = faiss.downcast_index(small_training.train(store, "IVF8,PQ4x4", "l2", sample).assembled.index)

    assert not index.do_polysemous_training


def test_what_was_trained_is_described(store: Store, sample: NDArray[np.float32]) -> None:
    trained = train(store, "IVF8,PQ4x4", "l2", sample, seed=3)
    described = read_training(store, trained)

    assert (described.key, described.metric, described.dim) == ("IVF8,PQ4x4", "l2", 16)
    assert (described.nlist, described.code_size, described.seed, described.sample_rows) == (8, 2, 3, 584)
    assert (described.nlist, described.code_size, described.nprobe) == (
        trained.nlist, trained.code_size, trained.nprobe,
    )  # fmt: skip
    assert 1 <= described.imbalance < 2
    assert described.held_out_rows == 16
    assert described.normalized
    assert 0 < described.held_out_residual < 1
    assert described.assignment is None
    assert described.faiss == faiss.__version__


def test_the_held_out_residual_falls_with_longer_codes_and_is_nothing_without_any_loss(
    store: Store, sample: NDArray[np.float32]
) -> None:
    residuals = [
        small_training.train(store, key, "l2", sample).assembled.held_out_residual
        for key in ("IVF8,PQ4x4", "IVF8,PQ16x4", "IVF8,Flat")
    ]

    assert residuals[0] > residuals[1] > residuals[2] == 0


def test_nothing_held_out_measures_the_rows_that_were_trained_on(store: Store, sample: NDArray[np.float32]) -> None:
    assert small_training.train(store, "IVF8,PQ4x4", "l2", sample, held_out=0).assembled.held_out_residual > 0


@costly
@given(st.lists(st.integers(0, 584), max_size=4), st.sampled_from([1, 100, 10**6]))
def test_any_cut_into_blocks_and_groups_of_cells_trains_the_same_index(cuts: list[int], group_rows: int) -> None:
    sample = np.random.default_rng(0).standard_normal((600, 16)).astype(np.float32)
    store = Store.at("memory://cuts")
    whole, cut = (
        small_training.train(store, "OPQ4_8,IVF8,PQ4x4", "ip", sample, cuts=where, group_rows=rows).trained
        for where, rows in (((), 10**6), (cuts, group_rows))
    )

    assert cut == whole


def test_many_cells_in_any_groups_train_the_same_index(store: Store) -> None:
    sample = np.random.default_rng(0).standard_normal((12_000, 8)).astype(np.float32)
    whole, cut = (
        small_training.train(store, "IVF256,Flat", "ip", sample, cuts=where).lists.centroids
        for where in ((), (1, 5000, 5001))
    )

    assert cut.tobytes() == whole.tobytes()


@pytest.mark.parametrize("key", KEYS)
def test_several_threads_train_what_one_does(
    store: Store, sample: NDArray[np.float32], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No part of training waits for a number of threads that another part of it holds."""
    monkeypatch.setattr(assemble, "LISTS_ASSIGNED_FLAT", 7)
    parsed = IndexKey.parse(key)
    found = []
    for workers in (1, 3):
        router = assemble.train_parents(parsed, "l2", sample, 0, workers)
        lists = small_training.train_lists(store, router, sample, parsed.nlist)
        found.append(assemble.assemble(router, lists.centroids, sample, sample[:9], 0, workers).held_out_residual)
    assert found[0] == pytest.approx(found[1], abs=0.01)


def test_sums_of_absolute_differences_are_for_the_flat_index(store: Store, sample: NDArray[np.float32]) -> None:
    assert open_trained(store, train(store, "Flat", "l1", sample)).index.metric_type == faiss.METRIC_L1


def test_above_8192_lists_an_assignment_file_belongs_to_the_fingerprint(
    store: Store, sample: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assemble, "LISTS_ASSIGNED_FLAT", 7)
    monkeypatch.setattr(figures, "FLAT_BELOW", 4)
    trained = train(store, "IVF8,Flat", "ip", sample)
    assert trained.assignment is not None
    files = (trained.index, trained.training, trained.assignment)
    sums = [hashlib.sha256(store.read(file.path)).hexdigest() for file in files]
    tensors = safetensors.numpy.load(store.read(trained.assignment.path))
    index = open_trained(store, trained).index
    audited = read_training(store, trained).assignment

    assert trained.assignment.path == f"trained/{trained.fingerprint}/assignment.safetensors"
    assert trained.fingerprint == hashlib.sha256("".join(sums).encode()).hexdigest()
    assert tensors["bounds"].tolist()[-1] == 8
    centroids = index.quantizer.reconstruct_n(0, 8)
    cell = np.repeat(np.arange(3), np.diff(tensors["bounds"]))
    assert np.array_equal(clustering.nearest(centroids, tensors["parents"], spherical=True), cell)
    assert audited is not None
    assert audited.agreement >= 0.99


@pytest.mark.parametrize(("nlist", "nprobe"), [(1, 1), (2, 1), (16, 4), (4096, 64)])
def test_a_search_probes_the_square_root_of_the_lists(nlist: int, nprobe: int) -> None:
    assert assemble.default_nprobe(nlist) == nprobe


@pytest.mark.parametrize("seed", [-3, 2**31 - 1, 2**40])
def test_any_seed_trains(store: Store, sample: NDArray[np.float32], seed: int) -> None:
    assert small_training.train(store, "IVF8,PQ4x4", "ip", sample, seed=seed).assembled.index.is_trained

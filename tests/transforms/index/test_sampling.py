"""The sample is the same however work is bundled, uniform, and never the first rows."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms import shards
from transforms.index import sampling
from transforms.index.choose import IndexKey
from transforms.index.sampling import in_sample, sample_fraction
from transforms.records import FileReference, row_ids
from transforms.store import Store


def ids_of(shards: int, rows: int = 4096) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.concatenate([row_ids(shard, rows) for shard in range(shards)])


@given(st.lists(st.integers(0, 2**62), max_size=60), st.integers(0, 60), st.integers(0, 9), st.floats(0, 1))
def test_any_split_of_the_ids_gives_the_same_sample(ids: list[int], cut: int, seed: int, fraction: float) -> None:
    whole = np.array(ids, np.int64)
    parts = [in_sample(whole[:cut], seed, fraction), in_sample(whole[cut:], seed, fraction)]

    assert np.array_equal(in_sample(whole, seed, fraction), np.concatenate(parts))
    assert np.array_equal(in_sample(whole[::-1], seed, fraction), np.concatenate(parts)[::-1])


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.9])
def test_the_sample_has_its_share_of_every_shard_and_of_every_place(fraction: float) -> None:
    chosen = in_sample(ids_of(64), 0, fraction).reshape(64, 4096)
    deviation = (fraction * (1 - fraction)) ** 0.5

    assert abs(chosen.mean() - fraction) < 5 * deviation / chosen.size**0.5
    assert (abs(chosen.mean(axis=1) - fraction) < 5 * deviation / 4096**0.5).all()
    places = chosen.reshape(64, 64, 64).mean(axis=(0, 2))
    assert (abs(places - fraction) < 5 * deviation / 4096**0.5).all()


@pytest.mark.parametrize(("one", "other"), [(0, 1), (1, 2), (0, 10**6)])
def test_another_seed_draws_another_and_independent_sample(one: int, other: int) -> None:
    both = in_sample(ids_of(16), one, 0.3) & in_sample(ids_of(16), other, 0.3)

    assert abs(both.mean() - 0.09) < 0.01


def test_a_larger_sample_holds_the_smaller_one() -> None:
    assert not (in_sample(ids_of(4), 0, 0.1) & ~in_sample(ids_of(4), 0, 0.4)).any()


@pytest.mark.parametrize("seed", [0, 2**63, 2**64, -1, -5])
def test_any_seed_works(seed: int) -> None:
    assert 0 < in_sample(ids_of(1), seed, 0.5).mean() < 1


def test_nothing_and_everything_can_be_asked_for() -> None:
    assert not in_sample(ids_of(1), 0, 0.0).any()
    assert in_sample(ids_of(1), 0, 1.0).all()
    assert in_sample(ids_of(1), 0, float(np.nextafter(1, 0))).all()


def test_training_gets_50_rows_a_list_and_enough_for_codebooks() -> None:
    assert sample_fraction(IndexKey.parse("IVF4096,Flat"), 10**7) == 4096 * 50 / 10**7
    assert sample_fraction(IndexKey.parse("Flat"), 10**6) == 65_536 / 10**6
    assert sample_fraction(IndexKey.parse("Flat"), 100) == 1.0
    assert sample_fraction(IndexKey.parse("Flat"), 0) == 1.0


def write_shard(store: Store, shard: int, rows: int) -> tuple[int, FileReference]:
    texts = [""] * rows
    metadata = pa.table({name: pa.array(texts, pa.string()) for name in shards.CORE_COLUMNS})
    return shard, shards.write_embeddings(store, shard, metadata, vectors_of(shard, rows))


def vectors_of(shard: int, rows: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.random.default_rng(shard).standard_normal((rows, 5)).astype(np.float32)


def test_a_stored_sample_reads_back_in_order_of_id(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path / "root"))
    written = [write_shard(store, shard, 50 + shard) for shard in range(4)]
    files: list[FileReference] = []
    expected = []
    for block in (written[:3], [], written[3:]):
        ids, vectors = sampling.sample_block(store, block, 5, 0, 0.5)
        assert (np.diff(ids) > 0).all()
        expected.append(vectors)
        with store.scratch() as scratch:
            checksum = sampling.write_sample(scratch / "s.ivf", ids, vectors)
            files.append(store.upload(scratch / "s.ivf", "sample", f"block-{len(files)}", checksum))

    found = sampling.read_sample(store, files)

    assert found.dtype == np.float32
    assert np.array_equal(found, np.concatenate(expected))
    assert 0 < len(found) < 206
    everything = np.concatenate([vectors_of(shard, 50 + shard) for shard in range(4)])
    ids = np.concatenate([row_ids(shard, 50 + shard) for shard in range(4)])
    assert np.array_equal(found, everything[in_sample(ids, 0, 0.5)])

"""The sample is the same however work is bundled, uniform, and never the first rows."""

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.ready import random_vectors, range_of, save_npy
from transforms.errors import PixdexError
from transforms.index.lists.reader import ListFile
from transforms.index.training import sampling
from transforms.index.training.figures import Shares
from transforms.index.training.sampling import (
    HELD_OUT_PART,
    PILOT_PART,
    REST_PART,
    in_sample,
    part_of,
    read_part,
    read_parts,
)
from transforms.index.training.vector_codes import from_codes, to_codes, write_vectors
from transforms.markers import ShardMarker
from transforms.records import EncoderSettings, FileReference, row_ids
from transforms.shards import files as shards
from transforms.shards.ready_vectors import as_indexed
from transforms.storage.store import Store

ENCODER = EncoderSettings("tests:None", "f", 5, ("text",), normalize=False)


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


@given(st.lists(st.integers(0, 2**62), max_size=60, unique=True), st.integers(0, 9), st.floats(0, 1), st.floats(0, 1))
def test_the_parts_are_cut_by_lower_thresholds_of_the_same_hash(
    ids: list[int], seed: int, one: float, other: float
) -> None:
    shares = Shares(min(one, other) / 2, min(one, other), max(one, other))
    whole = np.array(ids, np.int64)
    sampled = whole[in_sample(whole, seed, shares.sampled)]
    part = part_of(sampled, seed, shares)

    assert np.array_equal(part <= REST_PART, in_sample(sampled, seed, shares.trained))
    assert np.array_equal(part == PILOT_PART, in_sample(sampled, seed, shares.pilot))
    assert set(part.tolist()) <= {PILOT_PART, REST_PART, HELD_OUT_PART}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path / "root"))


def write_shard(store: Store, shard: int, rows: int) -> ShardMarker:
    texts = [""] * rows
    metadata = pa.table({name: pa.array(texts, pa.string()) for name in shards.CORE_COLUMNS})
    embeddings = shards.write_embeddings(store, shard, metadata, vectors_of(shard, rows))
    return ShardMarker(shard, 0, "d", rows, 0, rows, 0, rows, 0, embeddings, None, 0.0)


def vectors_of(shard: int, rows: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.random.default_rng(shard).standard_normal((rows, 5)).astype(np.float32)


def write_blocks(store: Store, blocks: Sequence[Sequence[ShardMarker]], shares: Shares) -> list[FileReference]:
    files = []
    for number, block in enumerate(blocks):
        with store.scratch() as scratch:
            with (scratch / "s.ivf").open("wb") as out:
                _, seal = sampling.write_sample(out, store, block, ENCODER, seed=0, shares=shares)
            files.append(store.upload(scratch / "s.ivf", "sample", f"block-{number}", f"xxh3:{seal.checksum}"))
    return files


def test_a_stored_sample_reads_back_part_by_part_in_order_of_id(store: Store) -> None:
    written = [write_shard(store, shard, 50 + shard) for shard in range(4)]
    shares = Shares(0.3, 0.6, 0.8)
    files = write_blocks(store, (written[:3], [], written[3:]), shares)
    everything = np.concatenate([vectors_of(shard, 50 + shard) for shard in range(4)])
    ids = np.concatenate([row_ids(shard, 50 + shard) for shard in range(4)])

    for parts, wanted in (
        (range(PILOT_PART, PILOT_PART + 1), in_sample(ids, 0, 0.3)),
        (range(PILOT_PART, REST_PART + 1), in_sample(ids, 0, 0.6)),
        (range(HELD_OUT_PART, HELD_OUT_PART + 1), in_sample(ids, 0, 0.8) & ~in_sample(ids, 0, 0.6)),
    ):
        for in_turn in (files, files[::-1]):
            found_ids, found = read_parts(store, in_turn, parts, 5)
            assert found.dtype == np.float32
            assert np.array_equal(found_ids, ids[wanted])
            assert np.array_equal(found, everything[wanted])


def test_other_blocks_hold_the_same_sample(store: Store) -> None:
    written = [write_shard(store, shard, 50 + shard) for shard in range(4)]
    everything = range(PILOT_PART, HELD_OUT_PART + 1)
    one, other = (
        read_parts(store, write_blocks(store, blocks, Shares(0.3, 0.6, 0.8)), everything, 5)
        for blocks in ((written,), (written[:1], written[1:]))
    )

    assert np.array_equal(one[0], other[0])
    assert np.array_equal(one[1], other[1])


def test_the_number_of_threads_changes_no_byte_and_rejected_rows_leave_no_gap(tmp_path: Path) -> None:
    vectors = random_vectors(9000, 5, "<f2")
    vectors[[5, 4200]] = np.nan
    vectors[7000] = 0
    file = save_npy(tmp_path / "a.npy", vectors)
    store, seals = Store.at(str(tmp_path / "root")), set()
    for threads in (1, 3):
        encoder = EncoderSettings("none", "f", 5, ("image",), threads=threads)
        markers = [
            ShardMarker(shard, 0, "d", 3000, 0, 3000, 3000, 0, 0, None, None, 0.0, range_of(file, start, start + 3000))
            for shard, start in ((4, 0), (5, 3000), (6, 6000))
        ]
        markers = [replace(marker, rejected=3 - marker.shard % 3) for marker in markers]
        with (tmp_path / f"{threads}.ivf").open("wb") as out:
            rows, seal = sampling.write_sample(out, store, markers, encoder, seed=0, shares=Shares(1.0, 1.0, 1.0))
        assert rows == 8997
        seals.add(seal)
    assert len(seals) == 1
    with (tmp_path / "3.ivf").open("rb") as stream:
        _, codes, ids = ListFile(stream, "3.ivf").read(range(1)).unpack()
    sound = np.delete(np.arange(9000), [5, 4200, 7000])
    np.testing.assert_array_equal(ids, ((4 + sound // 3000) << 16) + sound % 3000)
    np.testing.assert_allclose(from_codes(codes, 5), as_indexed(vectors[sound], normalize=True), atol=1e-3)


def test_another_file_than_the_one_referred_to_is_refused(store: Store) -> None:
    one, other = (write_blocks(store, [[write_shard(store, n, 50)]], Shares(1.0, 1.0, 1.0))[0] for n in (0, 1))
    store.local_path(one.path).write_bytes(store.read(other.path))
    with pytest.raises(PixdexError, match=f"{one.path} is damaged or truncated: it is not the file"):
        read_parts(store, [one], range(1), 5)
    with pytest.raises(PixdexError, match=f"{one.path} is damaged or truncated: it is not the file"):
        read_part(store, one, 0)


def test_normalised_vectors_are_stored_as_float16(store: Store) -> None:
    half = to_codes(vectors_of(0, 9), half=True)
    assert half.shape == (9, 10)
    assert np.array_equal(from_codes(half, 5), vectors_of(0, 9).astype(np.float16).astype(np.float32))
    assert np.array_equal(from_codes(to_codes(vectors_of(0, 9), half=False), 5), vectors_of(0, 9))
    assert to_codes(np.empty((0, 5), np.float32), half=True).shape == (0, 10)
    assert from_codes(np.empty((0, 10), np.uint8), 5).shape == (0, 5)


@pytest.mark.parametrize("half", [True, False])
def test_a_part_of_one_file_is_read_into_its_vectors_and_no_other_array_of_them(store: Store, *, half: bool) -> None:
    vectors = np.ones((100_000, 64), np.float32)
    codes, ids = to_codes(vectors, half=half), np.arange(len(vectors))
    with store.scratch() as scratch:
        with (scratch / "s.ivf").open("wb") as out:
            seal = write_vectors(out, list_nos=np.zeros_like(ids), codes=codes, ids=ids, nlist=3)
        file = store.upload(scratch / "s.ivf", "sample", "block-0", f"xxh3:{seal.checksum}")
    tracemalloc.start()
    found = read_parts(store, [file], range(1), 64)[1]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (found == vectors).all()
    assert peak < vectors.nbytes + codes.nbytes + vectors.nbytes // 3

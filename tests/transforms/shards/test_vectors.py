"""What sampling and adding read of a shard, own or ready: sound rows as float32 with ids, in fixed runs of rows."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from tests.transforms.ready import Vectors, random_vectors, range_of, save_npy, save_parquet
from tests.transforms.small_runs import begin
from transforms.markers import ShardMarker
from transforms.ready_range import VectorRange
from transforms.records import EncoderSettings, FileReference, Partition, Plan, Source
from transforms.shards import files as shards
from transforms.shards.vectors import VectorBatch, read_batches
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.tasks.embed import register as registering

DIM = 6
ENCODER = EncoderSettings("none", "0" * 64, DIM, ())


def register(root: Path, ready: VectorRange, shard: int = 3, encoder: EncoderSettings = ENCODER) -> ShardMarker:
    run = begin(root, Source("vectors", ready.uri), encoder=encoder)
    partitions = FileReference("none", 0, f"sha256:{0:064}")
    run.store.commit(layout.plan(run.generation), Plan(run.generation, "r", partitions, shard, 1, 1, 9, 9, "IVF1,Flat"))
    rows = ready.stop - ready.start
    return registering.register(run, Partition(shard, 0, (), rows, rows, ready))


def read(
    root: Path, marker: ShardMarker, encoder: EncoderSettings = ENCODER, choose: object = None
) -> tuple[list[VectorBatch], NDArray[np.int64], NDArray[np.float32]]:
    found = list(read_batches(Store.at(str(root)), marker, encoder, choose))  # type: ignore[arg-type]  # any of its kinds
    ids = np.concatenate([np.empty(0, np.int64), *(batch.ids for batch in found)])
    vectors = np.concatenate([np.empty((0, DIM), np.float32), *(batch.vectors for batch in found)])
    return found, ids, vectors


def normalised(vectors: Vectors) -> NDArray[np.float32]:
    exact = vectors.astype(np.float64)
    return np.asarray(exact / np.linalg.norm(exact, axis=1, keepdims=True), np.float32)


@pytest.mark.parametrize("form", ["npy", "parquet"])
def test_rejected_rows_are_left_out_and_the_ids_of_the_others_stay(tmp_path: Path, form: str) -> None:
    vectors = random_vectors(75_000, DIM)
    bad = [65_536, 65_540, 70_000, 74_999]
    vectors[bad[0], 2], vectors[bad[1], 0], vectors[bad[2]], vectors[bad[3]] = np.nan, np.inf, 0, -0.0
    save = save_npy if form == "npy" else save_parquet
    marker = register(tmp_path / "root", range_of(save(tmp_path / f"a.{form}", vectors), 65_536, 75_000))
    assert (marker.items, marker.rejected, marker.rows, marker.images) == (9464, 4, 9460, 9460)
    _, ids, found = read(tmp_path / "root", marker)
    rows = np.setdiff1d(np.arange(65_536, 75_000), bad)
    assert ids.tolist() == (3 << 16 | rows - 65_536).tolist()
    assert np.abs(found - normalised(vectors[rows])).max() < 3e-7


def test_rejects_say_which_row_and_why(tmp_path: Path) -> None:
    vectors = random_vectors(9000, DIM)
    vectors[2], vectors[8500, 1] = 0, np.nan
    file = save_npy(tmp_path / "a.npy", vectors)
    marker = register(tmp_path / "root", range_of(file, 1, 9000))
    assert marker.rejects is not None
    found = shards.read_rejects(Store.at(str(tmp_path / "root")), marker.rejects).to_pylist()
    assert [(row["key"], row["stage"], row["type"]) for row in found] == [
        (f"file://{file}#{number}", "read", "BadVector") for number in (2, 8500)
    ]
    assert ["zero" in row["message"] for row in found] == [True, False]
    assert found[0]["uri"] == f"file://{file}" and found[0]["modality"] == "image"


def test_zeros_are_rows_like_others_where_nothing_is_normalised(tmp_path: Path) -> None:
    vectors = random_vectors(9, DIM, "<f4")
    vectors[2] = 0
    plain = replace(ENCODER, normalize=False)
    marker = register(tmp_path / "root", range_of(save_npy(tmp_path / "a.npy", vectors), 0, 9), encoder=plain)
    _, ids, found = read(tmp_path / "root", marker, plain)
    assert len(ids) == marker.rows == 9
    assert np.array_equal(found, vectors)


def test_npy_and_parquet_of_both_widths_give_the_same_rows(tmp_path: Path) -> None:
    vectors = random_vectors(5000, DIM)
    vectors[17] = np.nan
    files = [
        save_npy(tmp_path / "a.npy", vectors),
        save_npy(tmp_path / "b.npy", vectors.astype("<f4")),
        save_parquet(tmp_path / "c.parquet", vectors, "fixed", group=700),
        save_parquet(tmp_path / "d.parquet", vectors.astype("<f4"), "large_list"),
    ]
    found = [read(tmp_path / file.stem, register(tmp_path / file.stem, range_of(file, 0, 5000)))[1:] for file in files]
    for ids, rows in found[1:]:
        assert np.array_equal(ids, found[0][0])
        assert rows.tobytes() == found[0][1].tobytes()


@pytest.mark.parametrize("form", ["npy", "parquet"])
def test_batches_are_runs_of_4096_stored_rows_whatever_is_rejected_or_chosen(tmp_path: Path, form: str) -> None:
    vectors = random_vectors(10_000, DIM)
    vectors[5] = 0
    save = save_npy if form == "npy" else save_parquet
    marker = register(tmp_path / "root", range_of(save(tmp_path / f"a.{form}", vectors), 0, 10_000))
    batches, _, every = read(tmp_path / "root", marker)
    assert [len(batch.ids) for batch in batches] == [4095, 4096, 1808]

    def odd(ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.asarray(ids & 1 == 1)

    chosen, ids, some = read(tmp_path / "root", marker, choose=odd)
    assert [len(batch.ids) for batch in chosen] == [2047, 2048, 904]
    assert np.array_equal(some, every[np.isin(np.delete(np.arange(10_000), 5), ids & 0xFFFF)])


def test_a_batch_without_a_wanted_row_is_none(tmp_path: Path) -> None:
    marker = register(tmp_path / "root", range_of(save_npy(tmp_path / "a.npy", random_vectors(9000, DIM)), 0, 9000))
    batches, ids, _ = read(tmp_path / "root", marker, choose=lambda ids: ids & 0xFFFF == 8999)
    assert len(batches) == 1 and (ids & 0xFFFF).tolist() == [8999]


def test_a_shard_without_rows_yields_nothing(tmp_path: Path) -> None:
    ready = range_of(save_npy(tmp_path / "a.npy", np.zeros((9, DIM), np.float16)), 0, 9)
    marker = register(tmp_path / "root", ready)
    assert marker.rows == 0
    (tmp_path / "a.npy").unlink()
    assert read(tmp_path / "root", marker)[0] == []


def test_an_own_shard_is_read_the_same_way(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path / "root"))
    vectors = normalised(random_vectors(5000, DIM))
    metadata = pa.table({name: ["x"] * 5000 for name in shards.CORE_COLUMNS})
    reference = shards.write_embeddings(store, 3, metadata, vectors)
    marker = ShardMarker(3, 0, "d", 5000, 0, 5000, 5000, 0, 0, reference, None, 0.0)
    batches, ids, found = read(tmp_path / "root", marker)
    assert [len(batch.ids) for batch in batches] == [4096, 904]
    assert ids.tolist() == (3 << 16 | np.arange(5000)).tolist()
    assert np.array_equal(found, vectors)


def test_stopping_early_leaves_no_thread(tmp_path: Path) -> None:
    marker = register(tmp_path / "root", range_of(save_npy(tmp_path / "a.npy", random_vectors(60_000, DIM)), 0, 60_000))
    before = threading.active_count()
    batches = read_batches(Store.at(str(tmp_path / "root")), marker, ENCODER)
    next(iter(batches))
    del batches
    assert threading.active_count() == before

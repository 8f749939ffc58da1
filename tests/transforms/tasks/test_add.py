"""Adding one block of ready embeddings: its entries, its threads, and what is refused."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.transforms.index import small_training
from tests.transforms.ready import Vectors, random_vectors, range_of, save_npy
from transforms.digests import digest
from transforms.errors import PixdexError, UsageError
from transforms.generations.tombstones import Tombstones
from transforms.index.encode import Encoded, encode_batches
from transforms.index.lists.reader import ListFile
from transforms.index.open_trained import OpenTrained, open_trained
from transforms.markers import ShardMarker, TrainMarker
from transforms.records import (
    Block,
    EncoderSettings,
    FileReference,
    IndexSettings,
    Partition,
    Plan,
    Refine,
    Request,
    Source,
    row_ids,
)
from transforms.runs import beginning
from transforms.runs.inventory import BlockShards
from transforms.runs.run import Run
from transforms.shards.files import CORE_COLUMNS, write_embeddings
from transforms.shards.ready_vectors import as_indexed
from transforms.shards.stored_vectors import opened_vectors
from transforms.shards.vectors import VectorBatch
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.tasks import add
from transforms.tasks.add import add_block, write_block
from transforms.tasks.embed import register


def ready_run(
    folder: Path, threads: int = 1, refine: Refine = "none"
) -> tuple[Run, list[ShardMarker], OpenTrained, Vectors]:
    """A run of two shards of ready embeddings, some rows of which cannot be indexed, and an index for them."""
    vectors = random_vectors(9000, 16, "<f2")
    vectors[[5, 4200]] = np.nan
    vectors[7000] = 0
    file = save_npy(folder / "a.npy", vectors)
    encoder = EncoderSettings("none", "0" * 64, 16, ("image",), threads=threads)
    store = Store.at(str(folder / "root"))
    run = beginning.begin(store, Request((Source("vectors", f"file://{file}"),), encoder, IndexSettings(refine=refine)))
    small = small_training.train(store, "PCA12,IVF16,SQ8", "ip", as_indexed(vectors[8000:], normalize=True))
    store.commit(layout.marker(run.generation, "train", 0), TrainMarker("d", small.trained))
    plan = Plan(
        run.generation, "r", FileReference("none", 0, f"sha256:{0:064}"), 4, 2, 1, 9000, 9000, "PCA12,IVF16,SQ8"
    )
    store.commit(layout.plan(run.generation), plan)
    markers = [
        register.register(run, Partition(shard, 0, (), stop - start, stop - start, range_of(file, start, stop)))
        for shard, start, stop in ((4, 0, 5000), (5, 5000, 9000))
    ]
    return run, markers, open_trained(store, small.trained), vectors


def test_ready_embeddings_are_added_but_for_those_that_are_not_sound(tmp_path: Path) -> None:
    run, markers, opened, vectors = ready_run(tmp_path)
    marker = write_block(run, Block(0, 4, 6), BlockShards(markers, Tombstones()), opened, "digest")
    with run.store.open(marker.lists.path) as stream:
        file = ListFile(stream, marker.lists.path)
        list_nos, codes, ids = file.read(file.lists).unpack()

    sound = np.delete(np.arange(9000), [5, 4200, 7000])
    expected_ids = np.where(sound < 5000, (4 << 16) + sound, (5 << 16) + sound - 5000)
    batch = VectorBatch(expected_ids, as_indexed(vectors[sound], normalize=True))
    expected = encode_batches(opened.index, [batch], opened.assign, len(sound))
    order = np.argsort(ids)
    assert marker.rows == len(sound) == 8997
    np.testing.assert_array_equal(ids[order], expected_ids)
    np.testing.assert_array_equal(list_nos[order], expected.list_nos)
    np.testing.assert_array_equal(codes[order], expected.codes)


def test_the_number_of_threads_changes_no_byte_of_a_block(tmp_path: Path) -> None:
    checksums = set()
    for threads in (1, 3):
        (folder := tmp_path / str(threads)).mkdir()
        run, markers, opened, _ = ready_run(folder, threads)
        marker = write_block(run, Block(0, 4, 6), BlockShards(markers, Tombstones()), opened, "digest")
        checksums.add(marker.lists.checksum)
    assert len(checksums) == 1


def test_another_device_changes_no_byte_of_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, markers, opened, _ = ready_run(tmp_path)
    block, shards = Block(0, 4, 6), BlockShards(markers, Tombstones())
    expected = write_block(run, block, shards, opened, "digest")
    assert opened.products is add.opened_to_add(run).products is None
    monkeypatch.setenv(add.ADD_DEVICE, "cpu")
    by_torch = add.opened_to_add(run)
    assert by_torch.products is not None
    assert write_block(run, block, shards, by_torch, "digest").lists == expected.lists
    monkeypatch.setenv(add.ADD_DEVICE, "tpu")
    with pytest.raises(UsageError, match="device 'tpu' is no device"):
        add.opened_to_add(run)


@pytest.mark.parametrize("off", [-1, 1])
def test_shards_of_another_number_of_rows_than_counted_are_refused(tmp_path: Path, off: int) -> None:
    run, markers, opened, _ = ready_run(tmp_path)
    wrong = [markers[0], replace(markers[1], rows=markers[1].rows + off)]
    with pytest.raises(PixdexError, match="block 7 has not the"):
        write_block(run, Block(7, 4, 6), BlockShards(wrong, Tombstones()), opened, "digest")


@pytest.mark.parametrize("off", [-1, 0, 1])
@pytest.mark.parametrize("refine", ["f16", "sq8"])
def test_stored_vectors_are_those_of_the_rows_that_are_counted(tmp_path: Path, refine: Refine, off: int) -> None:
    run, markers, opened, vectors = ready_run(tmp_path, refine=refine)
    shard = as_indexed(vectors[8000:], normalize=True)
    columns = {name: pa.nulls(len(shard), pa.string()) for name in CORE_COLUMNS}
    file = write_embeddings(run.store, 6, pa.table(columns), shard)
    own = replace(markers[0], shard=6, rows=len(shard) + off, rejected=0, ready=None, embeddings=file)
    members = BlockShards([markers[1], own], Tombstones())
    if off:
        with pytest.raises(PixdexError, match="block 0 has not the"):
            write_block(run, Block(0, 5, 7), members, opened, "digest")
        return
    stored = write_block(run, Block(0, 5, 7), members, opened, "digest").vectors
    assert stored is not None and stored.path.endswith(f".{refine}")
    found, held = opened_vectors(run.store, stored).read(row_ids(6, len(shard)))
    assert held.all() and np.abs(found - shard).max() < 1e-2
    assert not opened_vectors(run.store, stored).read(row_ids(5, 9))[1].any(), "a .npy is read where it lies"


def test_a_block_whose_bytes_were_rounded_in_another_way_is_not_taken_for_it(tmp_path: Path) -> None:
    run, markers, opened, _ = ready_run(tmp_path, refine="sq8")
    for marker in markers:
        run.store.commit(layout.marker(run.generation, "embed", marker.shard), marker)
    members, block = BlockShards(markers, Tombstones()), Block(0, 4, 6)
    before = digest(run.trained().trained.fingerprint, [marker.ready for marker in markers], members.rows, "sq8")
    run.commit("add", 0, write_block(run, block, members, opened, before))
    with pytest.raises(PixdexError, match="--abandon-plan"):
        add_block(run, block, lambda: opened)


def test_a_batch_that_fails_is_raised_and_leaves_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, markers, opened, _ = ready_run(tmp_path)
    before = set(threading.enumerate())
    encoding: set[threading.Thread] = set()

    def fail(_: object, batches: list[VectorBatch], *__: object, **___: object) -> Encoded:
        encoding.add(threading.current_thread())
        raise ValueError(f"the batch with id {batches[0].ids[0]} fails")

    monkeypatch.setattr(add, "encode_batches", fail)
    monkeypatch.setattr(add, "batches_a_thread", lambda *_: 1)  # batches are left to read when the first fails
    with pytest.raises(ValueError, match=f"the batch with id {4 << 16} fails") as caught:
        write_block(run, Block(0, 4, 6), BlockShards(markers, Tombstones()), opened, "digest")
    assert caught.tb is not None  # whoever keeps the error keeps no thread
    assert encoding and encoding.isdisjoint(before)
    assert set(threading.enumerate()) <= before

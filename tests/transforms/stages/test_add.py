"""Adding: every block becomes one shard index of lists, codes and ids."""

from pathlib import Path

import numpy as np
import pytest

from tests.transforms.built import ROWS, run_up_to
from tests.transforms.small_runs import go, tasks
from transforms.errors import PixdexError
from transforms.index.lists.reader import ListFile
from transforms.index.open_trained import open_trained
from transforms.markers import ListsMarker, ShardMarker
from transforms.records import row_ids
from transforms.runs import partitions
from transforms.runs.run import Run
from transforms.shards.files import read_vectors
from transforms.stages.add import AddBlocks
from transforms.storage import layout


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return run_up_to("add", tmp_path, monkeypatch)


def test_a_block_holds_each_of_its_rows_in_the_list_of_the_nearest_centroid(run: Run) -> None:
    go(AddBlocks(run))
    assert tasks(run, "add") == run.plan.blocks
    index = open_trained(run.store, run.trained().trained).index
    total = 0
    for block in partitions.read_blocks(run.store, run.plan):
        (marker,) = run.markers("add", [block.number], ListsMarker)
        with run.store.open(marker.lists.path) as stream:
            lists = ListFile(stream, marker.lists.path)
            list_nos, codes, ids = lists.read(lists.lists).unpack()
        shards = run.markers("embed", block.shards, ShardMarker)
        vectors = np.concatenate([read_vectors(run.store, shard.embeddings) for shard in shards if shard.embeddings])
        expected = np.concatenate([row_ids(shard.shard, shard.rows) for shard in shards])
        order = np.argsort(ids)
        np.testing.assert_array_equal(ids[order], expected)
        np.testing.assert_array_equal(codes[order].view(np.float32), vectors)
        np.testing.assert_array_equal(list_nos[order], index.quantizer.search(vectors, 1)[1][:, 0])
        assert marker.rows == len(ids)
        total += marker.rows
    assert total == ROWS


@pytest.mark.parametrize("flags", [(), pytest.param(("--direct_runner_bundle_repeat=1",), marks=pytest.mark.gate)])
def test_a_block_that_is_added_is_left_alone(run: Run, flags: tuple[str, ...]) -> None:
    go(AddBlocks(run), *flags)
    folder = layout.lists_folder(run.trained().trained.fingerprint)
    before = {name: run.store.local_path(f"{folder}/{name}").stat().st_mtime_ns for name in run.store.names(folder)}
    assert len(before) == run.plan.blocks
    run.store.local_path(layout.stage_marker(1, "add")).unlink()
    go(AddBlocks(run))
    assert before == {
        name: run.store.local_path(f"{folder}/{name}").stat().st_mtime_ns for name in run.store.names(folder)
    }


def test_a_lost_marker_makes_the_same_file_again(run: Run) -> None:
    go(AddBlocks(run))
    (before,) = run.markers("add", [1], ListsMarker)
    for path in (layout.marker(1, "add", 1), layout.stage_marker(1, "add")):
        run.store.local_path(path).unlink()
    go(AddBlocks(run))
    assert run.markers("add", [1], ListsMarker) == [before]


def test_a_shard_that_is_missing_is_named(run: Run) -> None:
    (marker,) = run.markers("embed", [0], ShardMarker)
    assert marker.embeddings is not None
    run.store.local_path(marker.embeddings.path).unlink()
    with pytest.raises(PixdexError, match=f"{marker.embeddings.path} is missing"):
        go(AddBlocks(run))


def test_added_rows_are_counted_once(run: Run) -> None:
    assert go(AddBlocks(run))["added_rows"] == ROWS
    run.store.local_path(layout.stage_marker(1, "add")).unlink()
    assert "added_rows" not in go(AddBlocks(run))

"""Embedding: a shard for each partition, once, with counters of what was done and a check of the rejects."""

from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from tests.corpora import write_csv, write_pictures
from tests.end_to_end.builds import make_work_small
from tests.transforms.small_runs import TINY, begin, go, pictures, pipeline, tasks
from transforms.errors import PixdexError
from transforms.markers import ShardMarker
from transforms.records import EncoderSettings, Source
from transforms.runs.partitions import read_partitions
from transforms.runs.run import Run
from transforms.stages.embed import EmbedPartition, EmbedPartitions
from transforms.stages.plan import PlanItems
from transforms.storage import layout
from transforms.tasks.embed.spent import PARTS


def plan(root: Path, *sources: Source, encoder: EncoderSettings = TINY) -> Run:
    run = begin(root, *sources, encoder=encoder)
    go(PlanItems(run, 0))
    return run


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Forty rows with picture and text in several partitions, two of the pictures broken."""
    make_work_small(monkeypatch)
    paths = write_pictures(tmp_path / "pictures", 40)
    for broken in (paths[3], paths[30]):
        broken.write_bytes(b"no picture")
    csv = write_csv(tmp_path / "rows.csv", paths)
    return plan(tmp_path / "root", Source("csv", f"file://{csv}", image_column="image", text_column="description"))


def test_every_partition_becomes_a_shard_and_what_was_done_is_counted(run: Run) -> None:
    assert run.plan.shards > 3
    counted = go(EmbedPartitions(run))
    taken = {name: counted.pop(name) for name in list(counted) if name.endswith("_ms")}
    assert counted == {"embedded_rows": 76, "rejected_items": 2}
    assert set(taken) <= {f"{part}_ms" for part in PARTS}  # of no time, Beam tells nothing
    shards = run.shards()
    assert [marker.shard for marker in shards] == list(range(run.plan.shards))
    assert sum(marker.rows for marker in shards) == 76 and sum(marker.items for marker in shards) == 40
    assert tasks(run, "embed") == run.plan.shards


def test_a_partition_that_has_its_shard_is_left_alone(run: Run) -> None:
    go(EmbedPartitions(run))
    path = layout.marker(1, "embed", 1)
    run.store.local_path(path).unlink()
    run.store.local_path(layout.stage_marker(1, "embed")).unlink()
    before = run.store.names(layout.embeddings_folder(0))
    rows = run.markers("embed", [0], ShardMarker)[0].rows
    counted = go(EmbedPartitions(run))
    assert counted["shards_already_embedded"] == run.plan.shards - 1
    assert 0 < counted["embedded_rows"] <= rows + 2
    assert run.store.names(layout.embeddings_folder(0)) == before


def test_a_stage_that_is_done_embeds_nothing_again(run: Run) -> None:
    go(EmbedPartitions(run))
    assert go(EmbedPartitions(run)) == {"shards_already_embedded": run.plan.shards}


def test_bundles_that_run_twice_leave_each_shard_once(run: Run) -> None:
    go(EmbedPartitions(run), "--direct_runner_bundle_repeat=1")
    assert len(run.store.names(layout.embeddings_folder(0))) == run.plan.shards


def test_each_task_is_the_number_of_its_shard(run: Run) -> None:
    partitions = list(read_partitions(run.store, run.plan.partitions))
    with pipeline() as p:
        done = p | beam.Create(partitions) | beam.ParDo(EmbedPartition(run))
        assert_that(done, equal_to([partition.shard for partition in partitions]))


def test_too_many_rejects_stop_the_run_with_the_reasons_and_keep_what_is_embedded(run: Run) -> None:
    with pytest.raises(PixdexError, match=r"2 of 40 items were rejected, more than --max-reject-ratio 0\.01 .*2 x "):
        go(EmbedPartitions(run, 0.01))
    assert go(EmbedPartitions(run, 0.05)) == {"shards_already_embedded": run.plan.shards}


def test_the_limit_itself_is_allowed(run: Run) -> None:
    assert go(EmbedPartitions(run, 2 / 40))["rejected_items"] == 2


def test_an_encoder_that_was_replaced_is_refused(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", 2)
    encoder = replace(TINY, fingerprint="0" * 64)
    run = plan(tmp_path / "root", pictures(tmp_path / "pictures"), encoder=encoder)
    with pytest.raises(PixdexError, match="has fingerprint"):
        go(EmbedPartitions(run))


def test_a_shard_of_another_plan_is_an_error_and_no_skip(run: Run) -> None:
    go(EmbedPartitions(run))
    (marker,) = run.markers("embed", [0], ShardMarker)
    for path in (layout.marker(1, "embed", 0), layout.stage_marker(1, "embed")):
        run.store.local_path(path).unlink()
    run.commit("embed", 0, replace(marker, digest="0" * 64))
    with pytest.raises(PixdexError, match=r"answers 000000000000…, this run asks for .* --abandon-plan"):
        go(EmbedPartitions(run))

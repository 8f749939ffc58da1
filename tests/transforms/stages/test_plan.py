"""Planning: sources become partitions, once, and no key names two items."""

import os
import unicodedata
from pathlib import Path

import fsspec
import pytest
from apache_beam.testing.util import assert_that

from tests.corpora import write_csv, write_pictures
from tests.transforms.ready import random_vectors, save_npy, save_parquet
from tests.transforms.small_runs import TINY, begin, go, pictures, pipeline, tasks
from transforms.digests import digest
from transforms.errors import PixdexError, UsageError
from transforms.generations import tables
from transforms.markers import StageMarker
from transforms.records import Plan, Source
from transforms.runs import beginning
from transforms.runs.partitions import read_partitions
from transforms.runs.run import Run
from transforms.sources import items
from transforms.stages.plan import PlanItems
from transforms.storage import layout, parquet_files


def keys(run: Run) -> list[str]:
    """Returns the planned keys in plan order."""
    partitions = read_partitions(run.store, run.plan.partitions)
    return [
        key
        for partition in partitions
        for piece in partition.slices
        for key in items.read(run.store, piece)["key"].to_pylist()
    ]


def test_it_commits_the_plan_and_hands_on_its_marker(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", 3)
    run = begin(tmp_path / "root", pictures(tmp_path / "pictures"))

    def check(found: list[StageMarker]) -> None:
        assert [(marker.stage, marker.tasks) for marker in found] == [("plan", 1)]

    with pipeline() as p:
        assert_that(p | PlanItems(run, 7), check)
    assert run.plan == Plan(
        generation=1,
        request_digest=digest(run.request),
        partitions=run.plan.partitions,
        first_shard=7,
        shards=1,
        blocks=1,
        items=3,
        rows=3,
        index_key="IVF1,Flat",
    )
    assert tasks(run, "plan") == 1


def test_items_stand_in_the_order_of_sources_folders_and_names(tmp_path: Path) -> None:
    for name in ("b", "a", "a/deep", ""):
        write_pictures(tmp_path / "pictures" / name, 2)
    csv = write_csv(tmp_path / "rows.csv", write_pictures(tmp_path / "more", 2))
    rows = Source("csv", f"file://{csv}", text_column="description", key_column="name")
    run = begin(tmp_path / "root", rows, pictures(tmp_path / "pictures"))
    go(PlanItems(run, 0))
    base, two = f"file://{tmp_path}", ["g0_p0000.png", "g1_p0001.png"]
    expected = [f"{base}/pictures{folder}/{name}" for folder in ("", "/a", "/a/deep", "/b") for name in two]
    assert keys(run) == [f"{base}/rows.csv#name 0", f"{base}/rows.csv#name 1", *expected]


@pytest.mark.parametrize(
    "flags",
    [(), ("--direct_runner_bundle_repeat=1",), ("--direct_num_workers=2", "--direct_running_mode=multi_threading")],
)
def test_the_plan_is_the_same_however_bundles_run(tmp_path: Path, flags: tuple[str, ...]) -> None:
    for name in ("x", "y", "z"):
        write_pictures(tmp_path / "pictures" / name, 3)
    runs = [begin(tmp_path / name, pictures(tmp_path / "pictures")) for name in ("one", "other")]
    go(PlanItems(runs[0], 0))
    go(PlanItems(runs[1], 0), *flags)
    assert runs[0].plan == runs[1].plan


def test_a_file_that_two_globs_match_is_one_item_of_the_first(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", 4)
    folder = tmp_path / "pictures"
    run = begin(tmp_path / "root", pictures(folder / "*_p000[01].png"), pictures(folder / "*.png"), pictures(folder))
    go(PlanItems(run, 0))
    assert len(keys(run)) == len(set(keys(run))) == run.plan.items == 4
    assert [Path(key).name[-8:-4] for key in keys(run)] == ["0000", "0001", "0003", "0002"]


def test_a_file_and_an_object_of_one_path_are_two_items(tmp_path: Path) -> None:
    for picture in write_pictures(tmp_path / "pictures", 2):
        fsspec.filesystem("memory").pipe_file(str(picture), picture.read_bytes())
    folder = tmp_path / "pictures"
    run = begin(tmp_path / "root", pictures(folder / "*.png"), Source("images", f"memory://{folder}"))
    go(PlanItems(run, 0))
    assert [key.partition("://")[0] for key in keys(run)] == ["file", "file", "memory", "memory"]


def test_two_rows_with_one_primary_key_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("id,text\n1,a\n2,b\n1,c\n", encoding="utf-8")
    run = begin(tmp_path / "root", Source("csv", f"file://{tmp_path}/rows.csv", text_column="text", key_column="id"))
    with pytest.raises(UsageError, match=r"#1 is the key of row 1 of .* and of row 3 of .*rows\.csv: .* --key-column"):
        go(PlanItems(run, 0))
    assert not run.store.exists(layout.plan(1))


@pytest.mark.parametrize("at_once", [3, 1000])
def test_a_repeated_key_is_found_however_far_apart_its_items_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(items, "ITEMS_AT_ONCE", at_once)
    ids = [*range(100), 50, *range(101, 200)]
    (tmp_path / "rows.csv").write_text("id,text\n" + "".join(f"{i},text {i}\n" for i in ids), encoding="utf-8")
    run = begin(tmp_path / "root", Source("csv", f"file://{tmp_path}/rows.csv", text_column="text", key_column="id"))
    with pytest.raises(UsageError, match=r"rows\.csv#50 is the key of row 51 of .* and of row 101 of "):
        go(PlanItems(run, 0))


def test_a_column_that_is_no_key_at_all_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("kind,text\n" + "cat,a\ndog,b\n" * 500, encoding="utf-8")
    run = begin(tmp_path / "root", Source("csv", f"file://{tmp_path}/rows.csv", text_column="text", key_column="kind"))
    with pytest.raises(UsageError, match=r"rows\.csv#(cat|dog) is the key of row .* --key-column"):
        go(PlanItems(run, 0))


def test_two_files_whose_names_differ_in_unicode_form_only_are_refused_by_name(tmp_path: Path) -> None:
    (picture,) = write_pictures(tmp_path / "pictures", 1)
    for name in (unicodedata.normalize("NFC", "é.png"), unicodedata.normalize("NFD", "é.png")):
        (tmp_path / "pictures" / name).write_bytes(picture.read_bytes())
    if len(os.listdir(tmp_path / "pictures")) < 3:  # noqa: PTH208 - names as they are spelled
        pytest.skip("this filesystem takes both names for one")
    run = begin(tmp_path / "root", pictures(tmp_path / "pictures"))
    with pytest.raises(UsageError, match=r"is the key of file://.* and of file://"):
        go(PlanItems(run, 0))


def test_rows_without_a_primary_key_may_be_alike(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text\na\na\na\n", encoding="utf-8")
    run = begin(tmp_path / "root", Source("csv", f"file://{tmp_path}/rows.csv", text_column="text"))
    go(PlanItems(run, 0))
    assert len(set(keys(run))) == 3


def test_a_source_without_an_item_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text\n", encoding="utf-8")
    run = begin(tmp_path / "root", Source("csv", f"file://{tmp_path}/rows.csv", text_column="text"))
    with pytest.raises(UsageError, match="hold no item"):
        go(PlanItems(run, 0))


def test_a_committed_plan_is_not_listed_again(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", 3)
    run = begin(tmp_path / "root", pictures(tmp_path / "pictures"))
    go(PlanItems(run, 0))
    planned = run.plan
    write_pictures(tmp_path / "pictures" / "new", 3)
    listed = run.store.names(layout.items_folder(1))
    go(PlanItems(Run(run.store, 1), 5))
    assert Run(run.store, 1).plan == planned
    assert run.store.names(layout.items_folder(1)) == listed


def test_a_run_that_was_given_up_meanwhile_plans_nothing(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", 3)
    run = begin(tmp_path / "root", pictures(tmp_path / "pictures"))
    beginning.abandon(run)
    with pytest.raises(PixdexError, match="given up by another build"):
        go(PlanItems(run, 0))


def test_an_index_that_no_worker_could_hold_is_refused_before_the_plan_is_committed(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", 3)
    run = begin(tmp_path / "root", pictures(tmp_path / "pictures"))
    with pytest.raises(UsageError, match="--worker-memory is "):
        go(PlanItems(run, 0, worker_memory=1 << 20))
    assert not run.store.exists(layout.plan(1))


def test_that_lists_are_fewer_than_asked_for_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_pictures(tmp_path / "pictures", 3)
    run = begin(tmp_path / "root", pictures(tmp_path / "pictures"), key="IVF64,Flat")
    go(PlanItems(run, 0))
    assert [record.getMessage() for record in caplog.records if "IVF64,Flat" in record.getMessage()] == [
        "IVF64,Flat needs 39 vectors a list, there are 3 in all: using IVF1,Flat"
    ]


def ready(*files: Path) -> list[Source]:
    return [Source("vectors", f"file://{file}", vector_column="embedding") for file in files]


def test_ready_embeddings_are_cut_file_by_file_in_order_of_sources_and_paths(tmp_path: Path) -> None:
    dim = TINY.dim
    for name, rows in (("b.npy", 65_537), ("a/c.npy", 3), ("none.npy", 0)):
        save_npy(tmp_path / "v" / name, random_vectors(rows, dim))
    last = save_parquet(tmp_path / "w.parquet", random_vectors(5, dim))
    run = begin(tmp_path / "root", *ready(last, tmp_path / "v", last))
    go(PlanItems(run, 4))
    partitions = list(read_partitions(run.store, run.plan.partitions))
    found = [piece.ready for piece in partitions if piece.ready]
    assert [(piece.uri.rpartition("/")[2], piece.start, piece.stop) for piece in found] == [
        ("w.parquet", 0, 5), ("c.npy", 0, 3), ("b.npy", 0, 65_536), ("b.npy", 65_536, 65_537),
    ]  # fmt: skip
    assert [piece.shard for piece in partitions] == [4, 5, 6, 7]
    assert (run.plan.items, run.plan.rows, run.plan.shards) == (65_545, 65_545, 4)


def test_ready_embeddings_of_another_dimension_are_refused_by_name(tmp_path: Path) -> None:
    files = [save_npy(tmp_path / f"{dim}.npy", random_vectors(3, dim)) for dim in (TINY.dim, TINY.dim + 1)]
    run = begin(tmp_path / "root", *ready(*files))
    with pytest.raises(UsageError, match=r"17\.npy has vectors of 17 components, the first file of 16"):
        go(PlanItems(run, 0))
    assert not run.store.exists(layout.plan(1))


# -- what is left out


def test_what_is_left_out_is_counted_over_all_sources_and_containers(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures" / "a", 2)
    write_pictures(tmp_path / "pictures" / "b", 1)
    for name in ("a/x.heic", "b/y.HEIC", "z.svg"):
        (tmp_path / "pictures" / name).touch()
    os.mkfifo(tmp_path / "pictures" / "b" / "pipe.png")
    csv = write_csv(tmp_path / "rows.csv", [])
    rows = Source("csv", f"file://{csv}", text_column="description")
    run = begin(
        tmp_path / "root", pictures(tmp_path / "pictures" / "*" / "*.png"), rows, pictures(tmp_path / "pictures")
    )
    go(PlanItems(run, 0), "--direct_runner_bundle_repeat=1")

    assert tables.left_out_of(run.store, run.plan.containers) == {"heic": 2, "pipe": 1, "svg": 1}
    assert tables.unnamed_of(run.store, run.plan.containers) == 0


def test_a_plan_without_anything_left_out_has_the_table_that_it_had(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text\na\n", encoding="utf-8")
    run = begin(tmp_path / "root", Source("csv", f"file://{tmp_path}/rows.csv", text_column="text"))
    go(PlanItems(run, 0))
    assert run.plan.containers is not None

    assert parquet_files.read(run.store, run.plan.containers).column_names == ["uri", "version"]


def test_a_pattern_that_matches_no_name_is_refused(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", 3)
    named = Source("images", f"file://{tmp_path}/pictures", key_pattern="(?P<number>[0-9]+)")
    run = begin(tmp_path / "root", pictures(tmp_path / "pictures" / "*_p0000.png"), named)

    with pytest.raises(
        UsageError, match=r"--key-pattern \(\?P<number>\[0-9\]\+\) matches none of the 2 names of --images"
    ):
        go(PlanItems(run, 0))
    assert not run.store.exists(layout.plan(1))


def test_names_that_a_pattern_does_not_match_are_counted(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", 5)
    named = Source("images", f"file://{tmp_path}/pictures", key_pattern="g0_(?P<number>.*)")
    run = begin(tmp_path / "root", named)
    go(PlanItems(run, 0))

    assert tables.unnamed_of(run.store, run.plan.containers) == 3
    assert tables.left_out_of(run.store, run.plan.containers) == {}


def test_what_lies_beside_ready_embeddings_is_counted(tmp_path: Path) -> None:
    save_npy(tmp_path / "v" / "a.npy", random_vectors(3, TINY.dim))
    (tmp_path / "v" / "stats.json").touch()
    run = begin(tmp_path / "root", *ready(tmp_path / "v"))
    go(PlanItems(run, 0))

    assert tables.left_out_of(run.store, run.plan.containers) == {"json": 1}

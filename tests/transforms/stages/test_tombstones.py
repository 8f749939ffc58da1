"""Tombstones of a run: the rows of items that are gone or came anew, a file for each folder of shards.

Each test runs stages of a graph, and whole nights are reindexed in tests/end_to_end every time, so that these are run
at leisure, in two minutes:

    pytest -m slow tests/transforms/stages/test_tombstones.py tests/transforms/stages/test_keys.py
"""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines import build
from tests.end_to_end.builds import every_file, make_work_small, write_corpus
from tests.end_to_end.reindexing import Collection, collection, generation_of
from tests.end_to_end.reindexing import run as reindex
from tests.transforms.built import run_up_to
from tests.transforms.small_runs import go, tasks
from transforms.errors import PixdexError
from transforms.generations import key_tables, tables, tombstones
from transforms.generations.tombstones import Tombstones
from transforms.markers import RejectsFile, TombstonesMarker
from transforms.records import FileReference, Reindex
from transforms.runs import beginning, inventory
from transforms.runs.run import Run
from transforms.shards import files as shards
from transforms.stages.embed import EmbedPartitions
from transforms.stages.keys import UpdateKeys
from transforms.stages.plan import PlanItems
from transforms.stages.tombstones import BuryRows
from transforms.storage import layout, parquet_files
from transforms.storage.store import Store

pytestmark = pytest.mark.slow

KEY = ("--index-key", "IVF4,Flat")
TWICE = "--direct_runner_bundle_repeat=1"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a collection and its index, which tests copy: 4 of 100 pictures are broken, in several shards."""
    folder = tmp_path_factory.mktemp("built")
    made = broken(collection(folder / "sources"))
    with pytest.MonkeyPatch.context() as patch:
        make_work_small(patch)
        assert build.main(["--root", str(folder / "root"), *made.arguments, *KEY]) == 0
    return folder


def broken(items: Collection) -> Collection:
    items.pictures |= {"p010": -1, "p011": -2, "p090": -3, "p091": -4}
    items.write()
    return items


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def items(built: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Collection:
    """The collection, as it was when the index in `root` was made of it."""
    make_work_small(monkeypatch)
    shutil.copytree(built / "root", root)
    return broken(collection(built / "sources"))  # keys hold its path, so that it stays where it is


def night(root: Path, retry: tuple[str, ...] | None = None) -> Run:
    """Begins a reindex that stands before its tombstones."""
    store, published = Store.at(str(root)), generation_of(root)
    goes_on = Reindex(published.generation, retry=retry, max_tombstones=1.0)
    run = beginning.begin(store, replace(published.request, reindex=goes_on))
    go(PlanItems(run, beginning.next_shard(store)))
    go(EmbedPartitions(run))
    go(UpdateKeys(run))
    return run


def removed_by(run: Run) -> NDArray[np.void]:
    """All entries that the plan of a run removes."""
    files = tables.removed_of(run.store, run.plan)
    return key_tables.joined([key_tables.read_entries(run.store, bucket.file) for bucket in files])


def dead_of(run: Run) -> set[int]:
    """The ids of dead rows, as the markers of a run say."""
    dead = inventory.dead_rows(run)
    bits = np.unpackbits(dead.bits, axis=1, bitorder="little")
    places, rows = np.nonzero(bits)
    return set(((dead.shards[places] << 16) + rows).tolist())


def rows_with(run: Run, *endings: str) -> set[int]:
    """The ids of the rows of the base whose key ends in one of these."""
    assert run.base is not None
    found = set()
    for marker in tables.shards_of(run.store, run.base):
        if marker.embeddings is not None:
            table = parquet_files.read(run.store, marker.embeddings).select(["id", "key"])
            found |= {row["id"] for row in table.to_pylist() if row["key"].endswith(endings)}
    return found


def rejects_of(run: Run) -> dict[int, RejectsFile]:
    return {file.shard: file for marker in inventory.tombstone_markers(run) for file in marker.rejects}


def rejects_before(run: Run) -> dict[int, FileReference]:
    """The files of rejects of the base, by shard."""
    assert run.base is not None
    rejects = tables.rejects_of(run.store, run.base)
    return {shard: left.file for shard, left in rejects.items() if left.file}


def reject_names(run: Run, file: FileReference) -> list[str]:
    """The names of the pictures that a file of rejects has, in order."""
    return sorted(key.rpartition("/")[2] for key in shards.read_rejects(run.store, file)["key"].to_pylist())


def forget(run: Run) -> None:
    """Takes the marker of the stage away, so that it is not done."""
    run.store.local_path(layout.stage_marker(run.generation, "tombstones")).unlink()


def test_a_first_build_buries_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_up_to("keys", tmp_path, monkeypatch)
    go(BuryRows(run))
    assert tasks(run, "tombstones") == 0
    assert inventory.tombstone_markers(run) == [] and inventory.dead_rows(run).rows == 0


def test_rows_that_are_gone_or_came_anew_are_dead_and_no_others(items: Collection, root: Path) -> None:
    del items.pictures["p003"], items.rows["k004"]
    items.pictures["p005"] = 900
    items.rows["k006"] = ("other words", items.rows["k006"][1])
    items.write()
    run = night(root)
    go(BuryRows(run))

    expected = rows_with(run, "p003.png", "#k004", "p005.png", "#k006")
    assert len(expected) == 6 and len({row >> 16 for row in expected}) > 1
    assert dead_of(run) == expected == set(key_tables.dead_ids(removed_by(run)).tolist())
    (marker,) = inventory.tombstone_markers(run)
    assert (marker.number, marker.rows) == (0, 6)
    assert tasks(run, "tombstones") == 1


def test_new_items_kill_nobody(items: Collection, root: Path) -> None:
    del items.pictures["p010"]
    items.pictures["new"] = 500
    items.write()
    run = night(root)
    go(BuryRows(run))
    assert dead_of(run) == set()


def test_rows_of_pictures_texts_and_keywords_die_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_work_small(monkeypatch)
    csv, root = write_corpus(tmp_path, 60), tmp_path / "root"
    columns = ("--image-column", "image", "--text-column", "description", "--keyword-column", "words")
    arguments = ("--csv", csv, *columns, "--key-column", "name", "--no-progress", "--encoder-threads", 1)
    tiny = ("--encoder", "tests.encoders:TinyEncoder")
    assert build.main([str(word) for word in ("--root", root, *arguments, *tiny, *KEY)]) == 0
    lines = csv.read_text(encoding="utf-8").splitlines()
    csv.write_text("\n".join(line for line in lines if ",name 7," not in line) + "\n", encoding="utf-8")
    run = night(root)
    go(BuryRows(run))
    assert dead_of(run) == rows_with(run, "#name 7")
    assert len(dead_of(run)) == 4


def test_rows_that_died_before_stay_dead(items: Collection, root: Path) -> None:
    del items.pictures["p003"]
    items.write()
    assert reindex(root, "--max-tombstones", "1") == 0
    del items.pictures["p050"]
    items.write()
    run = night(root)
    buried = rows_with(run, "p003.png")
    assert run.base is not None and run.base.totals.tombstones == 1
    go(BuryRows(run))
    assert dead_of(run) == buried | rows_with(run, "p050.png") and len(dead_of(run)) == 2


def test_every_folder_of_shards_has_a_file_of_its_own(
    items: Collection, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So many that entries of one hash bucket are of several folders.
    items.pictures = {name: seed for name, seed in items.pictures.items() if name > "p070"}
    items.write()
    run = night(root)
    expected = set(key_tables.dead_ids(removed_by(run)).tolist())
    monkeypatch.setattr(layout, "FOLDER_SIZE", 2)
    monkeypatch.setattr("transforms.tasks.tombstones._FOLDER_IDS", np.int64(2 << 16))
    go(BuryRows(run))
    markers = inventory.tombstone_markers(run)
    assert len(markers) > 1 and dead_of(run) == expected
    for marker in markers:
        assert {shard // 2 for shard in tombstones.read(run.store, marker.file).shards.tolist()} == {marker.number}
    assert tasks(run, "tombstones") == len(markers)


def test_a_reject_that_is_gone_is_left_out_of_the_file_of_its_shard(items: Collection, root: Path) -> None:
    del items.pictures["p010"]
    items.write()
    run = night(root)
    go(BuryRows(run))
    ((shard, left),) = rejects_of(run).items()
    assert left.rejected == 1 and left.file is not None
    assert reject_names(run, left.file) == ["p011.png"]
    assert reject_names(run, rejects_before(run)[shard]) == ["p010.png", "p011.png"]
    assert dead_of(run) == set()


def test_a_shard_whose_rejects_are_all_gone_has_no_file_of_them_and_it_is_not_read(
    items: Collection, root: Path
) -> None:
    del items.pictures["p010"], items.pictures["p011"]
    items.write()
    run = night(root)
    (shard,) = {shard for shard, file in rejects_before(run).items() if "p010.png" in reject_names(run, file)}
    run.store.local_path(rejects_before(run)[shard].path).unlink()
    go(BuryRows(run))
    assert rejects_of(run) == {shard: RejectsFile(shard, 0, None)}


def test_rejects_that_are_tried_again_are_forgotten_where_they_stood(items: Collection, root: Path) -> None:
    run = night(root, retry=())
    assert run.plan.changes is not None and run.plan.changes.retried == 4
    go(BuryRows(run))
    assert rejects_of(run) == {shard: RejectsFile(shard, 0, None) for shard in rejects_before(run)}
    assert dead_of(run) == set()


def test_a_reject_that_became_a_picture_is_forgotten(items: Collection, root: Path) -> None:
    items.pictures["p090"] = 700
    items.write()
    run = night(root)
    go(BuryRows(run))
    ((_, left),) = rejects_of(run).items()
    assert left.file is not None and reject_names(run, left.file) == ["p091.png"]


def test_a_second_run_changes_no_file(items: Collection, root: Path) -> None:
    del items.pictures["p003"], items.pictures["p010"]
    items.write()
    run = night(root)
    go(BuryRows(run))
    forget(run)
    before = every_file(root)
    go(BuryRows(run))
    stage = layout.stage_marker(run.generation, "tombstones")
    assert {path: stat for path, stat in every_file(root).items() if path != stage} == before


def test_a_stage_that_is_done_writes_nothing(items: Collection, root: Path) -> None:
    del items.pictures["p003"]
    items.write()
    run = night(root)
    go(BuryRows(run))
    before = every_file(root)
    go(BuryRows(run))
    assert every_file(root) == before


def test_bundles_that_run_twice_bury_the_same_rows(items: Collection, root: Path) -> None:
    del items.pictures["p003"], items.pictures["p010"]
    items.write()
    run = night(root)
    go(BuryRows(run))
    once = inventory.tombstone_markers(run)
    files = set(every_file(root))
    forget(run)
    run.store.local_path(layout.marker(run.generation, "tombstones", 0)).unlink()
    go(BuryRows(run), TWICE)
    assert inventory.tombstone_markers(run) == once
    assert set(every_file(root)) == files and tasks(run, "tombstones") == 1


def test_a_folder_whose_file_is_lost_is_written_again(items: Collection, root: Path) -> None:
    del items.pictures["p003"]
    items.write()
    run = night(root)
    go(BuryRows(run))
    (once,) = inventory.tombstone_markers(run)
    forget(run)
    run.store.local_path(once.file.path).unlink()
    go(BuryRows(run))
    assert inventory.tombstone_markers(run) == [once] and run.store.holds(once.file)


def test_a_marker_of_another_plan_is_refused(items: Collection, root: Path) -> None:
    del items.pictures["p003"]
    items.write()
    run = night(root)
    run.commit("tombstones", 0, TombstonesMarker(0, "of another", 0, tombstones.write(run.store, Tombstones())))
    with pytest.raises(PixdexError, match="--abandon-plan"):
        go(BuryRows(run))

"""Segments and tiers: the same index, bit for bit, however it is divided on the way."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import costly
from tests.transforms.built import ROWS, run_up_to
from transforms.errors import PixdexError
from transforms.generations import published
from transforms.generations.manifest import Generation
from transforms.index.lists.opened import open_lists
from transforms.markers import StageMarker
from transforms.runs.run import Run
from transforms.search.local_copies import materialise
from transforms.search.open_index import open_index
from transforms.storage import layout, parquet_files
from transforms.storage.cache_folder import cache_folder
from transforms.storage.store import Store
from transforms.tasks import publish as publishing
from transforms.tasks.merge import file as merge_file
from transforms.tasks.merge import segments
from transforms.tasks.merge.inputs import merge_inputs

NLIST = 7


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with pytest.MonkeyPatch.context() as patch:
        yield run_up_to("merge", tmp_path_factory.mktemp("run"), patch, f"IVF{NLIST},Flat")


def forget(run: Run) -> None:
    """Leaves the root as it was before the merge."""
    for folder in (
        layout.marker_folder(1, "tier"), layout.marker_folder(1, "merge"), layout.index_folder(1), layout.tier_folder(1)
    ):  # fmt: skip
        for name in run.store.names(folder):
            run.store.remove(f"{folder}/{name}")
    for stage in ("tier", "merge"):
        if run.store.exists(layout.stage_marker(1, stage)):
            run.store.remove(layout.stage_marker(1, stage))


def make_tier(run: Run, fan_in: int, file_bytes: int, seed: int = 0) -> list[segments.RangeTask]:
    tasks = segments.plan_tier(run, fan_in, file_bytes)
    shuffled = [*tasks, *tasks[:1]]
    random.Random(seed).shuffle(shuffled)
    for task in shuffled:
        segments.merge_tier(run, task)
    run.store.commit(layout.stage_marker(1, "tier"), StageMarker("tier", len(tasks), 0.0))
    return tasks


def merged_file(run: Run, piece_bytes: int, step_bytes: int, seed: int = 0) -> bytes:
    pieces = merge_file.plan_merge(run, piece_bytes)
    random.Random(seed).shuffle(pieces)
    inputs = merge_inputs(run)
    for piece in pieces:
        merge_file.merge_piece(run, piece, inputs, step_bytes)
    merge_file.finish_merge(run)
    inputs.close()
    return run.store.local_path(layout.merged_index(1)).read_bytes()


@costly
@given(
    fan_in=st.integers(1, 20),
    file_bytes=st.sampled_from([1, 3000, 1 << 30]),
    piece_bytes=st.sampled_from([1, 2048, 1 << 30]),
    step_bytes=st.sampled_from([1, 2048, 1 << 30]),
    seed=st.integers(0, 100),
)
def test_any_tier_piece_step_and_order_give_the_same_file(
    run: Run, *, fan_in: int, file_bytes: int, piece_bytes: int, step_bytes: int, seed: int
) -> None:
    forget(run)
    expected = merged_file(run, 1 << 30, 1 << 30)
    forget(run)
    tasks = make_tier(run, fan_in, file_bytes, seed)
    assert bool(tasks) == (run.plan.blocks > fan_in)
    assert merged_file(run, piece_bytes, step_bytes, seed) == expected
    forget(run)


def test_a_tier_covers_every_block_and_every_list_once(run: Run) -> None:
    tasks = segments.plan_tier(run, 2, 1)
    covered = [
        (block, own) for task in tasks for block in range(task.first_block, task.last_block)
        for own in range(task.first_list, task.last_list)
    ]  # fmt: skip
    assert sorted(covered) == [(block, own) for block in range(run.plan.blocks) for own in range(NLIST)]
    assert [task.number for task in tasks] == list(range(len(tasks)))
    assert segments.plan_tier(run, run.plan.blocks) == []


def test_files_of_a_tier_that_stand_are_not_written_again(run: Run) -> None:
    forget(run)
    tasks = make_tier(run, 2, 3000)
    folder = run.store.local_path(layout.tier_folder(1))
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert len(before) == len(tasks) > 1
    victim = min(before)
    victim.unlink()
    for task in tasks:
        segments.merge_tier(run, task)
    after = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert after.keys() == before.keys()
    assert [file for file in after if after[file] != before[file]] == [victim]
    forget(run)


@pytest.fixture
def far(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """The same run on a root that is no folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    forget(run)
    memory, name = fsspec.filesystem("memory"), f"/{tmp_path.name}"
    assert run.store.local is not None
    memory.put(str(run.store.local), name, recursive=True)
    yield Run(Store.at(f"memory:/{name}"), 1)
    memory.rm(name, recursive=True)


def merge_segments(far: Run, segment_bytes: int = 2048) -> None:
    inputs = merge_inputs(far)
    for task in segments.plan_segments(far, segment_bytes):
        segments.merge_into_segment(far, task, inputs)
    inputs.close()


def publish(far: Run, segment_bytes: int = 2048) -> Generation:
    merge_segments(far, segment_bytes)
    return publishing.publish(far)


def everything(far: Run) -> dict[str, bytes]:
    store = far.store.filesystem
    return {path: store.cat_file(path) for path in store.find(far.store.full("index"))}


def test_a_marker_of_a_segment_counts_its_rows(far: Run) -> None:
    merge_segments(far)
    for marker in publishing.merged_segments(far):
        stream, lists = open_lists(far.store, marker.lists)
        with stream:
            assert lists.rows == marker.rows
    assert sum(marker.rows for marker in publishing.merged_segments(far)) == ROWS


def test_segments_opened_together_are_the_file_of_a_folder(run: Run, far: Run) -> None:
    expected = merged_file(run, 1 << 30, 1 << 30)
    forget(run)
    generation = publish(far)
    table = parquet_files.read(far.store, generation.tables.segments).to_pylist()
    assert len(table) > 2 and [row["first_list"] for row in table][1:] == [row["last_list"] for row in table][:-1]
    assert {row["path"] for row in table} <= set(published.files(far.store, generation))
    assert all(far.store.exists(path) for path in published.files(far.store, generation))
    assert open_index(far.store, generation).ntotal == ROWS
    assert materialise(far.store, generation).read_bytes() == expected


def test_segments_of_a_tier_hold_the_same_too(run: Run, far: Run) -> None:
    expected = merged_file(run, 1 << 30, 1 << 30)
    forget(run)
    make_tier(far, 2, 3000)
    assert materialise(far.store, publish(far)).read_bytes() == expected


def test_segments_that_stand_are_not_written_again(far: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    merge_segments(far)
    before = everything(far)
    monkeypatch.setattr(segments, "merge_segment", None)  # would fail if it were called
    merge_segments(far)
    assert everything(far) == before
    assert len(publishing.merged_segments(far)) > 2


def test_a_missing_segment_is_not_published(far: Run) -> None:
    merge_segments(far)
    marker = publishing.merged_segments(far)[1]
    far.store.remove(marker.lists.path)
    with pytest.raises(PixdexError, match=r"segment-00001-.* is not"):
        publishing.publish(far)
    far.store.remove(layout.marker(1, "merge", 1))
    with pytest.raises(PixdexError, match="do not cover all lists"):
        publishing.publish(far)
    assert published.numbers(far.store) == []


def test_the_local_copy_is_made_once_and_again_when_it_was_cut(far: Run) -> None:
    generation = publish(far)
    file = materialise(far.store, generation)
    whole, inode = file.read_bytes(), file.stat().st_ino
    assert materialise(far.store, generation).stat().st_ino == inode
    file.write_bytes(whole[:-1])
    assert materialise(far.store, generation).read_bytes() == whole
    assert sorted(path.name for path in file.parent.iterdir()) == ["index.faiss", "ranges.json"]


def test_a_local_copy_with_a_wrong_byte_is_made_again_in_its_lists_when_they_are_checked(far: Run) -> None:
    generation = publish(far)
    file = materialise(far.store, generation)
    whole = file.read_bytes()
    for place, checks in ((0, (False, True)), (len(whole) - 1, (True,))):
        for check in checks:
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            assert materialise(far.store, generation, check=check).read_bytes() == whole
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert materialise(far.store, generation).read_bytes() != whole
    file.write_bytes(whole)


@pytest.mark.parametrize("about", [b"{}", b"", b"\xff", b'{"ranges": [], "format_version": 2}', None])
def test_a_local_copy_of_which_nothing_is_known_is_made_again(far: Run, about: bytes | None) -> None:
    """As one of before there were checksums is."""
    generation = publish(far)
    file = materialise(far.store, generation)
    inode, whole, record = file.stat().st_ino, file.read_bytes(), file.with_name("ranges.json")
    if about is None:
        record.unlink()
    else:
        record.write_bytes(about)
    assert materialise(far.store, generation).stat().st_ino != inode
    assert file.read_bytes() == whole


def test_a_damaged_trained_index_makes_no_local_copy(far: Run) -> None:
    generation = publish(far)
    path = generation.trained.index.path
    data = bytearray(far.store.read(path))
    data[60] ^= 1
    far.store.overwrite(path, bytes(data))
    with pytest.raises(PixdexError, match=r"index\.faiss is damaged \(it does not match its checksum\)"):
        open_index(far.store, generation)
    assert not [path for path in cache_folder().rglob("*") if path.is_file()]


def test_a_new_copy_removes_the_others_of_its_root_and_no_more(far: Run) -> None:
    generation = publish(far)
    first = materialise(far.store, generation)
    whole = first.read_bytes()
    elsewhere = materialise(Store(far.store.url + "/"), generation)  # another spelling, for another root
    root = first.parents[1]
    (root / "gone").mkdir()
    (root / "gone" / "index.faiss").write_bytes(b"of a generation before")
    (root / "dead" / ".making-x").mkdir(parents=True)
    os.utime(root / "dead" / ".making-x", (0, 0))
    (root / "begun" / ".making-y").mkdir(parents=True)
    (root / "empty").mkdir()
    first.unlink()
    assert materialise(far.store, generation).read_bytes() == whole
    assert sorted(path.name for path in root.iterdir()) == sorted(["begun", "empty", first.parent.name])
    assert elsewhere.exists() and elsewhere.parents[1] != root


def test_a_damaged_segment_is_named_and_leaves_no_copy(far: Run) -> None:
    generation = publish(far)
    path = parquet_files.read(far.store, generation.tables.segments)["path"][0].as_py()
    data = bytearray(far.store.read(path))
    data[20] ^= 1
    far.store.overwrite(path, bytes(data))
    with pytest.raises(PixdexError, match=r"segment-00000-.* is damaged"):
        open_index(far.store, generation)
    assert not [path for path in cache_folder().rglob("*") if path.is_file()]


def test_a_cache_folder_that_cannot_be_written_is_named(far: Run, tmp_path: Path) -> None:
    generation = publish(far)
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(PixdexError, match=r"cannot take the local copy .* set XDG_CACHE_HOME"):
        open_index(far.store, generation)

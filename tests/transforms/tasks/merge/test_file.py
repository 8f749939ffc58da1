"""Merging in place: pieces in any order, by anyone, again and again, always give the same file."""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import faiss
import pytest

from tests.transforms.built import ROWS, run_up_to
from transforms.errors import PixdexError, UsageError
from transforms.markers import ListsMarker, PieceMarker
from transforms.runs.run import Run
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.tasks.merge import file as merge_file
from transforms.tasks.merge.inputs import merge_inputs

SMALL = 2048


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with pytest.MonkeyPatch.context() as patch:
        yield run_up_to("merge", tmp_path_factory.mktemp("run"), patch, "IVF7,Flat")


@pytest.fixture
def run(once: Run, tmp_path: Path) -> Run:
    """A copy of the run for each test: making one takes seconds."""
    assert once.store.local is not None
    shutil.copytree(once.store.local, tmp_path / "root")
    return Run(Store.at(str(tmp_path / "root")), 1)


def final(run: Run) -> Path:
    return run.store.local_path(layout.merged_index(1))


def partial(run: Run) -> Path:
    return final(run).with_name(".index.faiss.partial")


def merge(run: Run) -> bytes:
    for piece in merge_file.plan_merge(run, SMALL):
        merge_file.merge_piece(run, piece, merge_inputs(run))
    merge_file.finish_merge(run)
    return final(run).read_bytes()


def start_over(run: Run, *, keep_markers: bool) -> None:
    """Leaves the root as it was before the merge."""
    final(run).unlink(missing_ok=True)
    if not keep_markers:
        for name in run.store.names(layout.marker_folder(1, "merge")):
            run.store.local_path(f"{layout.marker_folder(1, 'merge')}/{name}").unlink()


def test_pieces_cover_all_lists_and_all_bytes_after_the_head(run: Run) -> None:
    pieces = merge_file.plan_merge(run, SMALL)
    assert len(pieces) > 2
    assert [piece.first_list for piece in pieces] == [0, *(piece.last_list for piece in pieces[:-1])]
    assert pieces[-1].last_list == 7
    ends = [piece.offset + piece.bytes for piece in pieces]
    assert [piece.offset for piece in pieces[1:]] == ends[:-1]
    assert partial(run).stat().st_size == ends[-1]
    assert [piece.number for piece in pieces] == list(range(1, len(pieces) + 1))


def test_the_order_of_the_pieces_does_not_matter(run: Run) -> None:
    expected = merge(run)
    start_over(run, keep_markers=False)
    pieces = merge_file.plan_merge(run, SMALL)
    random.Random(0).shuffle(pieces)
    for piece in [*pieces, *pieces[:2]]:
        merge_file.merge_piece(run, piece, merge_inputs(run))
    merge_file.finish_merge(run)
    assert final(run).read_bytes() == expected
    assert faiss.read_index(str(final(run))).ntotal == ROWS


def test_pieces_that_are_done_are_not_written_again(run: Run) -> None:
    pieces = merge_file.plan_merge(run, SMALL)
    merge_file.merge_piece(run, pieces[0], merge_inputs(run))
    again = merge_file.plan_merge(run, SMALL)
    assert again == pieces
    before = partial(run).stat().st_mtime_ns
    merge_file.merge_piece(run, again[0], merge_inputs(run))
    assert partial(run).stat().st_mtime_ns == before


def test_markers_without_the_file_that_they_speak_of_are_not_believed(run: Run) -> None:
    expected = merge(run)
    start_over(run, keep_markers=True)
    assert merge(run) == expected


def test_markers_are_not_believed_after_a_build_that_only_made_room_either(run: Run) -> None:
    expected = merge(run)
    start_over(run, keep_markers=True)
    merge_file.plan_merge(run, SMALL)
    assert merge(run) == expected


def test_a_file_of_another_size_is_not_believed(run: Run) -> None:
    expected = merge(run)
    start_over(run, keep_markers=True)
    partial(run).write_bytes(b"short")
    assert merge(run) == expected


def test_a_build_that_comes_late_writes_nothing(run: Run) -> None:
    late = merge_file.plan_merge(run, SMALL)
    expected = merge(run)
    for piece in late:
        merge_file.merge_piece(run, piece, merge_inputs(run))
    merge_file.finish_merge(run)
    assert final(run).read_bytes() == expected
    assert [path.name for path in final(run).parent.iterdir()] == ["index.faiss"]


def test_a_build_that_finished_first_may_take_the_temporary_name_away(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = merge(run)
    start_over(run, keep_markers=False)
    for piece in merge_file.plan_merge(run, SMALL):
        merge_file.merge_piece(run, piece, merge_inputs(run))
    link = os.link

    def other_is_faster(source: Path, target: Path) -> None:
        if target == final(run):
            link(source, target)
            partial(run).unlink()
        link(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", other_is_faster)
        merge_file.finish_merge(run)
    assert final(run).read_bytes() == expected


def test_the_temporary_name_of_a_merge_that_died_after_its_link_is_removed(run: Run) -> None:
    merge(run)
    os.link(final(run), partial(run))
    assert merge_file.plan_merge(run, SMALL) == []
    merge_file.finish_merge(run)
    assert not partial(run).exists()


def test_a_temporary_file_that_someone_removed_is_named(run: Run) -> None:
    pieces = merge_file.plan_merge(run, SMALL)
    partial(run).unlink()
    with pytest.raises(PixdexError, match=r"\.index\.faiss\.partial was removed .* run the same command again"):
        merge_file.merge_piece(run, pieces[0], merge_inputs(run))


def test_a_piece_that_comes_out_differently_is_refused(run: Run) -> None:
    piece = merge_file.plan_merge(run, SMALL)[0]
    merge_file.merge_piece(run, piece, merge_inputs(run))
    path = layout.marker(1, "merge", 1)
    (marker,) = run.markers("merge", [1], PieceMarker)
    run.store.local_path(path).unlink()
    run.commit("merge", 1, replace(marker, checksum="xxh3:0"))
    with pytest.raises(PixdexError, match="a shard index changed in between"):
        merge_file.merge_piece(run, piece, merge_inputs(run))


def test_a_shard_index_of_another_trained_index_is_refused(run: Run) -> None:
    (marker,) = run.markers("add", [0], ListsMarker)
    file = run.store.local_path(marker.lists.path)
    data = file.read_bytes()
    fingerprint = run.trained().trained.fingerprint.encode()
    if fingerprint not in data:
        pytest.skip("the format keeps the fingerprint in another spelling")
    file.write_bytes(data.replace(fingerprint, b"0" * len(fingerprint)))
    with pytest.raises(PixdexError):
        merge_file.plan_merge(run, SMALL)


def test_a_merge_imports_neither_torch_nor_faiss(run: Run) -> None:
    code = f"""
import sys
from transforms.runs.run import Run
from transforms.storage.store import Store
from transforms.tasks.merge import file, segments
from transforms.tasks.merge.inputs import merge_inputs
run = Run(Store({run.store.url!r}), 1)
inputs = merge_inputs(run)
for task in segments.plan_tier(run, 2):
    segments.merge_tier(run, task)
for piece in file.plan_merge(run, {SMALL}):
    file.merge_piece(run, piece, inputs)
file.finish_merge(run)
print({{"torch", "faiss", "apache_beam"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"
    assert final(run).is_file()


@pytest.mark.parametrize("target", ["theirs", "nowhere"])
def test_a_link_in_the_place_of_the_partial_file_is_not_written_through(run: Run, tmp_path: Path, target: str) -> None:
    (tmp_path / "theirs").write_bytes(b"theirs")
    start_over(run, keep_markers=False)
    partial(run).parent.mkdir(parents=True, exist_ok=True)
    partial(run).symlink_to(tmp_path / target)
    with pytest.raises(UsageError, match="is a link"):
        merge(run)
    assert (tmp_path / "theirs").read_bytes() == b"theirs" and not (tmp_path / "nowhere").exists()

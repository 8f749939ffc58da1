"""The merge stage: one ordinary faiss file, whoever wrote its pieces and however often."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import faiss
import pytest

from tests.end_to_end.builds import make_work_small
from tests.transforms.built import ROWS, run_up_to
from tests.transforms.small_runs import go, tasks
from transforms.runs.run import Run
from transforms.stages.merge import MergeBlocks
from transforms.storage import layout
from transforms.storage.store import Store


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with pytest.MonkeyPatch.context() as patch:
        yield run_up_to("merge", tmp_path_factory.mktemp("run"), patch)


@pytest.fixture
def run(once: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A copy of the run for each test: making one takes seconds."""
    make_work_small(monkeypatch)
    assert once.store.local is not None
    shutil.copytree(once.store.local, tmp_path / "root")
    return Run(Store.at(str(tmp_path / "root")), 1)


@pytest.mark.parametrize(
    "flags",
    [(), ("--direct_runner_bundle_repeat=1",), ("--direct_num_workers=2", "--direct_running_mode=multi_threading")],
    ids=["once", "twice", "threads"],
)
def test_the_pieces_become_one_file_under_its_name(run: Run, flags: tuple[str, ...]) -> None:
    go(MergeBlocks(run), *flags)
    folder = run.store.local_path("index/000001")
    assert [path.name for path in folder.iterdir()] == ["index.faiss"]
    assert faiss.read_index(str(folder / "index.faiss")).ntotal == ROWS
    assert tasks(run, "merge") > 1
    assert len(run.store.names(layout.marker_folder(1, "merge"))) > 2


def test_a_merge_that_is_done_is_left_alone(run: Run) -> None:
    go(MergeBlocks(run))
    before = run.store.local_path(layout.merged_index(1)).stat()
    go(MergeBlocks(run))
    after = run.store.local_path(layout.merged_index(1)).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)

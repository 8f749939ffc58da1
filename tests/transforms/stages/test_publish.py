"""Publishing: all of a generation or nothing of it."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.transforms.built import ROWS, run_up_to
from tests.transforms.small_runs import go, tasks
from transforms.errors import PixdexError
from transforms.generations import published
from transforms.markers import ListsMarker
from transforms.runs import beginning
from transforms.runs.run import Run
from transforms.stages.publish import PublishGeneration
from transforms.storage import layout
from transforms.storage.store import Store


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with pytest.MonkeyPatch.context() as patch:
        yield run_up_to("publish", tmp_path_factory.mktemp("run"), patch)


@pytest.fixture
def run(once: Run, tmp_path: Path) -> Run:
    """A copy of the run for each test: making one takes seconds."""
    assert once.store.local is not None
    shutil.copytree(once.store.local, tmp_path / "root")
    return Run(Store.at(str(tmp_path / "root")), 1)


@pytest.mark.parametrize("flags", [(), ("--direct_runner_bundle_repeat=1",)])
def test_the_generation_names_files_that_are_there(run: Run, flags: tuple[str, ...]) -> None:
    assert published.current(run.store) is None
    go(PublishGeneration(run), *flags)
    generation = published.current(run.store)
    assert generation is not None
    assert (generation.generation, generation.totals.vectors, generation.totals.texts) == (1, ROWS, ROWS)
    assert generation.next_shard == run.plan.shards
    for path in published.files(run.store, generation):
        assert run.store.exists(path)
    assert tasks(run, "publish") == 1


def test_publishing_again_changes_nothing(run: Run) -> None:
    go(PublishGeneration(run))
    before = run.store.read(layout.generation(1))
    tables = run.store.names(layout.TABLES)
    go(PublishGeneration(run))
    assert run.store.read(layout.generation(1)) == before
    assert run.store.names(layout.TABLES) == tables


def test_counts_that_do_not_agree_publish_nothing(run: Run) -> None:
    (marker,) = run.markers("add", [0], ListsMarker)
    run.store.local_path(layout.marker(1, "add", 0)).unlink()
    run.commit("add", 0, replace(marker, rows=marker.rows - 1))
    with pytest.raises(PixdexError, match=f"shards hold {ROWS} live rows, .* indexes {ROWS - 1}"):
        go(PublishGeneration(run))
    assert published.current(run.store) is None


def test_a_run_that_was_given_up_publishes_nothing(run: Run) -> None:
    beginning.abandon(run)
    with pytest.raises(PixdexError, match="given up"):
        go(PublishGeneration(run))
    assert published.current(run.store) is None

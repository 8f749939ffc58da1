"""The barrier between two stages."""

from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that

from tests.transforms.small_runs import begin, pictures, pipeline
from transforms.markers import StageMarker
from transforms.runs.run import Run
from transforms.stages.barrier import FinishStage


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return begin(tmp_path / "root", pictures(tmp_path))


def finish(run: Run, done: list[int], *flags: str) -> None:
    def check(found: list[StageMarker]) -> None:
        assert found == [run.stage_marker("add")]

    with pipeline(*flags) as p:
        assert_that(p | beam.Create(done) | FinishStage(run, "add"), check)


@pytest.mark.parametrize("flags", [(), ("--direct_runner_bundle_repeat=1",)])
def test_it_counts_the_tasks_and_hands_on_one_marker(run: Run, flags: tuple[str, ...]) -> None:
    finish(run, [5, 6, 7], *flags)
    marker = run.stage_marker("add")
    assert marker is not None and (marker.stage, marker.tasks) == ("add", 3)


def test_a_stage_without_tasks_is_done_too(run: Run) -> None:
    finish(run, [])
    marker = run.stage_marker("add")
    assert marker is not None and marker.tasks == 0


def test_the_first_marker_stands(run: Run) -> None:
    finish(run, [1, 2])
    first = run.stage_marker("add")
    finish(run, [1])
    assert run.stage_marker("add") == first


def test_a_stage_with_a_failed_task_is_not_done(run: Run) -> None:
    def fail(task: int) -> int:
        raise ValueError(f"task {task}")

    p = pipeline()
    _ = p | beam.Create([1]) | beam.Map(fail) | FinishStage(run, "add")
    with pytest.raises(Exception, match="task 1"):
        p.run().wait_until_finish()
    assert run.stage_marker("add") is None

"""How far a run is, from its markers and beacons."""

from pathlib import Path

import pytest

from tests.transforms.runs.planned import FIRST, embed, light, over, plan
from tests.transforms.small_runs import begin, pictures
from transforms.runs.progress import RunProgress, StageProgress, stage_seconds
from transforms.runs.run import STAGES, Run, Stage
from transforms.storage import layout


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return begin(tmp_path / "root", pictures(tmp_path))


def current(progress: RunProgress) -> StageProgress:
    found = progress.look().current
    assert found is not None
    return found


def test_items_of_shards_are_counted_and_of_those_at_work_the_part_that_is_done(run: Run) -> None:
    progress = RunProgress(run)
    assert current(progress) == StageProgress("plan", "items", 0, None, 0)
    plan(run)
    assert current(progress) == StageProgress("embed", "items", 0, 500, 0)
    embed(run, FIRST, rejected=7, spent=1.5)
    light(run, "embed", FIRST + 1, 0.5)
    light(run, "embed", FIRST, 0.9)  # of a task that is done it says nothing
    assert current(progress) == StageProgress("embed", "items", 250, 500, 1, rejected=7)
    embed(run, FIRST + 1, rejected=1, spent=0.5)
    look = progress.look()
    assert look.embedded.items == 400 and look.embedded.embedded == 392 and look.embedded.rows == 784
    assert look.embedded.spent == {"encode": 2.0}


def test_a_stage_that_is_over_is_all_done_and_blocks_are_weighed_by_the_rows_that_shards_have(run: Run) -> None:
    plan(run)
    for shard in range(FIRST, FIRST + 4):
        embed(run, shard, rejected=10)
    over(run, "embed", tasks=4)
    progress = RunProgress(run)
    assert [(each.stage, each.done, each.planned) for each in progress.look().stages[:2]] == [
        ("plan", 500, 500),
        ("embed", 500, 500),
    ]
    over(run, "keys", tasks=1)
    over(run, "tombstones", "drift", tasks=0)
    assert current(progress) == StageProgress("sample", "vectors", 0, 920, 0)
    run.store.create(layout.marker(1, "sample", 0), b"{}")
    run.store.create(f"{layout.sample_folder(1)}/block-0000000000-8f9672b640ad28fa.ivf", b"")  # which is no marker
    assert current(progress) == StageProgress("sample", "vectors", 760, 920, 1)
    assert [each.stage for each in progress.look().stages if each.is_empty] == ["tombstones", "drift"]


def test_passes_have_as_many_tasks_as_there_are_groups_of_cells(run: Run) -> None:
    plan(run)
    over(run, *STAGES[1 : STAGES.index("cells")], tasks=0)
    progress = RunProgress(run)
    assert current(progress).planned is None
    over(run, "cells", tasks=6)
    assert current(progress) == StageProgress("pass1", "tasks", 0, 6, 0)
    light(run, "pass1", 3, 0.5)
    assert current(progress).share == pytest.approx(1 / 12)


def test_only_the_stages_that_are_asked_for_are_looked_at(run: Run) -> None:
    plan(run)
    over(run, "embed", tasks=0)
    assert RunProgress(run, "embed").look().current is None
    assert [each.stage for each in RunProgress(run, "embed").look().stages] == ["plan", "embed"]


def test_a_worker_gives_a_sign_by_a_marker_a_beacon_or_a_stage(run: Run) -> None:
    progress = RunProgress(run)
    signs = [progress.look().sign]

    def differs() -> bool:
        signs.append(progress.look().sign)
        return signs[-1] != signs[-2]

    assert not differs()
    plan(run)
    assert differs() and not differs()
    embed(run, FIRST)
    assert differs()
    light(run, "embed", FIRST + 1, 0.0)
    assert differs() and not differs()
    light(run, "embed", FIRST + 1, 0.0)  # nothing more is done, but it is written anew
    assert differs()


def test_looking_reads_a_marker_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    plan(run)
    read: list[int] = []
    really = Run.markers

    def markers(self: Run, stage: Stage, tasks: list[int], kind: type) -> list[object]:
        read.extend(tasks)
        return really(self, stage, tasks, kind)

    monkeypatch.setattr(Run, "markers", markers)
    progress = RunProgress(run)
    for shard in range(FIRST, FIRST + 3):
        embed(run, shard)
        progress.look()
        progress.look()
    assert read == [FIRST, FIRST + 1, FIRST + 2]


def test_seconds_are_those_of_the_stages_that_this_job_ran(run: Run) -> None:
    over(run, "plan", at=100)
    over(run, "embed", "sample", at=200)
    assert stage_seconds(run, 150) == {"embed": 51.0, "sample": 1.0}
    assert stage_seconds(run, 0) == {"plan": 101.0, "embed": 100.0, "sample": 1.0}
    assert stage_seconds(run, 300) == {}

"""Which process works on a run, for whoever looks on."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.transforms.small_runs import begin, pictures
from transforms.record_json import encode
from transforms.runs import beacons, worked_on
from transforms.runs.run import Run
from transforms.runs.worked_on import Process
from transforms.storage import layout


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return begin(tmp_path / "root", pictures(tmp_path))


def test_it_is_told_while_it_works_and_no_longer(run: Run) -> None:
    with worked_on.by_this_process(run):
        assert worked_on.process_of(run) == Process.here() and not Process.here().is_gone
    assert worked_on.process_of(run) is None


def test_one_that_failed_stays_named_until_the_next_begins(run: Run) -> None:
    with pytest.raises(KeyError), worked_on.by_this_process(run):
        raise KeyError
    assert worked_on.process_of(run) == Process.here()
    beacons.clear(run)
    assert worked_on.process_of(run) is None


def test_one_that_ends_leaves_the_name_of_one_that_came_later(run: Run) -> None:
    later = replace(Process.here(), pid=1)
    with worked_on.by_this_process(run):
        run.store.overwrite(layout.worked_on(run.generation), encode(later))
    assert worked_on.process_of(run) == later


def test_a_number_that_was_given_away_again_is_another_process() -> None:
    assert replace(Process.here(), started="another boot 17").is_gone
    assert not replace(Process.here(), host="elsewhere", started="another boot 17").is_gone


def test_what_cannot_be_read_says_nothing(run: Run) -> None:
    run.store.overwrite(layout.worked_on(run.generation), b"{")
    assert worked_on.process_of(run) is None

"""Progress, read from markers and shown beside the work."""

import contextlib
import io
import json
import os
import sys
import termios
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.terminal.progress import lines, shown
from pipelines.terminal.progress.shown import Way, shown_parts, way_of
from tests.transforms.runs.planned import FIRST, embed, light, over, plan
from tests.transforms.small_runs import begin, pictures
from transforms.errors import UsageError
from transforms.runs.run import STAGES, Run, Stage

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return begin(tmp_path / "root", pictures(tmp_path))


def finish(run: Run, *stages: Stage) -> None:
    over(run, *stages, at=time.time())


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def until(is_so: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown, "_SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr(shown, "_SHARE_OF_TIME", 0)
    monkeypatch.setattr(shown, "_SHARE_OF_PROCESSOR", 0)
    monkeypatch.setattr(lines, "SECONDS_TO_BEGIN", 0.0)
    monkeypatch.setattr(lines, "SECONDS_BETWEEN", 0.0)


def test_on_no_terminal_each_stage_is_one_line_that_ends_at_100(run: Run, capsys: Capture) -> None:
    with shown.shown(run, "lines"):
        plan(run)
        for shard in range(FIRST, FIRST + 4):
            embed(run, shard, rejected=2)
        finish(run, *STAGES[1:])
    said = capsys.readouterr().err.splitlines()
    assert [(line.split("  ")[0], line[13:18]) for line in said] == [
        (name, "100 %")
        for name in (
            *("plan", "embed", "keys", "tombstones", "drift", "train", "add", "compact", "first merge", "merge"),
            "publish",
        )
    ]
    assert said[1].startswith("embed        100 %  500 items  ") and "  8 rejected  in 0:0" in said[1]


def test_a_stage_without_tasks_has_no_line(run: Run, capsys: Capture) -> None:
    plan(run)
    over(run, *(stage for stage in STAGES[2:] if stage not in ("tier", "tombstones")))
    over(run, "embed", "tier", "tombstones", tasks=0)
    with shown.shown(run, "lines"):
        pass
    said = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in said] == [
        "plan",
        "keys",
        "drift",
        "train",
        "add",
        "compact",
        "merge",
        "publish",
    ]
    assert all(line.endswith("done before") for line in said)


def test_a_stage_that_never_ended_is_not_said_to_be_done(run: Run, capsys: Capture) -> None:
    with shown.shown(run, "lines"):
        plan(run)
        embed(run, FIRST)
    said = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in said] == ["plan"]


@pytest.mark.parametrize("way", ["bar", "lines", "json", "none"])
def test_an_error_of_the_job_comes_through(run: Run, way: Way) -> None:
    with pytest.raises(ValueError, match="mine"), shown.shown(run, way):
        raise ValueError("mine")


def test_it_can_be_left_out(run: Run, capsys: Capture) -> None:
    with shown.shown(run, "none"):
        plan(run)
        over(run, *STAGES[1:])
    assert capsys.readouterr().err == ""


def test_what_cannot_be_read_disturbs_no_job(run: Run, capsys: Capture, quickly: None) -> None:
    plan(run)
    (file,) = run.store.local_path("plans/000001").glob("partitions*")
    content = file.read_bytes()
    file.unlink()
    with shown.shown(run, "lines"):
        time.sleep(0.1)
        file.write_bytes(content)
        until(lambda: "embed" in capsys.readouterr().err)


def test_json_is_an_event_a_line_and_ends_at_its_plan(run: Run, capsys: Capture) -> None:
    with shown.shown(run, "json", last="embed"):
        plan(run)
        for shard in range(FIRST, FIRST + 4):
            embed(run, shard, rejected=1)
        finish(run, "embed")
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    fields = {
        *("event", "stage", "step", "done", "planned", "unit", "share", "rate", "eta_seconds", "all_eta_seconds"),
        *("rejected", "seconds", "generation", "at"),
    }
    assert all(fields <= set(event) for event in events)
    assert all(event.keys() - fields == ({"state"} if event["event"] == "stage" else set()) for event in events)
    last = events[-1]
    assert (last["event"], last["state"], last["stage"]) == ("stage", "done", "embed")
    assert (last["done"], last["planned"], last["unit"], last["rejected"]) == (500, 500, "items", 4)
    assert (last["eta_seconds"], last["all_eta_seconds"], last["share"]) == (0.0, 0.0, 1.0)


def test_json_says_of_a_stage_that_it_was_left(run: Run, capsys: Capture) -> None:
    plan(run)
    with pytest.raises(ValueError, match="mine"), shown.shown(run, "json"):
        embed(run, FIRST)
        raise ValueError("mine")
    last = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert (last["event"], last["state"], last["stage"], last["done"]) == ("stage", "stopped", "embed", 100)


def test_on_a_terminal_a_bar_counts_items_and_those_of_shards_at_work(
    run: Run, monkeypatch: pytest.MonkeyPatch, quickly: None
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    plan(run)
    with shown.shown(run, "bar"):
        embed(run, FIRST)
        until(lambda: "100 of 500 items" in terminal.getvalue())
        light(run, "embed", FIRST + 1, 0.5)
        until(lambda: "250 of 500 items" in terminal.getvalue())
    assert "500 of 500" not in terminal.getvalue()


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Callable[[], str]]]:
    """Makes stderr a terminal of so many columns; returns what reads it, once nothing more is written."""
    ours, theirs = os.openpty()
    shown_bytes = bytearray()

    def drain() -> None:
        with contextlib.suppress(OSError):  # the other side is closed
            while data := os.read(ours, 4096):
                shown_bytes.extend(data)

    reader, terminal = threading.Thread(target=drain), os.fdopen(theirs, "w")
    reader.start()

    def of(columns: int) -> Callable[[], str]:
        termios.tcsetwinsize(theirs, (0, columns))
        monkeypatch.setattr(sys, "stderr", terminal)

        def read() -> str:
            terminal.close()
            reader.join()
            return shown_bytes.decode()

        return read

    yield of
    terminal.close()
    reader.join()
    os.close(ours)


@pytest.mark.parametrize("way", ["bar", "lines"])
@pytest.mark.parametrize("columns", [20, 33, 60, 100])
def test_no_line_is_longer_than_the_terminal(
    run: Run, screen: Callable[[int], Callable[[], str]], way: Way, columns: int, quickly: None
) -> None:
    read = screen(columns)
    with shown.shown(run, way):
        time.sleep(0.05)
        plan(run)
        for shard in range(FIRST, FIRST + 4):
            embed(run, shard, rejected=3)
            time.sleep(0.05)
        finish(run, *STAGES[1:])
    drawn = [line for text in read().replace("\x1b[A", "").split("\n") for line in text.split("\r")]
    assert any("embed" in line for line in drawn)
    assert not [line for line in drawn if len(line) > columns]


def options(progress: str | None = None, *, no_progress: bool = False) -> Namespace:
    return Namespace(progress=progress, no_progress=no_progress)


@pytest.mark.parametrize(("columns", "way"), [(0, "lines"), (19, "lines"), (80, "bar")])
def test_a_terminal_of_few_columns_gets_lines(
    screen: Callable[[int], Callable[[], str]], columns: int, way: Way
) -> None:
    screen(columns)
    assert way_of(options()) == way_of(options("bar")) == way
    assert way_of(options("json")) == "json"


def test_elsewhere_than_on_a_terminal_it_is_lines_unless_something_else_is_asked_for() -> None:
    assert [way_of(options(way)) for way in (None, *shown.WAYS)] == ["lines", "lines", "lines", "json", "none"]
    assert way_of(options(no_progress=True)) == way_of(options("none", no_progress=True)) == "none"
    with pytest.raises(UsageError, match="--no-progress is --progress none, and --progress json is asked for"):
        way_of(options("json", no_progress=True))


def test_parts_are_shown_to_their_end(capsys: Capture) -> None:
    with shown_parts("answer", lambda: (3, 3), "lines"):
        pass
    assert capsys.readouterr().err == "answer       100 %  3 parts  in 0:00\n"


def test_looking_takes_no_more_than_a_tenth_of_the_time() -> None:
    assert shown.pause_after(0.001) == 0.5
    assert shown.pause_after(3) == 30
    assert shown.pause_after(0.02, 0.02) == 4  # and no more than .5 % of a processor

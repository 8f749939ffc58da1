"""A progress bar read from commit markers, so that it tells the truth on every runner and after every restart."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

from tqdm import tqdm

from pipelines.terminal import console
from transforms.runs.run import STAGES, Run, Stage
from transforms.storage import layout

_SECONDS_BETWEEN_LOOKS = 0.5
_BAR = "{desc} {bar:24} {n_fmt}/{total_fmt} {unit} [{elapsed}]"
_ROWS = 20
"""Of the terminal: one bar is shown at a time, also by a terminal that says it has none."""


@contextlib.contextmanager
def shown(run: Run, *, wanted: bool, last: Stage = "publish") -> Iterator[None]:
    """Shows the stages of a run on stderr while the block runs; where no bar can be drawn, a line a stage."""
    with _beside(partial(_watch, run, last), wanted=wanted):
        yield


@contextlib.contextmanager
def shown_parts(what: str, look: Callable[[], tuple[int, int | None]], *, wanted: bool) -> Iterator[None]:
    """Shows how many parts are done, and of how many, as `look` says it, while the block runs."""
    with _beside(partial(_count, what, look), wanted=wanted):
        yield


@contextlib.contextmanager
def _beside(watch: Callable[[threading.Event], None], *, wanted: bool) -> Iterator[None]:
    """Runs what watches, until it is told to stop, in a thread of its own beside the block."""
    if not wanted:
        yield
        return
    stop = threading.Event()
    watcher = threading.Thread(target=watch, args=(stop,), name="progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


def stage_seconds(run: Run, since: float) -> dict[str, float]:
    """Returns the seconds that each stage took in this run of the job; a stage that was done before is left out.

    Args:
        run: the run.
        since: when the job started, in seconds since the epoch.
    """
    seconds: dict[str, float] = {}
    before = since
    for stage in STAGES:
        marker = run.stage_marker(stage)
        if marker is not None and marker.finished > since:
            seconds[stage] = round(max(0.0, marker.finished - before), 3)
            before = max(before, marker.finished)
    return seconds


def _count(what: str, look: Callable[[], tuple[int, int | None]], stop: threading.Event) -> None:
    with tqdm(desc=f"{what:>10}", bar_format=_BAR, file=sys.stderr, disable=not console.is_live(), nrows=_ROWS) as bar:
        bar.unit = "parts"
        while True:
            stopped, looked = stop.is_set(), time.monotonic()
            bar.n, bar.total = look()
            bar.refresh()
            if stopped:
                return
            _wait(stop, looked)


def _watch(run: Run, last: Stage, stop: threading.Event) -> None:
    live = console.is_live()
    for stage in STAGES[: STAGES.index(last) + 1]:
        with tqdm(desc=f"{stage:>10}", bar_format=_BAR, file=sys.stderr, disable=not live, nrows=_ROWS) as bar:
            while True:
                stopped, looked = stop.is_set(), time.monotonic()
                finished = run.stage_marker(stage)
                done = len(run.store.names(layout.marker_folder(run.generation, stage)))
                bar.total = run.tasks(stage) or (max(done, 1) if finished else None)
                bar.n = bar.total if finished else done
                bar.unit = _unit(stage, bar.total)
                bar.refresh()
                if finished or stopped:
                    bar.leave = finished is None or finished.tasks > 0  # a stage without tasks leaves no line
                    break
                _wait(stop, looked)
        if finished is None:
            return
        if not live and finished.tasks:
            console.say(f"{stage:>10} done: {finished.tasks} {_unit(stage, finished.tasks)}")


def _wait(stop: threading.Event, looked: float) -> None:
    """Listing many markers takes a store some time: no more than a tenth of it goes into looking."""
    stop.wait(max(_SECONDS_BETWEEN_LOOKS, 10 * (time.monotonic() - looked)))


def _unit(stage: Stage, count: int | None) -> str:
    one, many = _UNITS[stage]
    return one if count == 1 else many


_BLOCKS, _GROUPS, _LISTS = ("block", "blocks"), ("group of cells", "groups of cells"), ("set of lists", "sets of lists")
_UNITS: dict[Stage, tuple[str, str]] = {
    "plan": ("plan", "plans"),
    "embed": ("shard", "shards"),
    "keys": ("key bucket", "key buckets"),
    "tombstones": ("folder of shards", "folders of shards"),
    "drift": ("measurement", "measurements"),
    "sample": _BLOCKS,
    "parents": ("set of parents", "sets of parents"),
    "route": _BLOCKS,
    "cells": _GROUPS,
    "pass1": _GROUPS,
    "move1": _LISTS,
    "pass2": _GROUPS,
    "move2": _LISTS,
    "train": ("trained index", "trained indexes"),
    "add": _BLOCKS,
    "compact": _BLOCKS,
    "tier": ("file", "files"),
    "merge": ("piece", "pieces"),
    "publish": ("generation", "generations"),
}

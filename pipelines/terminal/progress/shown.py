"""Shows how a run goes while it goes: looks at its markers beside the work, and hands on what they tell.

Cost: a look every half second, or so seldom that no more than a tenth of the time goes into looking, for listing many
markers takes a store some time, and no more than .5 % of that of a processor.
"""

import contextlib
import logging
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal, Protocol, get_args

from pipelines.terminal import console
from pipelines.terminal.progress import ahead
from pipelines.terminal.progress.follow import Follower, PartsFollower
from pipelines.terminal.progress.metrics import Metrics
from pipelines.terminal.progress.words import Event
from transforms.errors import UsageError
from transforms.runs.progress import RunProgress
from transforms.runs.run import Run, Stage

Way = Literal["bar", "lines", "json", "none"]
WAYS: Final[tuple[Way, ...]] = get_args(Way)

_SECONDS_BETWEEN_LOOKS = 0.5
_SHARE_OF_TIME: Final = 10
_SHARE_OF_PROCESSOR: Final = 200
_SECONDS_FOR_THRIFT: Final = 5.0
"""Once, a look may be dear: what is planned is read."""

_LOG = logging.getLogger(__name__)


class Sink(Protocol):
    """A way of showing events."""

    def show(self, event: Event) -> None:
        """Shows one; a sink may leave out what comes too soon."""

    def close(self) -> None:
        """Is called once, at the end."""


def way_of(options: Namespace) -> Way:
    """Returns how progress is to be shown: as the options say, else a bar on a terminal and lines elsewhere.

    Raises:
        UsageError: they say two things.
    """
    asked: Way | None = options.progress
    if options.no_progress and asked not in (None, "none"):
        raise UsageError(f"--no-progress is --progress none, and --progress {asked} is asked for, too: leave one out")
    if options.no_progress:
        return "none"
    wanted = asked or "bar"
    return "lines" if wanted == "bar" and not console.is_live() else wanted


def is_quiet(way: Way) -> bool:
    """Tells whether nothing else is said on the way, either: nobody listens, or a program does."""
    return way in ("none", "json")


def sink_of(way: Way) -> Sink | None:
    """Returns what shows events in a way."""
    if way == "bar":
        from pipelines.terminal.progress.bar import Bars  # noqa: PLC0415 - tqdm, which only a terminal needs

        return Bars()
    if way == "lines":
        from pipelines.terminal.progress.lines import Lines  # noqa: PLC0415 - one of three is needed

        return Lines()
    if way == "json":
        from pipelines.terminal.progress.json_lines import JsonLines  # noqa: PLC0415 - likewise

        return JsonLines()
    return None


@dataclass
class Watching:
    """Somebody who looks at a run, from one thread.

    Attributes:
        progress: what is looked at.
        follower: makes events of it.
        sink: shows them; None: nobody does.
        metrics: keeps what is seen; None: nobody does.
        is_over: whether the run is over when the watching is; its job may go on without this command.
        cpu_seconds: that the looks took.
    """

    progress: RunProgress
    follower: Follower
    sink: Sink | None
    metrics: Metrics | None = None
    is_over: bool = True
    cpu_seconds: float = field(default=0.0, init=False)

    def look(self) -> object:
        """Looks once, and returns what differs where a worker has given a sign of life."""
        look, now = self.progress.look(), time.time()
        left: float | None = None
        for event in self.follower.take(look, now):
            left = event.all_left
            if self.sink is not None:
                self.sink.show(event)
        if self.metrics is not None:
            self.metrics.refresh(look, left)
        return look.sign

    def stop(self) -> None:
        """Says of the stage that is at work, if one is, that nobody looks on."""
        event = self.follower.stop(time.time())
        if self.sink is not None:
            if event is not None:
                self.sink.show(event)
            self.sink.close()


def watching(run: Run, way: Way, last: Stage = "publish", metrics: Metrics | None = None, workers: int = 1) -> Watching:
    """Returns somebody who looks at a run."""
    follower = Follower(last, partial(ahead.expected, run, workers))
    return Watching(RunProgress(run, last), follower, sink_of(way), metrics)


@contextlib.contextmanager
def shown(
    run: Run, way: Way, *, last: Stage = "publish", metrics: Metrics | None = None, workers: int = 1
) -> Iterator[Watching]:
    """Shows the stages of a run on stderr, and keeps its metrics, while the block runs."""
    seen = watching(run, way, last, metrics, workers)
    if metrics is not None:
        metrics.begin(run)
    succeeded = False
    try:
        with _beside(seen.look, seen, wanted=seen.sink is not None or metrics is not None):
            yield seen
        succeeded = True
    finally:
        seen.stop()
        if metrics is not None and (seen.is_over or not succeeded):
            metrics.finish(succeeded=succeeded)


@contextlib.contextmanager
def shown_parts(what: str, look: Callable[[], tuple[int, int | None]], way: Way) -> Iterator[None]:
    """Shows how many parts are done, and of how many, as `look` says it, while the block runs."""
    sink = sink_of(way)
    if sink is None:
        yield
        return
    follower = PartsFollower(what, look)

    def show() -> None:
        for event in follower.take(time.time()):
            sink.show(event)

    try:
        with _beside(show, None, wanted=True):
            yield
    finally:
        if (event := follower.stop(time.time())) is not None:
            sink.show(event)
        sink.close()


def pause_after(seconds: float, cpu_seconds: float = 0.0) -> float:
    """Returns how long to wait after a look that took so many seconds, and so many of a processor."""
    thrifty = min(_SECONDS_FOR_THRIFT, _SHARE_OF_PROCESSOR * cpu_seconds)
    return max(_SECONDS_BETWEEN_LOOKS, _SHARE_OF_TIME * seconds, thrifty)


@contextlib.contextmanager
def _beside(look: Callable[[], object], seen: Watching | None, *, wanted: bool) -> Iterator[None]:
    """Looks again and again in a thread of its own beside the block, and once more at its end."""
    if not wanted:
        yield
        return
    stop = threading.Event()

    def watch() -> None:
        is_last = False
        while not is_last:
            is_last, began, computed = stop.is_set(), time.monotonic(), time.thread_time()
            try:
                look()
            except Exception as error:  # noqa: BLE001 - what cannot be seen now may be next time; the work goes on
                _LOG.debug("progress could not be read: %s", error)
            if not is_last:
                stop.wait(pause_after(time.monotonic() - began, time.thread_time() - computed))
        if seen is not None:
            seen.cpu_seconds = time.thread_time()

    watcher = threading.Thread(target=watch, name="progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()

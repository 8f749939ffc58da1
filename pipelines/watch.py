"""Follows a run that was begun elsewhere, and ends with it: how far, how fast, for how long still.

    pixdex watch --root ./photos                          # the run that is under way, if any
    pixdex watch --root gs://bucket/photos --wait         # or the next one
    pixdex watch --root ./photos --progress json          # for programs
    pixdex watch --root ./photos --progress none --metrics /var/lib/node_exporter/photos.prom

All of it is read from the root, so that it is the same for a job on Flink, on Dataflow or in the next terminal. Needs
neither the job's flags nor its machine, only a root that can be read.

Exit codes: 0 when the generation is published, when a reindex found nothing to do, or when nothing is under way; 1 when
the run was given up, when the process that had it is dead (a build's: where it was of this machine), or when nothing
was heard of it for ten minutes (--stalled-after), with a line that says what was seen last; 130 when it is interrupted,
which stops nothing but this command. The last line on stdout is one JSON object: {"generation", "published",
"seconds"}; published tells whether a run was followed that was published: of none, or where there was nothing to do,
generation is the current one.
"""

import logging
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from pipelines.terminal import command_line, console, flags, process
from pipelines.terminal.flags import Flag, Group, seconds, switch
from pipelines.terminal.options import ROOT, root_of
from pipelines.terminal.progress import words
from pipelines.terminal.progress.metrics import Metrics
from pipelines.terminal.progress.shown import Watching, pause_after, watching, way_of
from transforms.errors import PixdexError, UsageError
from transforms.generations import published
from transforms.runs import beginning, worked_on
from transforms.runs.progress import stage_seconds
from transforms.runs.run import Run
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.upkeep import lease

SILENCE: Final = 600.0
"""Seconds; workers write how far they are every few of them, but a cluster may take minutes to start some."""

OPTIONS: Final = (
    ROOT,
    Group(
        "WatchOptions",
        "What is followed, and how that is shown",
        (
            switch("--wait", "wait for a run to begin, where none is under way"),
            Flag(
                "--stalled-after",
                "SECONDS",
                "a run of which nothing is heard for so long is said to be stalled (default 600)",
                seconds,
                default=SILENCE,
            ),
            *flags.PROGRESS,
            flags.METRICS_FILE,
        ),
    ),
)

_GRACE: Final = 30.0
"""Seconds for a run that was silent for long when this command began: it may just be going on."""

_SECONDS_OF_ANOTHER: Final = 15.0
"""Two commands may work on one run, of which the root names the last: the other's beacons are heard in less."""

_SECONDS_TO_END: Final = 10.0
"""Between the generation, or that it was given up, and the marker of the last stage."""

_LOG = logging.getLogger(__name__)

State = Literal["at work", "published", "nothing to do", "given up", "dead"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: watch(arguments))


def watch(argv: Sequence[str]) -> int:
    """Finds the run, follows it, and says what became of it."""
    options = command_line.parse("watch", __doc__, argv, OPTIONS)
    store, way = root_of(options), way_of(options)
    metrics = Metrics.of(options.metrics, store.url)
    newest = _newest(store)  # before the next line: a run that begins now is one of the two
    run = beginning.unfinished(store)
    if run is None and not options.wait:
        return _nothing(store, max(published.numbers(store), default=0))
    if run is None:
        console.say(f"{store.url}: waiting for a run to begin")
        run = _next_run(store, newest)
    since = store.changed(layout.request(run.generation))
    if metrics is not None:
        metrics.begin(run, since)
    console.say(f"following the run of generation {run.generation}, begun {_ago(since)}")
    following = _Following(run, watching(run, way, metrics=metrics), options)
    state: State = "dead"
    try:
        state = following.to_the_end()
    finally:
        following.seen.stop()
        if metrics is not None and not isinstance(sys.exception(), KeyboardInterrupt):
            metrics.finish(succeeded=state in ("published", "nothing to do"))
    is_published = state == "published"
    number = run.generation if is_published else max(published.numbers(store), default=0)
    console.say(
        f"{store.url}: generation {number} is published"
        if is_published
        else f"{store.url}: nothing to do, generation {number} is up to date"
    )
    console.show_json({"generation": number, "published": is_published, "seconds": stage_seconds(run, since)})
    return console.DONE


def _nothing(store: Store, current: int) -> int:
    """Says that no run is under way.

    Raises:
        UsageError: nor was there ever one that was published.
    """
    if not current:
        raise UsageError(
            f"{store.url} has no run and no generation: begin one with pixdex build, or wait for it with --wait"
        )
    console.say(f"{store.url}: no run is under way, generation {current} is the current one")
    console.show_json({"generation": current, "published": False, "seconds": {}})
    return console.DONE


def _newest(store: Store) -> int:
    """The number of the newest run, finished or not; 0: there never was one. Cost: one listing."""
    return max((int(name) for name in store.names(layout.PLANS) if name.isdecimal()), default=0)


def _next_run(store: Store, before: int) -> Run:
    """Waits for a run with a higher number, which may be over before it is seen."""
    while True:
        looked = time.monotonic()
        number = _newest(store)
        if number > before and store.exists(layout.request(number)):
            return Run(store, number)
        time.sleep(pause_after(time.monotonic() - looked))


@dataclass
class _Following:
    """A run on its way to its end, or to what looks like one."""

    run: Run
    seen: Watching
    options: Namespace
    _heard: float = field(default_factory=time.monotonic)
    _sign: object = None
    _holder: lease.Lease | None = None
    _process: worked_on.Process | None = None

    def to_the_end(self) -> State:
        """Shows how it goes until it is over.

        Raises:
            PixdexError: it came to no good end, or nothing is heard of it.
        """
        patience = self._patience()
        state: State = "at work"
        while True:
            looked = time.monotonic()
            try:
                self._look()
                state = self._state()
            except PixdexError:
                raise
            except Exception as error:  # noqa: BLE001 - a store may fail for a moment: that is silence, and has its end
                _LOG.warning("%s could not be read: %s", self.run.store.url, error)
            if state != "at work":
                break
            if looked - self._heard >= patience:
                raise PixdexError(
                    f"{self.run.store.url}: nothing was heard of the run of generation {self.run.generation} for "
                    f"{max(patience, looked - self._heard):.0f} seconds{self._where()}: look at its job, or run its "
                    "command again, which goes on from there"
                )
            time.sleep(pause_after(time.monotonic() - looked))
        if state in ("published", "nothing to do"):
            self._look()
            return state
        if state == "given up":
            raise PixdexError(
                f"{self.run.store.url}: the run of generation {self.run.generation} was given up{self._where()}"
            )
        who = "the process that had it" if self._process is None else self._process.name
        if self._holder is not None:
            who = lease.who(self._holder)
        raise PixdexError(
            f"{self.run.store.url}: {who} has ended without publishing generation {self.run.generation}"
            f"{self._where()}: run its command again, which goes on from there"
        )

    def _patience(self) -> float:
        """Seconds of silence that are taken for none; a run that was silent for long before gets fewer."""
        limit: float = self.options.stalled_after
        last = max(lease.last_marker(self.run.store, self.run.generation), self._begun())
        return min(limit, _GRACE) if time.time() - last >= limit else limit

    def _begun(self) -> float:
        return self.run.store.changed(layout.request(self.run.generation))

    def _look(self) -> None:
        sign = self.seen.look()
        if sign != self._sign:
            self._sign, self._heard = sign, time.monotonic()

    def _state(self) -> State:
        store, number = self.run.store, self.run.generation
        if store.exists(layout.generation(number)):
            self._wait_for_publish()
            return "published"
        if store.exists(layout.abandoned(number)):
            # A reindex that finds nothing to do gives its number up, and comes to its end.
            may_end = self.run.stage_marker("merge") is not None and self.run.request.reindex is not None
            return "nothing to do" if may_end and self._wait_for_publish() else "given up"
        holder = lease.current(store)
        if holder is not None and holder.run == number:
            self._holder = holder
            return "at work" if lease.is_alive(store, holder) else "dead"
        if self._holder is None and not self._is_deserted():  # a build has no lease
            return "at work"
        # The process that had it came to an end; what it did last may not have been seen yet.
        is_over = any(store.exists(path) for path in (layout.generation(number), layout.abandoned(number)))
        return self._state() if is_over else "dead"

    def _is_deserted(self) -> bool:
        """Whether the process that had the run has ended here, and nobody else shows that he is at work on it."""
        if time.monotonic() - self._heard < _SECONDS_OF_ANOTHER:
            return False
        self._process = worked_on.process_of(self.run)
        return self._process is not None and self._process.is_gone

    def _wait_for_publish(self) -> bool:
        """Waits a moment for the marker of the last stage; returns whether it came."""
        until = time.monotonic() + _SECONDS_TO_END
        while self.run.stage_marker("publish") is None:
            if time.monotonic() > until:
                return False
            time.sleep(0.1)
        return True

    def _where(self) -> str:
        """How far it was."""
        latest = self.seen.follower.latest
        return "" if latest is None else f" ({words.place(latest)})"


def _ago(since: float) -> str:
    return f"{words.duration(max(0.0, time.time() - since))} ago"


if __name__ == "__main__":
    process.run(main)

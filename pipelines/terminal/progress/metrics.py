"""What a run does, for Prometheus: a text file, as node exporter collects it, or a Pushgateway. From markers alone.

Names and labels are in pipelines/README.md; every sample has the root as a label, so that files of several roots can
lie beside each other.
"""

import logging
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from transforms.errors import UsageError
from transforms.generations import published, sizes
from transforms.runs.progress import RunLook, stage_seconds
from transforms.runs.run import Run
from transforms.storage.addresses import without_credentials
from transforms.storage.store import Store
from transforms.tasks.embed.reject_ratio import reasons_of_run

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

SECONDS_BETWEEN: Final = 10.0
_SECONDS_AFTER_FAILURE: Final = 60.0
"""A gateway that is away takes its time to say so, and meanwhile nobody looks at the run."""

_PUSH_SECONDS: Final = 10.0
_CONNECT_SECONDS: Final = 5.0
_JOB: Final = "pixdex"
_GROUPS: Final = 10_000

_LOG = logging.getLogger(__name__)

Labels = tuple[str, ...]


@dataclass(frozen=True)
class Sample:
    """A number, and what it is of: values of the labels of its name."""

    name: str
    value: float
    labels: Labels = ()


NAMES: Final[Mapping[str, tuple[str, Labels]]] = {
    "run_generation": ("generation that the run makes", ()),
    "run_running": ("whether it is at work", ()),
    "run_success": ("whether it came to its end; absent while it is at work", ()),
    "run_start_timestamp_seconds": ("when it, or this attempt at it, began", ()),
    "run_end_timestamp_seconds": ("when it ended", ()),
    "run_eta_seconds": ("how long it will still take", ()),
    "items_planned": ("items that the run is to embed", ()),
    "items_embedded_total": ("items that the run embedded", ()),
    "items_rejected_total": ("items that it rejected", ()),
    "rows_embedded_total": ("vectors that it embedded", ()),
    "rejects_total": ("rejects by reason, at the end of a run", ("stage", "type")),
    "stage_done": ("what is done of a stage", ("stage", "unit")),
    "stage_planned": ("what is planned of it", ("stage", "unit")),
    "stage_seconds": ("how long it took", ("stage",)),
    "spent_seconds_total": ("seconds that parts of embedding took", ("part",)),
    "generation": ("current generation", ()),
    "items": ("items of it", ()),
    "vectors": ("vectors that searches find", ()),
    "tombstones": ("dead rows", ()),
    "stored_bytes": ("bytes by kind", ("kind",)),
}
"""Names, each behind `pixdex_`, with what they are and the labels beside `root`."""


def check(target: str) -> None:
    """Refuses a target that cannot be written to.

    Raises:
        UsageError: says why.
    """
    if not target.strip():
        raise UsageError("--metrics is empty: name a file, or leave it out")
    if _is_gateway(target):
        _check_gateway(target)
        return
    if "://" in target:
        raise UsageError(f"--metrics {target}: name a file of this machine, or a Pushgateway by http:// or https://")
    path = Path(target)
    if path.is_dir():
        raise UsageError(f"--metrics {target} is a folder: name a file in it")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"--metrics {target}: there is no folder {folder}: make it first")
    try:  # root may do anything to /proc by its permissions, and yet make no file there
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        why = error.strerror or error
        raise UsageError(
            f"--metrics {target}: {folder} cannot be written ({why}): mend its permissions, or name another file"
        ) from error


@dataclass
class Metrics:
    """The metrics of one command: written while it runs, at most every 10 seconds, and at its end.

    That they cannot be written, or what they are made of cannot be read, is no failure of the command.

    Attributes:
        target: a file, or the address of a Pushgateway.
        root: URL of the root.
        since: when the command, or the run that it watches, began, in seconds since the epoch.
    """

    target: str
    root: str
    since: float = field(default_factory=time.time)
    _run: Run | None = None
    _look: RunLook | None = None
    _due: float = 0.0
    _warned: bool = False

    @classmethod
    def of(cls, target: str | None, root: str) -> "Metrics | None":
        """Returns what keeps the metrics of a command on a root; None: nobody wants them.

        Raises:
            UsageError: they cannot be written there.
        """
        if target is None:
            return None
        check(target)
        return cls(target, root)

    def begin(self, run: Run, since: float | None = None) -> None:
        """Says which run it is, that it is at work, and since when it counts: by default from now on."""
        self._run, self.since = run, time.time() if since is None else since
        self._try(self._running(None))

    def refresh(self, look: RunLook, left: float | None) -> None:
        """Takes what was seen."""
        self._look = look
        if time.monotonic() >= self._due:
            self._try(self._running(left))

    def finish(self, *, succeeded: bool) -> None:
        """Writes what came of it; that this fails changes no exit code."""
        run = self._run
        at_the_end = () if run is None else (_reasons(run), _held(run.store))
        self._try(_ended(succeeded=succeeded), self._seen(), *at_the_end)

    def finish_without(self, store: Store) -> None:
        """Writes what a root holds that had all that was asked for: no run was needed."""
        self._try(_ended(succeeded=True), self._seen(), _held(store))

    def _try(self, *groups: Iterator[Sample]) -> None:
        pause = _SECONDS_AFTER_FAILURE
        try:
            self._write(_readable(groups))
            pause = SECONDS_BETWEEN
        except Exception as error:  # noqa: BLE001 - of the store, the file system or a gateway: no run fails for it
            if not self._warned:
                _LOG.warning("metrics could not be written to %s: %s", without_credentials(self.target), error)
            self._warned = True
        self._due = time.monotonic() + pause

    def _running(self, left: float | None) -> Iterator[Sample]:
        yield Sample("run_running", 1)
        yield from self._seen()
        if left is not None:
            yield Sample("run_eta_seconds", left)

    def _seen(self) -> Iterator[Sample]:
        yield Sample("run_start_timestamp_seconds", self.since)
        run, look = self._run, self._look
        if run is None:
            return
        yield Sample("run_generation", run.generation)
        if run.is_planned:
            yield Sample("items_planned", run.plan.items)
        if look is None:
            return
        yield Sample("items_embedded_total", look.embedded.embedded)
        yield Sample("items_rejected_total", look.embedded.rejected)
        yield Sample("rows_embedded_total", look.embedded.rows)
        for part, spent in look.embedded.spent.items():
            yield Sample("spent_seconds_total", spent, (part,))
        for each in look.stages:
            if not each.is_empty:
                yield Sample("stage_done", each.done, (each.stage, each.unit))
                if each.planned is not None:
                    yield Sample("stage_planned", each.planned, (each.stage, each.unit))
        for stage, seconds in stage_seconds(run, self.since).items():
            yield Sample("stage_seconds", seconds, (stage,))

    def _write(self, samples: Iterator[Sample]) -> None:
        import prometheus_client  # noqa: PLC0415 - few commands write metrics

        registry = _registry(samples, without_credentials(self.root))
        if not _is_gateway(self.target):
            prometheus_client.write_to_textfile(self.target, registry)
        else:
            address, handler = _gateway(self.target)
            grouping = {"root": without_credentials(self.root)}
            prometheus_client.push_to_gateway(
                address, _JOB, registry, grouping_key=grouping, timeout=_PUSH_SECONDS, handler=handler
            )


def _readable(groups: Iterable[Iterator[Sample]]) -> Iterator[Sample]:
    """What can be read of each group: what cannot may be why the run failed."""
    for group in groups:
        try:
            yield from group
        except Exception as error:  # noqa: BLE001 - every store raises its own, and no run fails for it
            _LOG.debug("metrics are without what could not be read: %s", error)


def _ended(*, succeeded: bool) -> Iterator[Sample]:
    yield Sample("run_running", 0)
    yield Sample("run_success", int(succeeded))
    yield Sample("run_end_timestamp_seconds", time.time())


def _reasons(run: Run) -> Iterator[Sample]:
    """Rejects by stage and type, once all items are embedded."""
    if run.stage_marker("embed") is None:
        return
    counts: dict[Labels, int] = {}
    for reason in reasons_of_run(run).most_common(_GROUPS):
        counts[reason.stage, reason.type] = counts.get((reason.stage, reason.type), 0) + reason.count
    yield from (Sample("rejects_total", count, labels) for labels, count in counts.items())


def _held(store: Store) -> Iterator[Sample]:
    """What the current generation of a root holds."""
    generation = published.current(store)
    if generation is None:
        return
    totals = generation.totals
    yield Sample("generation", generation.generation)
    yield Sample("items", totals.items)
    yield Sample("vectors", totals.vectors)
    yield Sample("tombstones", totals.tombstones)
    for kind, size in sizes.bytes_of(store, generation).items():
        yield Sample("stored_bytes", size, (kind,))


def _registry(samples: Iterator[Sample], root: str) -> "CollectorRegistry":
    from prometheus_client import CollectorRegistry  # noqa: PLC0415 - few commands write metrics
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415 - likewise

    families: dict[str, Any] = {}  # their classes share what is used here, and no base that says so
    for sample in samples:
        text, labels = NAMES[sample.name]
        kind = CounterMetricFamily if sample.name.endswith("_total") else GaugeMetricFamily
        name = f"pixdex_{sample.name}"
        if name not in families:
            families[name] = kind(name, f"{text[:1].upper()}{text[1:]}.", labels=["root", *labels])
        families[name].add_metric([root, *sample.labels], sample.value)

    class Collector:
        def collect(self) -> Iterator["Metric"]:
            yield from families.values()

    registry = CollectorRegistry()
    registry.register(Collector())
    return registry


def _is_gateway(target: str) -> bool:
    return target.lower().startswith(("http://", "https://"))


def _check_gateway(target: str) -> None:
    """Refuses an address where nobody answers: a typing error is not to be found out after hours."""
    parts = urlsplit(target)
    try:
        host, port = parts.hostname, parts.port or (443 if parts.scheme.lower() == "https" else 80)
    except ValueError as error:
        raise UsageError(f"--metrics {without_credentials(target)}: {error}") from error
    if not host:
        raise UsageError(f"--metrics {target}: a Pushgateway has a host, as in http://localhost:9091")
    try:
        socket.create_connection((host, port), _CONNECT_SECONDS).close()
    except OSError as error:
        raise UsageError(
            f"--metrics {without_credentials(target)}: no Pushgateway answers there ({error.strerror or error})"
        ) from error


def _gateway(target: str) -> tuple[str, Any]:
    """The address of a gateway without its user, and what sends with user and password."""
    from prometheus_client.exposition import basic_auth_handler, default_handler  # noqa: PLC0415 - as above

    parts = urlsplit(target)
    if parts.username is None:
        return target, default_handler

    def with_user(url: str, method: str, timeout: float | None, headers: Any, data: bytes) -> Any:
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        return basic_auth_handler(url, method, timeout, headers, data, user, password)

    return without_credentials(target), with_user

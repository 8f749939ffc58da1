"""What is counted and timed, for Prometheus."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from transforms.search.trace import Trace
from transforms.serving.following import Following

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Measures:
    """The metrics of one server, in a registry of their own."""

    def __init__(self, following: Following) -> None:
        """Counts from 0; what answers is asked for when somebody looks."""
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "pixdex_serve_requests", "Requests that were answered", ["path", "status"], registry=registry
        )
        self._seconds = Histogram(
            "pixdex_serve_request_seconds",
            "Time from a request's head to the end of its answer",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._steps = Histogram(
            "pixdex_serve_search_seconds",
            "Time of each step of a search",
            ["step"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge("pixdex_serve_in_flight", "Requests that are being answered", registry=registry)
        for name, words, value in (
            ("generation", "Number of the generation that answers", lambda: following.state.opened.number),
            ("newest_generation", "Number of the newest generation that was seen", lambda: following.state.newest),
            ("stale", "1 while the newest generation cannot be opened", lambda: following.state.problem is not None),
            ("open_failures", "Times that a generation could not be opened", lambda: following.state.failures),
            ("vectors", "Vectors that are searched", lambda: following.state.opened.generation.totals.vectors),
        ):
            Gauge(f"pixdex_serve_{name}", words, registry=registry).set_function(value)

    def count(self, path: str, status: int, seconds: float) -> None:
        """Takes note of a request that was answered."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def count_steps(self, trace: Trace) -> None:
        """Takes note of what a search did."""
        for step, milliseconds in trace.milliseconds.items():
            self._steps.labels(step).observe(milliseconds / 1000)

    def text(self) -> bytes:
        """Returns all of it in Prometheus' text format."""
        return generate_latest(self._registry)

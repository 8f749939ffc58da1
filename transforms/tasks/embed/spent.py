"""Where the time of embedding goes, and so what to buy for more of it.

Fetching waits for storage and encoding for a device: of both, seconds count that passed. Of decoding and preprocessing
count those of processors: eight threads share these, and what passes in each of them says little.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Final, Literal

from transforms.markers import ShardMarker, TimeSpent
from transforms.tasks.embed.limits import FETCH_THREADS

Part = Literal["fetch", "decode", "preprocess", "encode", "write", "wait"]
PARTS: Final[tuple[Part, ...]] = ("fetch", "decode", "preprocess", "encode", "write", "wait")
"""`wait` is that of the encoder, for pictures which are not there yet."""

_BUSY: Final = 0.7
"""Share of what there is of something, from which on it is the limit."""

_WORTH_A_WORD: Final = 0.05
"""Share of the cores that a part takes beside the one that is the limit."""


class Clock:
    """Adds up what the threads that embed one shard spend on each part; `connections` of them fetch."""

    def __init__(self, device: str = "cpu") -> None:
        """Starts now; `device` is that of the encoder."""
        self._device, self.connections = device, FETCH_THREADS
        self._lock = threading.Lock()
        self._began = time.time()
        self._seconds = dict.fromkeys(PARTS, 0.0)

    @contextmanager
    def passing(self, part: Part) -> Iterator[None]:
        """Adds the seconds that pass during the block."""
        with self._added(part, time.monotonic):
            yield

    @contextmanager
    def working(self, part: Part) -> Iterator[None]:
        """Adds the seconds that this thread computes during the block."""
        with self._added(part, time.thread_time):
            yield

    @contextmanager
    def _added(self, part: Part, clock: Callable[[], float]) -> Iterator[None]:
        start = clock()
        try:
            yield
        finally:
            spent = clock() - start
            with self._lock:
                self._seconds[part] += spent

    def spent(self) -> TimeSpent:
        """Returns what it is until now, and on which machine."""
        with self._lock:
            seconds: dict[str, float] = {part: round(each, 3) for part, each in self._seconds.items()}
        host, cores = socket.gethostname(), os.cpu_count() or 1
        return TimeSpent(seconds, self._began, host, cores, self._device, self.connections)


def total(markers: Iterable[ShardMarker]) -> dict[Part, float] | None:
    """Returns the seconds of each part, over all shards; None: of none it is known."""
    known = [marker.spent for marker in markers if marker.spent is not None]
    return {part: round(sum(each.seconds[part] for each in known), 3) for part in PARTS} if known else None


def what_limits(markers: Sequence[ShardMarker], threads: int) -> str | None:
    """Says what a faster run would need more of.

    Args:
        markers: of the shards that it embedded.
        threads: of the encoder, where it computes with the processor.

    Returns:
        `decoding is the limit: 1.6 of 2 cores`, or the like; None where nothing is, or of no shard it is known.
    """
    seconds, passed = total(markers), sum(marker.seconds for marker in markers if marker.spent is not None)
    if seconds is None or passed <= 0:
        return None
    there, lasted = _machines(markers)
    using = {"decoding": seconds["decode"], "preprocessing": seconds["preprocess"]}
    if all(marker.spent is None or marker.spent.device.startswith("cpu") for marker in markers):
        using["encoding"] = seconds["encode"] * threads
    if sum(using.values()) >= _BUSY * there:
        (first, most), *others = sorted(using.items(), key=lambda each: -each[1])
        beside = [f"{part} {each / lasted:.1f}" for part, each in others if each >= _WORTH_A_WORD * there]
        said = f" ({', '.join(beside)})" if beside else ""
        return f"{first} is the limit: {most / lasted:.1f} of {there / lasted:.3g} cores{said}"
    connections = max(marker.spent.connections for marker in markers if marker.spent is not None)
    if seconds["fetch"] >= _BUSY * passed * connections:
        return f"fetching is the limit: {seconds['fetch'] / passed:.1f} of {connections} connections are busy"
    if seconds["encode"] >= _BUSY * passed:
        return f"encoding is the limit: {seconds['encode'] / passed:.0%} of the time"
    return None


def _machines(markers: Iterable[ShardMarker]) -> tuple[float, float]:
    """The seconds of cores that machines had, and the seconds, each from its first shard to the end of its last."""
    known = [(marker.spent, marker.seconds) for marker in markers if marker.spent is not None]
    there = lasted = 0.0
    for _, own in groupby(sorted(known, key=lambda each: each[0].host), key=lambda each: each[0].host):
        shards = list(own)
        span = max(spent.began + taken for spent, taken in shards) - min(spent.began for spent, _ in shards)
        there += span * max(spent.cores for spent, _ in shards)
        lasted += span
    return there, lasted

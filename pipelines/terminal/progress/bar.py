"""One bar at a time, on a terminal; what is done leaves its line."""

import sys
from typing import Any, Final

from tqdm import tqdm

from pipelines.terminal import console
from pipelines.terminal.progress import words
from pipelines.terminal.progress.words import Event

_ROWS: Final = 20
"""Of the terminal: one bar is shown at a time, also by a terminal that says it has none."""

_STEPS: Final = 1000


class Bars:
    """Shows events as bars."""

    def __init__(self) -> None:
        """Shows nothing yet."""
        self._bar: Any = None  # tqdm is untyped

    def show(self, event: Event) -> None:
        """Draws what an event says."""
        if event.kind == "begin":  # what it says is said again at once
            return
        if event.kind == "stopped":
            self.close()
            return
        if self._bar is None:
            self._bar = tqdm(total=_STEPS, file=sys.stderr, nrows=_ROWS, bar_format=" ")
        self._bar.n = 0 if event.share is None else int(_STEPS * event.share)
        self._bar.bar_format = _format(event)
        self._bar.ncols = console.columns()  # it may have become another
        self._bar.refresh()
        if event.kind == "end":
            self.close()

    def close(self) -> None:
        """Leaves the line of what is at work."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _format(event: Event) -> str:
    """What tqdm is to draw; it cuts lines that are longer than the terminal."""
    tail = words.tail(event).replace("{", "{{").replace("}", "}}")
    if event.share is None:
        return f"{event.stage:<11} {tail}"
    return f"{event.stage:<11} {{bar:20}} {words.percent(event.share):>5}  {tail}"

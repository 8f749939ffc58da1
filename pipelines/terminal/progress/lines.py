"""Lines for a log, or a terminal on which no bar can be drawn: few, each whole, and none longer than the terminal."""

from typing import Final

from pipelines.terminal import console
from pipelines.terminal.progress import words
from pipelines.terminal.progress.words import Event

SECONDS_TO_BEGIN: Final = 2.0
"""A stage that is over earlier has one line, at its end."""

SECONDS_BETWEEN: Final = 15.0
MOST_SECONDS_BETWEEN: Final = 300.0
STEP: Final = 0.1
_ROUNDING: Final = 1e-6


class Lines:
    """Shows a stage as a line when it has gone on for 2 seconds, as one for each tenth of it that is done or each five
    minutes, though never two in 15 seconds, and as one at its end.
    """

    def __init__(self) -> None:
        """Has shown nothing yet."""
        self._stage = ""
        self._began = self._shown_at = self._shown = 0.0
        self._has_begun = False

    def show(self, event: Event) -> None:
        """Writes what an event says, where it is time."""
        if event.kind == "begin":
            self._stage, self._began, self._has_begun = event.stage, event.at, False
        elif event.kind == "end":
            _say(event)
        elif event.kind == "progress" and self._is_due(event):
            self._shown_at, self._shown, self._has_begun = event.at, event.share or 0.0, True
            _say(event)

    def close(self) -> None:
        """Has nothing to do."""

    def _is_due(self, event: Event) -> bool:
        if not self._has_begun:
            return event.at - self._began >= SECONDS_TO_BEGIN
        passed = event.at - self._shown_at
        if passed < SECONDS_BETWEEN:
            return False
        return passed >= MOST_SECONDS_BETWEEN or (event.share or 0.0) - self._shown >= STEP - _ROUNDING


def _say(event: Event) -> None:
    text, columns = words.line(event), console.columns()
    console.say(text if columns is None or len(text) < columns else f"{text[: columns - 2]}…")

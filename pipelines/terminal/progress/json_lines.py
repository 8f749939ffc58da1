"""One JSON object a line, on stderr, for programs that show progress themselves."""

import json
from typing import Any, Final

from pipelines.terminal import console
from pipelines.terminal.progress.words import Event

SECONDS_BETWEEN: Final = 1.0

_STATES: Final = {"begin": "begun", "end": "done", "stopped": "stopped"}


class JsonLines:
    """Shows events as they come, of progress at most one a second."""

    def __init__(self) -> None:
        """Has shown nothing yet."""
        self._shown_at = 0.0

    def show(self, event: Event) -> None:
        """Writes an event."""
        if event.kind == "progress":
            if event.at - self._shown_at < SECONDS_BETWEEN:
                return
            self._shown_at = event.at
        console.say(json.dumps(record_of(event)))

    def close(self) -> None:
        """Has nothing to do."""


def record_of(event: Event) -> dict[str, Any]:
    """Returns an event as values that JSON has."""
    told: dict[str, Any] = {"event": "progress" if event.kind == "progress" else "stage"}
    if event.kind != "progress":
        told["state"] = _STATES[event.kind]
    return told | {
        "stage": event.stage,
        "step": event.step,
        "done": event.done,
        "planned": event.planned,
        "unit": event.unit,
        "share": _rounded(event.share, 4),
        "rate": _rounded(event.rate, 3),
        "eta_seconds": _rounded(event.left, 1),
        "all_eta_seconds": _rounded(event.all_left, 1),
        "rejected": event.rejected,
        "seconds": _rounded(event.seconds, 3),
        "generation": event.generation,
        "at": round(event.at, 3),
    }


def _rounded(number: float | None, digits: int) -> float | None:
    return None if number is None else round(number, digits)

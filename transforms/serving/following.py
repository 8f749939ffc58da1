"""Follows a root: a generation that is published is opened beside the one that answers, then takes its place.

Whoever answers holds the generation that was there when the answer began; with the last of them it is let go of. One
that cannot be opened leaves the other where it is, and is tried again, less and less often.
"""

import contextlib
import logging
import threading
import time
from dataclasses import dataclass, replace
from typing import Final

from transforms import freed_memory
from transforms.generations import published
from transforms.generations.manifest import Generation
from transforms.serving.opened import How, Opened, problem_of

_LONGEST: Final = 60.0
"""Seconds after which, at the latest, one that could not be opened is tried again."""


@dataclass(frozen=True)
class State:
    """What answers, and what would.

    Attributes:
        opened: what answers.
        newest: the number of the newest generation that was seen.
        problem: why that one does not answer; None: it does.
        failures: times that one could not be opened, since the server began.
    """

    opened: Opened
    newest: int
    problem: str | None = None
    failures: int = 0


class Following:
    """The generation that answers, for threads to share."""

    def __init__(self, how: How, seconds: float) -> None:
        """Opens the current one; looks for others so often, once it is started.

        Raises:
            UsageError, PixdexError: there is none, or it cannot be opened.
        """
        self._how, self._seconds = how, seconds
        opened = how.open()
        self._state = State(opened, opened.number)
        self._looking = threading.Lock()
        self._again_at, self._pause = 0.0, seconds
        self._failed: Generation | None = None
        self._is_ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follow", daemon=True)

    @property
    def state(self) -> State:
        """How it stands now."""
        return self._state

    def start(self) -> None:
        """Looks for new generations from now on."""
        self._thread.start()

    def close(self) -> None:
        """Looks no more."""
        self._is_ended.set()

    def look(self) -> bool:
        """Goes over to the current generation; tells whether it is another than before. Raises nothing."""
        with self._looking:
            state, now = self._state, None
            try:
                now = published.open_generation(self._how.store)
                if now == state.opened.generation:
                    self._state, self._failed = State(state.opened, now.generation, None, state.failures), None
                    return False
                if now == self._failed and time.monotonic() < self._again_at:
                    return False
                opened = self._how.open(state.opened)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the one before answers
                self._note(state, now, problem_of(error))
                return False
            self._state, self._failed = State(opened, opened.number, None, state.failures), None
            return True

    def _note(self, state: State, now: Generation | None, problem: str) -> None:
        if now != self._failed or now is None:
            self._pause = self._seconds
        if problem != state.problem:
            logging.getLogger(__name__).warning("generation %d answers still: %s", state.opened.number, problem)
        self._failed, self._again_at = now, time.monotonic() + self._pause
        self._pause = min(2 * self._pause, max(_LONGEST, self._seconds))
        with contextlib.suppress(Exception):  # of a store that does not answer, nothing newer is known
            newest = max(published.numbers(self._how.store), default=state.newest)
            state = replace(state, newest=newest)
        self._state = replace(state, problem=problem, failures=state.failures + 1)

    def _follow(self) -> None:
        while not self._is_ended.wait(self._seconds):
            if self.look():
                freed_memory.give_back()  # what the generation before had

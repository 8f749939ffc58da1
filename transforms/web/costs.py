"""What a file on the web costs whoever waits for it: time, and memory."""

from contextlib import AbstractContextManager
from typing import Protocol


class Clock(Protocol):
    """The time of one file."""

    def spent(self) -> float:
        """Returns the seconds that it has taken up to now."""

    def waiting(self) -> AbstractContextManager[None]:
        """Has the time of the block be nobody's."""


class MoreRoomError(Exception):
    """A file has more bytes than there is room for now; `bytes` would do, as far as is known."""

    def __init__(self, size: int) -> None:
        """Asks for so many bytes."""
        super().__init__(f"{size} bytes")
        self.bytes = size

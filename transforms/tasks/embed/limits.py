"""What one item may cost before it is a reject."""

from dataclasses import dataclass
from typing import Final

FETCH_THREADS: Final = 8
"""Pictures of a shard fetched and decoded at once; decoding lets other threads run, and fetching mostly waits."""


@dataclass(frozen=True)
class ItemLimits:
    """What one picture may cost; one that takes more rejects its item.

    No part of a request: a machine twice as fast, or a link twice as slow, makes no other index of sound items.

    Attributes:
        seconds: that fetching may take, retries and all, and again that decoding may.
        file_bytes: of the file or object, which is not read when it has more. Memory for it is taken from the budget
            of what is decoded at one time.
    """

    seconds: float = 60.0
    file_bytes: int = 512 << 20


USUAL: Final = ItemLimits()
"""Where nobody asks for others."""

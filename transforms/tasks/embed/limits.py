"""What one item may cost before it is a reject."""

from dataclasses import dataclass, field
from typing import Final

from transforms.web.limits import WebLimits

FETCH_THREADS: Final = 8
"""Pictures of a shard fetched and decoded at once, where the encoder waits for them: fetching mostly waits, too."""


@dataclass(frozen=True)
class ItemLimits:
    """What one picture may cost; one that takes more rejects its item.

    No part of a request: a machine twice as fast, or a link twice as slow, makes no other index of sound items.

    Attributes:
        seconds: that fetching may take, retries and all, and again that decoding may.
        file_bytes: of the file or object, which is not read when it has more. Memory for it is taken from the budget
            of what is decoded at one time.
        threads: pictures that a process fetches and decodes at once; None: 8, or 32 where some are on the web.
        web: how those are fetched that are on the web. What a picture waits for its host's turn is no time of its own:
            that others are many, or that the host is slow to serve them, is not its doing.
        named: hosts of the web at addresses of this machine or its network that may be asked, since whoever runs the
            command has named them.
    """

    seconds: float = 60.0
    file_bytes: int = 512 << 20
    threads: int | None = None
    web: WebLimits = field(default_factory=WebLimits)
    named: frozenset[str] = frozenset()


USUAL: Final = ItemLimits()
"""Where nobody asks for others."""

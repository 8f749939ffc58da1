"""What one server does for whoever asks it."""

import os
from dataclasses import dataclass, field
from typing import Final

MIB: Final = 1 << 20


def cores() -> int:
    """Returns how many cores this process may use; a container's share of them it does not see."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Limits:
    """What is refused, and how much is done at once.

    Attributes:
        upload_bytes: of the file of a picture that is asked with; a request has as many as that takes in base64, and
            64 KiB beside it.
        results: that one answer may have, those that are passed over (`offset`) among them.
        seconds: that one answer, and the coming of one request, may take.
        at_once: requests of a kind (searches, pictures) that are answered or wait; one more is told to come again.
        threads: searches that are made at once, each on one core; the encoder takes one query after the other, with
            the threads that the root was made with.
        held_bytes: of requests that have come in, as far as they have, until they are answered; all together.
        picture_bytes: of the file of a result's picture.
        picture_threads: pictures that are fetched at once.
        decoders: processes that decode pictures at once. A picture near the pixel limit takes one up to 3 GB.
        kept_bytes: of thumbnails that are kept.
    """

    upload_bytes: int = 16 * MIB
    results: int = 1000
    seconds: float = 30.0
    at_once: int = 128
    threads: int = field(default_factory=cores)
    held_bytes: int = 256 * MIB
    picture_bytes: int = 128 * MIB
    picture_threads: int = 8
    decoders: int = 2
    kept_bytes: int = 64 * MIB

    @property
    def body_bytes(self) -> int:
        """Bytes that a request may have."""
        return (self.upload_bytes + 2) // 3 * 4 + (64 << 10)

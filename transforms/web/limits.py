"""How politely files on the web are fetched."""

from dataclasses import dataclass
from typing import Final

AGENT: Final = "pixdex"
"""What servers are told of who asks."""


@dataclass(frozen=True)
class WebLimits:
    """What one process asks of one host, and which hosts it asks at all.

    No part of a request: how slowly a picture is fetched changes nothing of it. Every process has these limits for
    itself, so that a host sees as many times these as there are worker processes.

    Attributes:
        host_connections: requests to one host at one time.
        host_rate: requests to one host a second, repeated and redirected ones, too; None: any number.
        allow_private: hosts may be at addresses of this machine and its network.
        user_agent: what servers are told of who asks; many want an address to write to.
    """

    host_connections: int = 4
    host_rate: float | None = None
    allow_private: bool = False
    user_agent: str = AGENT

"""By which names a server may be asked for: its own, and no name of somebody else that leads here (DNS rebinding)."""

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

FLAG: Final = "--allow-host"

_LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "::1")
_NAME: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")


@dataclass(frozen=True)
class Hosts:
    """The names that a server answers to.

    Attributes:
        names: of it, in small letters, as `Host` has them, without a port.
        takes_addresses: whether it answers to every IP address, too, which is no name that anybody can lead elsewhere.
    """

    names: frozenset[str]
    takes_addresses: bool

    @classmethod
    def of(cls, address: str, host: str, allowed: Iterable[str]) -> "Hosts":
        """Returns those of a server: where only this machine reaches it, loopback's, else those of the machine, too.

        Args:
            address: IP address that it listens at.
            host: as it was called by whoever runs it.
            allowed: names beside these.

        Cost: where others reach it, the names of the machine are looked up.
        """
        names = {*_LOOPBACK_NAMES, host.lower(), *(name.lower() for name in allowed)}
        if ipaddress.ip_address(address).is_loopback:
            return cls(frozenset({*names, address}), takes_addresses=False)
        return cls(frozenset({*names, socket.gethostname().lower(), socket.getfqdn().lower()}), takes_addresses=True)

    def has(self, name: str | None) -> bool:
        """Tells whether it answers to a name, in small letters."""
        return name is not None and (name in self.names or (self.takes_addresses and _is_address(name)))

    @property
    def words(self) -> str:
        """The names, for whoever asks by another one."""
        names = " or ".join(sorted(self.names))
        return f"{names} or an address" if self.takes_addresses else names


def is_name(text: str) -> bool:
    """Tells whether a text is a name that `Host` may have: ASCII, with neither scheme nor port.

    >>> [is_name(one) for one in ("photos.example", "a:80", "http://a", "*.example", "")]
    [True, False, False, False, False]
    """
    return len(text) <= 253 and _NAME.fullmatch(text.lower()) is not None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True

"""Addresses on the web: which ones everybody can reach, and a client that goes from these to no others.

What the public web names may lead, by a redirect or by what its name is said to be a moment later, to what only this
machine or its network can reach: a router, a service without a password, the credentials of a cloud's machine. So the
client of a public address looks at each address that it connects to. Whoever names a private one means it.
"""

import contextlib
import ipaddress
import socket
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import aiohttp

WEB: Final = ("http", "https")

_TRANSLATED: Final = ipaddress.ip_network("64:ff9b::/96")
"""IPv6 addresses whose last four bytes are an IPv4 address behind a gateway."""


def is_public(address: str) -> bool:
    """Tells whether an IP address can be reached from everywhere: it is not of this machine, nor of its network.

    >>> [is_public(each) for each in ("93.184.216.34", "10.0.0.1", "127.0.0.1", "169.254.169.254", "::ffff:10.0.0.1")]
    [True, False, False, False, False]
    """
    number = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(number, ipaddress.IPv6Address):
        inner = number.ipv4_mapped or number.sixtofour
        if number in _TRANSLATED:
            inner = ipaddress.IPv4Address(int(number) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return number.is_global and not number.is_multicast


def is_public_host(uri: str) -> bool:
    """Tells whether a web address names a machine that everybody reaches; one that nobody finds is none."""
    try:
        host = urlsplit(uri).hostname
    except ValueError:
        return False
    found = _looked_up(host) if host else ()
    return bool(found) and all(map(is_public, found))


async def public_client(**told: Any) -> "aiohttp.ClientSession":
    """Opens a session of fsspec's HTTP filesystem that connects to public addresses only, redirected or not."""
    import aiohttp  # noqa: PLC0415 - only what is fetched over the web needs it

    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(socket_factory=_public_socket), **told)


@cache
def _looked_up(host: str) -> tuple[str, ...]:
    with contextlib.suppress(OSError, UnicodeError):
        return tuple(str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
    return ()


def _public_socket(entry: tuple[Any, ...]) -> socket.socket:
    family, kind, protocol, _, address = entry
    if not is_public(str(address[0])):
        raise PermissionError(f"{address[0]} is an address of this machine or its network")
    return socket.socket(family, kind, protocol)

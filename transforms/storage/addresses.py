"""Addresses on the web: which ones everybody can reach, and a client that goes from these to no others.

What the public web names may lead, by a redirect or by what its name is said to be a moment later, to what only this
machine or its network can reach: a router, a service without a password, the credentials of a cloud's machine. So the
client of a public address looks at each address that it connects to. Whoever names a private one means it.
"""

import contextlib
import ipaddress
import re
import socket
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import aiohttp

WEB: Final = ("http", "https")

URLS: Final = ("http://", "https://")
"""How web addresses begin."""

_TRANSLATED: Final = ipaddress.ip_network("64:ff9b::/96")
"""IPv6 addresses whose last four bytes are an IPv4 address behind a gateway."""


_AUTHORITY: Final = re.compile(r"[^/?#]*")
"""Of a URL, behind its protocol: with a user, or none, and without what is below."""

_ASKED_BY_HOST: Final = frozenset({"ftp", "sftp", "ssh", "smb", "hdfs", "webhdfs"})
"""Other protocols whose URIs name a machine, and no bucket of a store that this one is set up for."""


def is_web(uri: str) -> bool:
    """Tells whether a URI is a web address.

    >>> is_web("https://host/a.png"), is_web("HTTP://HOST/a.png"), is_web("s3://bucket/a.png")
    (True, True, False)
    """
    return uri[:8].lower().startswith(URLS)


def without_secrets(uri: str) -> str:
    """Returns a URI without user and password; of a web address without its query, too, which may sign it.

    >>> without_secrets("https://me:secret@example.org/a.csv?signature=1#7"), without_secrets("s3://id:key@bucket/a?.png")
    ('https://example.org/a.csv#7', 's3://bucket/a?.png')
    >>> without_secrets("file:///data/a@b?.png")
    'file:///data/a@b?.png'
    """
    bare = without_credentials(uri)
    if not is_web(bare):
        return bare
    path, sign, fragment = bare.partition("#")
    return f"{path.partition('?')[0]}{sign}{fragment}"


def names_machine(uri: str) -> bool:
    """Tells whether a URI that is no web address names a machine that is to be asked."""
    return uri.partition("://")[0].lower() in _ASKED_BY_HOST


def without_credentials(url: str) -> str:
    """Returns a URL without user and password; a path keeps its signs, and a local one stays as it is.

    >>> without_credentials("https://me:secret@example.org:9091/a"), without_credentials("/var/me@here/x")
    ('https://example.org:9091/a', '/var/me@here/x')
    >>> without_credentials("s3://key:secret@bucket/photos@2x/*.png"), without_credentials("s3://bucket/photos@2x/?.png")
    ('s3://bucket/photos@2x/*.png', 's3://bucket/photos@2x/?.png')
    """
    protocol, colon, rest = url.partition("://")
    if not colon or protocol.lower() == "file":
        return url
    authority = _AUTHORITY.match(rest)
    assert authority is not None  # it may be empty
    return f"{protocol}://{authority[0].rpartition('@')[2]}{rest[authority.end() :]}"


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
    host = host_of(uri)
    found = _looked_up(host) if host else ()
    return bool(found) and all(map(is_public, found))


def private_hosts(uris: Iterable[str]) -> frozenset[str]:
    """Returns the hosts that URIs name and only this machine or its network can reach, in small letters.

    Cost: of each that names a machine, its name is looked up.
    """
    private = (uri for uri in uris if (is_web(uri) or names_machine(uri)) and not is_public_host(uri))
    return frozenset(host for host in map(host_of, private) if host)


def host_of(uri: str) -> str | None:
    """Returns the host that a web address names, in small letters; None: none."""
    try:
        return urlsplit(uri).hostname
    except ValueError:
        return None


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

"""What a root may have read that lies outside of it.

A root may come from anybody, and names what is elsewhere: ready embeddings, and the pictures of results. Of this
machine, and of object stores, it gets read what lies where its sources are, and nothing else; over HTTP what anybody
can fetch, and nothing that only this machine or its network can reach. Whoever runs a command can say that the root is
trusted. Of ready embeddings no file is read that lies elsewhere than the sources, trusted or not.
"""

import os
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from transforms.errors import UnsafePathError, UsageError
from transforms.ready_range import VectorRange
from transforms.records import Request, Source
from transforms.storage import addresses, tar_members, uris

FLAG: Final = "--trust-uris"

_LOCAL: Final = ("file", "local")
_KEYED: Final = ("memory", "s3", "s3a", "gs", "gcs")
_NAMED: Final = (*_LOCAL, *_KEYED)
"""Where a URI names no machine to be asked: a path, or a bucket of the store that this machine is set up for."""

_ALIASES: Final = {"local": "file", "s3a": "s3", "gcs": "gs"}


@dataclass(frozen=True)
class Outside:
    """What may be read for a root.

    Attributes:
        places: URIs that the sources name: of a file, or of a folder with a slash at its end.
        trusted: all of it.
    """

    places: tuple[str, ...]
    trusted: bool = False

    @classmethod
    def of(cls, request: Request, *, trusted: bool = False) -> "Outside":
        """Returns what may be read for a root of this request."""
        return cls(tuple(place for source in request.sources for place in _places(source)), trusted)

    @classmethod
    def of_ready(cls, request: Request) -> "Outside":
        """Returns the same of its ready embeddings alone."""
        return cls(tuple(place for source in request.sources if source.kind == "vectors" for place in _places(source)))

    def holds(self, uri: str) -> bool:
        """Tells whether a URI is one of a source, or lies in a folder of one, or in an archive that does."""
        name = _spelled(tar_members.archive_of(uri))
        return name is not None and any(
            name.startswith(place) if place.endswith("/") else name == place or name.startswith(f"{place}/")
            for place in self.places
        )

    def refusal(self, uri: str) -> str | None:
        """Returns why something is not read, or None: it may be.

        Cost: of an address on the web, its name is looked up.
        """
        if self.trusted:
            return None
        if uri.startswith(addresses.URLS):
            return None if addresses.is_public_host(uri) else "is at an address of this machine or its network"
        if uri.partition("://")[0] in _NAMED and self.holds(uri):
            return None
        return "is not among the sources of the root"

    def read(self, uri: str) -> bytes:
        """Returns the content of an object.

        Raises:
            PermissionError: it may not be read.
            OSError: it cannot be.
        """
        why = self.refusal(uri)
        if why is not None:
            raise PermissionError(f"{uri} {why}")
        return uris.read(uri)

    def check_ready(self, ready: VectorRange) -> None:
        """Refuses a range of ready embeddings whose files are not where the sources are.

        Raises:
            UnsafePathError: it names the file; whoever reads it adds where it was read.
        """
        for uri in (ready.uri, ready.text_uri, ready.metadata):
            if uri is not None and not self.holds(uri):
                raise UnsafePathError(f"{uri[:200]!r} is not among the sources of the root: pixdex made no such root")


def check_sources(request: Request, *, trusted: bool) -> None:
    """Refuses sources that would have this machine ask one that others cannot reach.

    What they name on this machine, and in object stores, is taken: whoever lists the sources of a root wants them read.

    Raises:
        UsageError: a source is at an address of this machine or its network, or is reached by an odd protocol.
    """
    outside = Outside.of(request, trusted=trusted)
    for place in outside.places:
        why = outside.refusal(place)
        if why is not None:
            what = why if place.startswith(addresses.URLS) else "is neither of files, nor of buckets, nor on the web"
            raise UsageError(f"{place}, a source of this root, {what}: if you trust the root, say {FLAG}")


def _places(source: Source) -> Iterable[str]:
    """The place of each pattern: up to its first wildcard; of what names pictures the folder where these are, too."""
    if source.derivation is not None:  # the other root is no place of pictures: what it was made of is
        yield from source.derivation.places
        return
    for pattern in (source.pattern, source.text_vectors, source.metadata):
        if pattern is None:
            continue
        for one in uris.braces(pattern):
            whole = _normal(uris.widened(one))
            magic = uris.MAGIC.search(whole)
            yield whole if magic is None else whole[: magic.start()].rpartition("/")[0] + "/"
    if source.lists_rows and source.image_column is not None:
        yield from (_folder_of(uris.widened(one)) for one in uris.braces(source.pattern))
    if source.uri_column is not None and source.image_base is not None:
        yield _normal(source.image_base).rstrip("/") + "/"
    elif source.uri_column is not None:
        yield from (_folder_of(uris.widened(one)) for one in uris.braces(source.metadata or source.pattern))


def _folder_of(pattern: str) -> str:
    """The folder of a file, or the one below which a glob looks for files."""
    whole = _normal(pattern)
    magic = uris.MAGIC.search(whole)
    return whole[: len(whole) if magic is None else magic.start()].rpartition("/")[0] + "/"


def _normal(pattern: str) -> str:
    """A pattern as the URIs of what it matches begin."""
    protocol, path = _parts(pattern)
    return unicodedata.normalize("NFC", f"{protocol}://{os.path.normpath(path) if protocol in _LOCAL else path}")


def _spelled(uri: str) -> str | None:
    """The URI in the spelling that places have; None where its path leads up, or to a hidden bit of another path."""
    protocol, path = _parts(uri)
    if protocol in _LOCAL and os.path.normpath(path) != (path.rstrip("/") or "/"):
        return None
    if ".." in unquote(path).split("/"):  # a name that is not there is looked for with its percent signs decoded
        return None
    return unicodedata.normalize("NFC", f"{protocol}://{path}")


def _parts(uri: str) -> tuple[str, str]:
    """Protocol and path, under one name where a protocol has several, and with one slash or none before a path."""
    protocol, separator, path = uri.partition("://")
    if not separator:
        return "", uri
    return _ALIASES.get(protocol, protocol), path.lstrip("/") if protocol in _KEYED else path

"""Names of objects: the URI that opens, whatever its spelling, and opening it.

A URI is absolute and opens as spelled: nothing in it is quoted, so that `a b#1.png` stays `a b#1.png`. Only bytes of a
local name that are no UTF-8 are percent-encoded, since no table can hold them. A member of a tar archive has one, too
(see `tar_members`).
"""

import codecs
import itertools
import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from transforms.errors import UsageError
from transforms.storage import addresses, tar_members
from transforms.storage.tar_members import BLOCK

MAGIC: Final = re.compile(r"[*?\[]")
"""What makes a pattern of a path."""

_BRACES: Final = re.compile(r"\{([^{},]*,[^{}]*)\}")

_RANGE: Final = re.compile(r"\{(\d+)\.\.(\d+)\}")
"""As a shell, and WebDataset, have them: `{000..099}`."""

PATTERNS_LIMIT: Final = 1000
"""That braces stand for."""

OBJECT_BYTES_LIMIT = 1 << 30
"""A larger object is not read into memory: it would take more than a picture within the pixel limit can need."""

_PIECE_BYTES: Final = 8 << 20

_RANGES_AT_ONCE: Final = 32

_VIRTUAL = re.compile(r"/(proc|sys|dev)/(?!shm/)")  # /dev/shm is memory that holds files like any other

_HOSTED = frozenset({"s3", "s3a", "gs", "gcs", "http", "https", "ftp", "sftp", "abfs", "abfss", "az", "oss"})

_UNDECODABLE = re.compile(rb"%([89A-F][0-9A-F])")


def _percent(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "".join(f"%{byte:02X}" for byte in error.object[error.start : error.end]), error.end


codecs.register_error("pixdex-percent", _percent)


def braces(pattern: str) -> list[str]:
    """Returns the patterns that one with braces stands for, as a shell has them; itself, where there are none.

    >>> braces("s3://b/{a,b{1,2}}/x.csv"), braces("a{b}c{")
    (['s3://b/a/x.csv', 's3://b/b1/x.csv', 's3://b/b2/x.csv'], ['a{b}c{'])

    Raises:
        UsageError: it stands for more than `PATTERNS_LIMIT`.
    """
    patterns = {pattern: None}
    while any(_BRACES.search(one) for one in patterns):
        patterns = dict.fromkeys(
            f"{one[: found.start()]}{choice}{one[found.end() :]}" if found else one
            for one in patterns
            for found in [_BRACES.search(one)]
            for choice in (found[1].split(",") if found else ("",))
        )
        if len(patterns) > PATTERNS_LIMIT:
            raise UsageError(f"{pattern} stands for more than {PATTERNS_LIMIT} patterns: write fewer braces")
    return list(patterns)


def is_pattern(path: str) -> bool:
    """Tells whether a path has wildcards or braces, so that it may stand for several."""
    return any(one.search(path) for one in (MAGIC, _BRACES, _RANGE))


def widened(glob: str) -> str:
    """Returns a glob without ranges of numbers that matches all that one with them means, and more (`means`)."""
    return _RANGE.sub("*", glob)


def means(glob: str, path: str) -> bool:
    """Tells whether a glob without commas in braces means a path; a range means numbers of as many digits as it has.

    >>> [means("/d/{008..011}.tar", f"/d/{name}.tar") for name in ("008", "010", "10", "012")]
    [True, True, False, False]
    >>> means("/d/{8..11}.tar", "/d/10.tar"), means("/d/*.tar", "/d/e/f.tar")
    (True, False)
    """
    found = _compiled(glob).match(path)
    ends = _RANGE.findall(glob) if found else []
    return found is not None and all(_is_between(found[f"range{place}"], *each) for place, each in enumerate(ends))


def _is_between(digits: str, first: str, last: str) -> bool:
    low, high = sorted((first, last), key=int)
    is_padded = any(each.startswith("0") and each != "0" for each in (low, high))
    width = max(len(low), len(high)) if is_padded else len(str(int(digits)))
    return len(digits) == width and int(low) <= int(digits) <= int(high)


def matches(pattern: str, uri: str) -> bool:
    """Tells whether a glob, which may have braces, means an object."""
    (protocol, _, path), (other, _, glob) = uri.partition("://"), pattern.partition("://")
    return protocol == other and any(means(one, path) for one in braces(glob))


@cache
def _compiled(glob: str) -> re.Pattern[str]:
    from fsspec.utils import glob_translate  # noqa: PLC0415 - takes 0.1 s, and few commands compare names with globs

    numbers = itertools.count()
    translated = glob_translate(_RANGE.sub("{..}", glob))
    return re.compile(re.sub(re.escape(re.escape("{..}")), lambda _: rf"(?P<range{next(numbers)}>\d+)", translated))


def absolute(location: str) -> str:
    """Returns a path or URL as an absolute URL; `~` and relative paths are resolved, links are not followed.

    >>> absolute("/tmp/../data/a b.png")
    'file:///data/a b.png'
    >>> absolute("s3://bucket/x")
    's3://bucket/x'
    """
    if "://" in location:
        return _decodable(location)
    trailing = "/" if location.endswith("/") else ""
    path = os.path.abspath(os.path.expanduser(location))  # noqa: PTH100, PTH111 - a glob is not a path
    return "file://" + _decodable(path) + (trailing if path != "/" else "")


def from_path(protocol: str, path: str) -> str:
    """Returns the URI of what a filesystem of this protocol calls `path`; of the web that is the URI itself.

    >>> from_path("s3", "bucket/a.csv"), from_path("https", "https://host/a.csv")
    ('s3://bucket/a.csv', 'https://host/a.csv')
    """
    if path.startswith(f"{protocol}://"):
        return path
    return f"{protocol}://{_decodable(path)}"


def join(base: str, reference: str) -> str:
    """Returns the URI of `reference`, as a CSV at `base` names it: a URL, an absolute path, or relative to the CSV.

    >>> join("file:///data/rows.csv", "images/a.png"), join("s3://b/rows.csv", "/x.png"), join("s3://b/r.csv", "c.png")
    ('file:///data/images/a.png', 'file:///x.png', 's3://b/c.png')
    """
    if "://" in reference:
        return reference
    if reference.startswith("/"):
        return "file://" + os.path.normpath(reference)
    protocol, _, path = base.partition("://")
    return f"{protocol}://" + os.path.normpath(f"{path.rpartition('/')[0]}/{reference}")


def filesystem_of(uri: str, *, keep_listings: bool = True) -> tuple[Any, str]:  # fsspec is untyped
    """Returns the fsspec filesystem of a URI and what it calls the object; `::` in a name is no chain of protocols.

    fsspec hands the same filesystem to everyone in the process who asks alike. One that is not to `keep_listings` of
    folders sees what others write there at once, and is another than the one that keeps them. A public address on the
    web leads to no private one (see `addresses`).

    Raises:
        ValueError: the protocol is unknown, or a bucket or host belongs to it and none is named: to ask for such an
            object may take minutes of tries.
        ImportError: it needs a package that is not installed.
    """
    import fsspec  # noqa: PLC0415 - takes 0.1 s, and folders and files of this machine are read without it

    protocol, separator, rest = uri.partition("://")
    if not separator:
        raise ValueError(f"{uri} is no URL")
    host = rest.partition("/")[0].rpartition("@")[2]
    if protocol in _HOSTED and host.partition(":")[0] == "" and not host.startswith("["):
        raise ValueError(f"{uri} names no bucket or host: write {protocol}://NAME/…")
    kind = fsspec.get_filesystem_class(protocol)
    options = kind._get_kwargs_from_urls(uri) | ({} if keep_listings else {"use_listings_cache": False})
    if protocol in addresses.WEB and addresses.is_public_host(uri):
        options["get_client"] = addresses.public_client
    return fsspec.filesystem(protocol, **options), str(kind._strip_protocol(uri))


def read_ranges(filesystem: Any, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Returns ranges of bytes of an object, each from one offset to another; fewer bytes where it ends before.

    Args:
        filesystem, name: of the object, as `filesystem_of` returns them.
        ranges: none of them empty.

    Cost: a request a range, 32 at a time where the filesystem can.
    """
    if not ranges:
        return []
    starts, stops = zip(*ranges, strict=True)
    at_once = {"batch_size": _RANGES_AT_ONCE} if filesystem.async_impl else {}
    read: list[bytes] = filesystem.cat_ranges(
        [name] * len(ranges), list(starts), list(stops), on_error="raise", **at_once
    )
    return read


class ObjectTooLargeError(ValueError):
    """An object has more bytes than may be read; raised before they are, where its storage says how many."""


@dataclass(frozen=True)
class Located:
    """An object that is there, and not read yet.

    Attributes:
        path: what its filesystem calls it.
        filesystem: of fsspec; None: it is a file of this machine.
        size: its bytes; None where its storage does not say.
        start: of a member of a tar archive, whose path that is: where its content begins.
    """

    path: str
    filesystem: Any
    size: int | None
    start: int | None = None

    def read(self, limit: int = OBJECT_BYTES_LIMIT) -> bytes:
        """Returns its content; where its size is not known, no more than `limit` bytes are asked for.

        Raises:
            OSError: it cannot be opened or read.
            ObjectTooLargeError: it has more than `limit` bytes.
        """
        if self.size is not None and self.size > limit:
            raise ObjectTooLargeError(f"the object has {self.size} bytes, the limit is {limit}")
        if self.start is not None:
            return b"".join(self._member(self.start))
        if self.filesystem is None:
            assert self.size is not None  # of a file it is always known
            with open(self.path, "rb") as stream:  # noqa: PTH123 - the path may hold undecodable bytes
                # Python makes room for as many bytes as are asked for: one more than there were tells that it grew.
                content: bytes = stream.read(self.size + 1)
            if len(content) > self.size:
                raise OSError(f"the file had {self.size} bytes, and grew while it was read")
        elif self.size is not None:
            content = self.filesystem.cat_file(self.path)
        else:
            with self.filesystem.open(self.path, "rb") as stream:
                content = stream.read(limit + 1)
        if len(content) > limit:
            raise ObjectTooLargeError(f"the object has more than {limit} bytes, which is the limit")
        return content

    def pieces(self, limit: int = OBJECT_BYTES_LIMIT) -> Iterator[bytes]:
        """Yields its content, at most 8 MiB at a time.

        Raises:
            OSError: it cannot be opened or read.
            ObjectTooLargeError: it has more than `limit` bytes.
        """
        if self.size is not None and (self.size <= _PIECE_BYTES or self.size > limit):
            yield self.read(limit)
            return
        if self.start is not None:
            yield from self._member(self.start)
            return
        left = limit
        # The path may hold undecodable bytes.
        with open(self.path, "rb") if self.filesystem is None else self.filesystem.open(self.path, "rb") as stream:  # noqa: PTH123
            while piece := stream.read(min(_PIECE_BYTES, left + 1)):
                left -= len(piece)
                if left < 0:
                    raise ObjectTooLargeError(f"the object has more than {limit} bytes, which is the limit")
                yield piece

    def _member(self, start: int) -> Iterator[bytes]:
        """Yields the content of a member of an archive, whose header is read with its first piece."""
        assert self.size is not None  # its URI says it
        stop = start + self.size
        place = start - BLOCK
        while place < stop:
            piece = self._range(place, min(stop, place + _PIECE_BYTES))
            if len(piece) < min(stop - place, _PIECE_BYTES):
                raise OSError("the tar archive ends before that member does")
            if place < start:
                tar_members.check(piece[:BLOCK], self.size)
                yield piece[BLOCK:]
            else:
                yield piece
            place += len(piece)

    def _range(self, start: int, stop: int) -> bytes:
        if self.filesystem is not None:
            piece: bytes = self.filesystem.cat_file(self.path, start=start, end=stop)
            return piece
        with open(self.path, "rb") as stream:  # noqa: PTH123 - the path may hold undecodable bytes
            stream.seek(start)
            return stream.read(stop - start)


def locate(uri: str) -> Located:
    """Finds the object that a URI names.

    A local name that does not exist as spelled is tried in Unicode's composed and decomposed forms, and with its
    percent-encoded bytes decoded. A member of a tar archive is taken to be there: reading it tells.

    Raises:
        OSError: there is none, it may not be looked at, or it is no regular file.
    """
    protocol, _, path = uri.partition("://")
    member = tar_members.place_of(uri)
    if member is not None and not (protocol == "file" and os.path.lexists(path)):  # else it is what a file is called
        archive, start, size = member
        if protocol != "file":
            filesystem, name = filesystem_of(archive)
            return Located(name, filesystem, size, start)
        return replace(locate(archive), size=size, start=start)
    if protocol != "file":
        filesystem, name = filesystem_of(uri)
        return Located(name, filesystem, filesystem.info(name).get("size"))
    path = existing_path(path)
    # A pipe or a device that a CSV names would block for ever, and so would /proc/kmsg, which calls itself a regular
    # file: look before reading.
    status = os.stat(path)  # noqa: PTH116 - the path may hold undecodable bytes
    if not stat.S_ISREG(status.st_mode) or _VIRTUAL.match(os.path.realpath(path)):
        raise OSError("not a regular file")
    return Located(path, None, status.st_size)


def read(uri: str, limit: int = OBJECT_BYTES_LIMIT) -> bytes:
    """Returns the content of the object that a URI names: `locate`, then `Located.read`."""
    return locate(uri).read(limit)


def existing_path(path: str) -> str:
    """Returns the spelling of a local path that exists, else the path itself.

    Every folder of the path may be spelled in a form of its own.
    """
    if os.path.lexists(path):
        return path
    existing = ""
    for name in path.split("/"):
        spelled = (f"{existing}{spelling}" for spelling in _spellings(name))
        whole = next((spelling for spelling in spelled if os.path.lexists(spelling or "/")), None)
        if whole is None:
            return path
        existing = whole + "/"
    return existing.removesuffix("/")


def _spellings(name: str) -> Iterator[str]:
    yield name
    yield unicodedata.normalize("NFC", name)
    yield unicodedata.normalize("NFD", name)
    if "%" in name:
        # What `from_path` encoded is above 0x7F; only a person writes %20 for a space.
        yield os.fsdecode(_UNDECODABLE.sub(lambda match: bytes([int(match[1], 16)]), os.fsencode(name)))
        yield os.fsdecode(unquote_to_bytes(name))


def version(info: dict[str, Any]) -> str:
    """Returns the version of an object from what a listing says of it: its ETag, else its size and time."""
    for name in ("ETag", "etag", "md5Hash", "content_md5"):
        if info.get(name):
            return "etag:" + str(info[name]).strip('"')
    changed = info.get("mtime", info.get("LastModified", info.get("created", "")))
    return f"stat:{info.get('size')}-{changed}"


def _decodable(path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path).decode("utf-8", "pixdex-percent")
    return path

"""Members of tar archives: the header that stands before each, and the URI by which its content is read alone.

Headers are those of v7, ustar (POSIX.1-1988), GNU tar and pax (POSIX.1-2001): a block of 512 bytes with a checksum. A
header that is followed by another for the same member (long names, pax records) says nothing here of that one.
"""

import re
from dataclasses import dataclass
from typing import Final

BLOCK: Final = 512
"""Bytes of a header; content is filled up to a multiple of it."""

ZEROS: Final = bytes(BLOCK)
"""What stands at the end of an archive."""

_FILES: Final = (b"0", b"\0", b"7")
_CHECKSUM: Final = slice(148, 156)
_HIGH: Final = bytes(range(128, 256))
_URI: Final = re.compile(r"(.+)#bytes=([0-9]{1,15})\+([0-9]{1,15})", re.DOTALL)


@dataclass(frozen=True)
class Header:
    """What one block says.

    Attributes:
        name: of the member, bytes as they stand.
        size: bytes of its content, also where its kind has none.
        kind: the type flag, one byte.
        has_more: more blocks of the map of an old GNU sparse file follow.
    """

    name: bytes
    size: int
    kind: bytes
    has_more: bool

    @property
    def is_file(self) -> bool:
        """Whether it is an ordinary file; of v7 a name with a slash at its end is a folder."""
        return self.kind in _FILES and not self.name.endswith(b"/")


def header_of(block: bytes) -> Header:
    """Reads a header.

    Raises:
        ValueError: it is none, which its checksum tells of nearly all.
    """
    if len(block) != BLOCK:
        raise ValueError("it is cut short")
    # Some old writers added up signed bytes.
    total = sum(block) - sum(block[_CHECKSUM]) + 8 * ord(" ")
    high = block[: _CHECKSUM.start] + block[_CHECKSUM.stop :]
    signed = total - 256 * (len(high) - len(high.translate(None, _HIGH)))
    if _number(block[_CHECKSUM]) not in (total, signed):
        raise ValueError("its checksum is another")
    name, prefix = _text(block[:100]), _text(block[345:500])
    if block[257:263] == b"ustar\0" and prefix:
        name = prefix + b"/" + name
    kind = block[156:157]
    return Header(name, _number(block[124:136]), kind, kind == b"S" and block[482] != 0)


def _number(field: bytes) -> int:
    """A number in octal digits, or, after a byte of 0x80, in binary."""
    if field[0] & 0x80:
        number = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:])
        if field[0] & 0x40 or number >= 1 << 62:
            raise ValueError("a number in it is negative or huge")
        return number
    digits = field.partition(b"\0")[0].strip()
    if digits.strip(b"01234567"):
        raise ValueError("a number in it is none")
    return int(digits or b"0", 8)


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def uri_of(archive: str, start: int, size: int) -> str:
    """Returns the URI of a member: that of its archive, and where in it the content begins and how long it is.

    >>> uri_of("s3://b/a.tar", 512, 20)
    's3://b/a.tar#bytes=512+20'
    """
    return f"{archive}#bytes={start}+{size}"


def place_of(uri: str) -> tuple[str, int, int] | None:
    """Takes the URI of a member apart, into archive, start and size; None: it is of none.

    >>> place_of("s3://b/a.tar#bytes=512+20"), place_of("s3://b/a.png")
    (('s3://b/a.tar', 512, 20), None)
    """
    found = _URI.fullmatch(uri)
    return None if found is None or int(found[2]) < BLOCK else (found[1], int(found[2]), int(found[3]))


def archive_of(uri: str) -> str:
    """Returns the archive of a member, or what else a URI names."""
    place = place_of(uri)
    return uri if place is None else place[0]


def check(block: bytes, size: int) -> None:
    """Looks whether a block is the header of a file of so many bytes.

    Raises:
        OSError: it is not: the archive was written anew, or is none.
    """
    try:
        header = header_of(block)
    except ValueError as error:
        raise OSError(f"no member of a tar archive begins there ({error})") from error
    if not header.is_file or header.size != size:
        raise OSError("another member of the tar archive begins there")

"""The members of a tar archive, in order, by a strict reader: what it cannot make sense of ends it, by name and byte.

It holds one header at a time. Common readers take the first block that is no header for the end, so that an archive
with a hole in it seems to be a short one; here the end is the zeros that must stand there, and what follows them is
read on, as of archives that were joined.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Final, Literal

from transforms.errors import UsageError
from transforms.storage.tar_members import BLOCK, ZEROS, Header, header_of

FLAG: Final = "--tars"

_NAME_BYTES: Final = 64 << 10
"""Of the longest name."""

_RECORDS_BYTES: Final = 1 << 20
"""Of all pax records of a member."""

_ZEROS_AT_ONCE: Final = 1 << 20

_PACKED: Final = (
    (b"\x1f\x8b", "gzip", "gunzip"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd -d"),
    (b"BZh", "bzip2", "bunzip2"),
    (b"\xfd7zXZ", "xz", "unxz"),
    (b"\x04\x22\x4d\x18", "lz4", "lz4 -d"),
)

Kind = Literal["file", "folder", "link", "sparse", "special"]

_KINDS: Final[dict[bytes, Kind]] = {
    **dict.fromkeys((b"0", b"\0", b"7"), "file"),
    **dict.fromkeys((b"1", b"2"), "link"),
    **dict.fromkeys((b"5", b"D", b"V"), "folder"),  # also a label, which names the whole archive
    b"S": "sparse",
}
_WITHOUT_CONTENT: Final = (b"1", b"2", b"3", b"4", b"5", b"6", b"V")
"""Of these kinds nothing follows, whatever size they name."""


@dataclass(frozen=True)
class Member:
    """One member.

    Attributes:
        name: bytes that are no UTF-8 are percent-encoded.
        kind: what it is; `special` is a device, a pipe, or of a kind that nobody knows.
        start, size: where its content is in the archive.
        is_sized: its own header says that size, so that it can be read alone.
    """

    name: str
    kind: Kind
    start: int
    size: int
    is_sized: bool


@dataclass
class _Said:
    """What the headers before that of a member say of it."""

    records: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def is_sparse(self) -> bool:
        return any(key.startswith(b"GNU.sparse.") for key in self.records)


def members(stream: IO[bytes], size: int, uri: str) -> Iterator[Member]:
    """Yields the members of an archive; meanwhile the stream stands where the content of the last one begins.

    Args:
        stream: can be moved to any byte.
        size: its bytes.
        uri: what to call it.

    Raises:
        UsageError: it is no tar archive, compressed, damaged, or cut short.
        OSError: it cannot be read.
    """
    return _Reader(stream, size, uri).members()


@dataclass
class _Reader:
    stream: IO[bytes]
    size: int
    uri: str
    at: int = 0
    last: str = ""
    has_ended: bool = False

    def members(self) -> Iterator[Member]:
        said = _Said()
        while self.at < self.size:
            begun = self.at
            block = self.read(BLOCK)
            if block == ZEROS and not said.records:
                self.skip_zeros()
                continue
            header = self.header(block, begun)
            if header.kind in (b"L", b"K", b"x", b"X", b"g"):
                self.take(header, said)
                continue
            while header.has_more and self.read(BLOCK)[504]:
                pass
            member = self.member(header, said)
            said, self.has_ended, self.last = _Said(), False, member.name
            yield member
            self.at = member.start + -(-member.size // BLOCK) * BLOCK
            if self.at > self.size:
                raise self.cut_short()
        if self.size == 0:
            raise self.no_archive(b"")
        if said.records or not self.has_ended:
            raise self.cut_short()

    def header(self, block: bytes, begun: int) -> Header:
        try:
            return header_of(block)
        except ValueError as error:
            if begun == 0:
                raise self.no_archive(block) from error
            what = "behind its end" if self.has_ended else f"behind {self.last!r}" if self.last else "in it"
            raise UsageError(
                f"{FLAG} {self.uri} is damaged: at byte {begun}, {what}, is no header of a member ({error}); copy it "
                "again, or write it anew"
            ) from error

    def member(self, header: Header, said: _Said) -> Member:
        records = said.records
        name = records.get(b"GNU.sparse.name") or records.get(b"path") or header.name
        kind: Kind = "special"
        if header.kind in _KINDS:
            kind = "folder" if _KINDS[header.kind] == "file" and name.endswith(b"/") else _KINDS[header.kind]
        if kind == "file" and said.is_sparse:
            kind = "sparse"
        size = self.number(records[b"size"]) if b"size" in records else header.size
        size = 0 if header.kind in _WITHOUT_CONTENT else size
        if self.at + size > self.size:
            raise self.cut_short(_decoded(name))
        return Member(_decoded(name), kind, self.at, size, header.is_file and header.size == size)

    def take(self, header: Header, said: _Said) -> None:
        """Reads a header that says something of the member behind it."""
        most = _NAME_BYTES if header.kind in (b"L", b"K") else _RECORDS_BYTES
        if header.size > most:
            raise UsageError(
                f"{FLAG} {self.uri} is damaged: at byte {self.at - BLOCK}, a header says that a name or records of "
                f"{header.size} bytes follow, of {most} at most; write it anew"
            )
        data = self.read(-(-header.size // BLOCK) * BLOCK)[: header.size]
        if header.kind == b"L":
            said.records[b"path"] = data.partition(b"\0")[0]
        elif header.kind in (b"x", b"X", b"g"):
            found = {key: value for key, value in self.records(data) if _is_heeded(key)}
            if header.kind == b"g" and found:
                key = min(found).decode("utf-8", "replace")
                raise UsageError(
                    f"{FLAG} {self.uri} has a header that says {key[:60]!r} of all members; write it anew, for example "
                    "with tar --format=pax"
                )
            said.records |= found

    def records(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Reads pax records, each `LENGTH KEY=VALUE` and the end of a line."""
        at = 0
        while at < len(data) and data[at]:
            digits, space, _ = data[at : at + 12].partition(b" ")
            length = self.number(digits) if space else 0
            record = data[at + len(digits) + 1 : at + length]
            if not record.endswith(b"\n") or b"=" not in record or at + length > len(data):
                raise self.bad_records()
            key, _, value = record[:-1].partition(b"=")
            yield key, value
            at += length

    def number(self, digits: bytes) -> int:
        if not digits.isdigit() or len(digits) > 18:
            raise self.bad_records()
        return int(digits)

    def read(self, count: int) -> bytes:
        """Reads the next bytes."""
        if self.at + count > self.size:
            raise self.no_archive(whole(self.stream, self.size)) if self.at == 0 else self.cut_short()
        self.stream.seek(self.at)
        data = whole(self.stream, count)
        if len(data) < count:
            raise self.cut_short()
        self.at += count
        return data

    def skip_zeros(self) -> None:
        self.has_ended = True
        while self.at < self.size:
            begun = self.at
            data = self.read(min(_ZEROS_AT_ONCE, self.size - self.at))
            if there := len(data.lstrip(b"\0")):
                self.at = begun + (len(data) - there) // BLOCK * BLOCK
                return

    def no_archive(self, head: bytes) -> UsageError:
        for magic, name, command in _PACKED:
            if head.startswith(magic):
                return UsageError(
                    f"{FLAG} {self.uri} is compressed with {name}, so that no picture of it can be read alone: unpack "
                    f"it ({command} makes a .tar of it; pictures are compressed themselves), and name that"
                )
        what = "is empty, and" if self.size == 0 else "is"
        return UsageError(f"{FLAG} {self.uri} {what} no tar archive: name one that tar made, or leave it out")

    def cut_short(self, name: str = "") -> UsageError:
        where = f"in {name!r}" if name else f"behind {self.last!r}" if self.last else "at its beginning"
        return UsageError(
            f"{FLAG} {self.uri} is cut short {where}: it has {self.size} bytes, and not the zeros with which an "
            "archive ends; copy it again, or write it anew"
        )

    def bad_records(self) -> UsageError:
        return UsageError(f"{FLAG} {self.uri} is damaged: before byte {self.at} it has pax records that are none")


def whole(stream: IO[bytes], count: int) -> bytes:
    """Reads so many bytes, or all that there are."""
    data = stream.read(count)
    while len(data) < count and (more := stream.read(count - len(data))):
        data += more
    return data


def _is_heeded(key: bytes) -> bool:
    return key in (b"path", b"size") or key.startswith(b"GNU.sparse.")


def _decoded(name: bytes) -> str:
    return name.partition(b"\0")[0].rstrip(b"/").decode("utf-8", "pixdex-percent")

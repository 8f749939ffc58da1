"""Records as JSON with sorted keys, as they lie on storage: equal records are equal bytes."""

from typing import TypeVar

import msgspec

from transforms.errors import PixdexError, UnsafePathError, UsageError, check_file
from transforms.records import FORMAT_VERSION, NEWEST_VERSION, files_in

T = TypeVar("T")


class _Versioned(msgspec.Struct):
    format_version: int = FORMAT_VERSION


def encode(record: object) -> bytes:
    """Returns a record as JSON with sorted keys: equal records give equal bytes."""
    return msgspec.json.format(msgspec.json.encode(record, order="sorted"), indent=1) + b"\n"


def decode(data: bytes, kind: type[T], name: str) -> T:
    """Reads a record back.

    Args:
        data: what `encode` returned.
        kind: class of the record.
        name: where the bytes came from, for the message.

    Raises:
        PixdexError: the bytes are not such a record, or a newer version of it, or refer to a file as none can be.
        UsageError: it names a file that is not plainly one below its root.
    """
    try:
        version = msgspec.json.decode(data, type=_Versioned).format_version
        if version > NEWEST_VERSION:
            raise PixdexError(
                f"{name} has format version {version}, this pixdex reads up to {NEWEST_VERSION}: upgrade pixdex"
            )
        record = msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        if isinstance(error.__cause__, UnsafePathError):
            raise UsageError(f"{name}: {error.__cause__}") from error
        raise PixdexError(
            f"{name} is not a readable {kind.__name__} ({error}): restore it, or use another root"
        ) from error
    try:
        for file in files_in(record):
            check_file(file.path, file.bytes, file.checksum)
    except ValueError as error:
        raise PixdexError(f"{name} is damaged ({error}): restore it, or use another root") from error
    return record

"""The files that a file, a folder or a glob means: of rows, and of ready embeddings."""

import unicodedata
from typing import Any

from transforms.errors import UsageError
from transforms.records import Source
from transforms.storage import uris


def row_files(flag: str, pattern: str) -> list[str]:
    """Returns the URIs of files of rows: a file that is there under this very name, or what a glob means.

    Raises:
        UsageError: a glob means no file; one that is not there says so where it is read.
    """
    try:
        filesystem, path = uris.filesystem_of(pattern)
        if not uris.is_pattern(path) or filesystem.exists(path):
            return [pattern]
    except (OSError, ImportError, ValueError):
        return [pattern]  # reading it says what is wrong
    return files(flag, pattern, ())


def files(flag: str, pattern: str, endings: tuple[str, ...]) -> list[str]:
    """Returns the URIs of the files that a file, folder or glob means, by path; `a{b,c}` means `ab` and `ac`.

    Args:
        flag: what names them to a person.
        pattern: of them.
        endings: that they must have, and by which a folder has them; none: any, and a folder means none.

    Raises:
        UsageError: there is none, they cannot be listed, or one has another ending.
    """
    try:
        filesystem, path = uris.filesystem_of(pattern)
        filesystem.invalidate_cache()
        entries: dict[str, Any] = {}
        is_there = filesystem.exists(path)
        if uris.is_pattern(path) and not is_there:
            for one in uris.braces(path):
                found = filesystem.glob(uris.widened(one), detail=True)
                entries |= {name: entry for name, entry in found.items() if uris.means(one, name)}
        elif endings and filesystem.isdir(path):
            entries = filesystem.find(path, detail=True)
            entries = {name: entry for name, entry in entries.items() if is_wanted(name[len(path) :], endings)}
        else:
            entries = {path: {"type": "file"}} if is_there else {}  # reading it says what else it is
        # To open a pipe is to wait for ever.
        names = [name for name, entry in entries.items() if followed(filesystem, entry)["type"] == "file"]
    except OSError as error:
        raise UsageError(f"{flag} {pattern} cannot be listed ({error.strerror or error}): mend it") from error
    except (ImportError, ValueError) as error:
        raise UsageError(f"{flag} {pattern}: {error}") from error
    if not names:
        folder = f", a folder every {' and '.join(endings)} file below it" if endings else ""
        raise UsageError(f"{flag} {pattern} matches no file: a glob means exactly what it matches{folder}")
    other = next((name for name in names if endings and not name.lower().endswith(endings)), None)
    if other is not None:
        raise UsageError(f"{flag} {pattern} matches {other}, which is not {' or '.join(endings)}: name only those")
    protocol = pattern.partition("://")[0]
    return [uris.from_path(protocol, name) for name in sorted(names, key=lambda name: str(name).split("/"))]


def followed(filesystem: Any, entry: dict[str, Any]) -> dict[str, Any]:  # fsspec is untyped
    """Returns what a link leads to; one that leads nowhere is a file, which cannot be read."""
    if not entry.get("islink"):
        return entry
    try:
        info: dict[str, Any] = filesystem.info(entry["name"])
    except OSError:
        return {**entry, "type": "file"}
    return info


def is_wanted(below: str, endings: tuple[str, ...]) -> bool:
    """Tells whether a file below a folder has one of some endings, and is not hidden."""
    hidden = any(part.startswith(".") for part in below.split("/"))
    return below.lower().endswith(endings) and not hidden


def file_of(source: Source, key: str) -> str | None:
    """Returns the file of a source of rows that a key is of, in Unicode's composed form; None: of none."""
    pattern = unicodedata.normalize("NFC", source.pattern)
    if key.startswith(pattern + "#"):
        return pattern
    if not uris.is_pattern(pattern):
        return None
    ends = (place for place, letter in enumerate(key) if letter == "#")
    return next((key[:end] for end in ends if uris.matches(pattern, key[:end])), None)

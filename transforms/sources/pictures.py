"""Pictures by folder or glob: each file is an item.

A glob means exactly the files it matches; a folder means every file with a picture's ending below it, hidden ones left
out. Links to files are followed; links to folders only by a glob without `**`, as they can lead in circles. The rest is
counted by kind (`left_out`): of a folder all that is not taken, of a glob what it matches and is no file.
"""

import math
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from fsspec.utils import glob_translate

from transforms.errors import UsageError
from transforms.pictures.decode import PICTURE_ENDINGS
from transforms.records import Source
from transforms.sources import items, keys, left_out
from transforms.sources.left_out import Tally
from transforms.storage import uris

CONTAINERS_WANTED = 64
"""Folders are opened, level by level, until there are so many parts to be listed side by side."""

_FOLDERS_AT_ONCE = 8
"""Folders opened at a time while containers are sought; the listing of each is held in memory."""


_PATH_LIMIT = 4096
"""Bytes of a path that a filesystem has at most; a listing that names longer ones leads in a circle."""


@dataclass
class _Content:
    """What lies directly in a folder: folders and files, each in order of name; path and kind of what is neither."""

    folders: list[str] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    others: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class PictureListing:
    """Lists the pictures of one source.

    Cost: one listing call a folder, and one more for each of the at most 64 that `containers` opens; memory is one
    folder's listing, and eight of them in `containers`.
    """

    source: Source

    @cached_property
    def _filesystem(self) -> tuple[Any, str]:  # fsspec is untyped
        return uris.filesystem_of(self.source.pattern)

    @cached_property
    def _is_glob(self) -> bool:
        filesystem, path = self._filesystem
        return bool(uris.MAGIC.search(path)) and not filesystem.exists(path)

    @cached_property
    def _base(self) -> str:
        """The folder (or the one file) below which everything lies that the source can mean."""
        path = self._filesystem[1]
        if not self._is_glob:
            return path
        return path[: uris.MAGIC.search(path).start()].rpartition("/")[0] or "/"  # type: ignore[union-attr]  # it is a glob

    @cached_property
    def _matches(self) -> re.Pattern[str]:
        return re.compile(glob_translate(self._filesystem[1]))

    @cached_property
    def _levels(self) -> float:
        """Levels of folders below the base that can hold a match: of a glob without `**`, as many as it has."""
        _, path = self._filesystem
        if not self._is_glob or "**" in path:
            return math.inf
        return path[len(self._base) :].strip("/").count("/")

    def containers(self) -> list[str]:
        """Returns parts that can be listed side by side and together hold every file once, in order of their paths.

        A path with a slash at its end is a folder with all that lies below it, one without is a folder's own files.
        Folders are opened level by level, while there are few: a tree that begins as one folder in another is divided
        where it spreads.
        """
        opened: list[str] = []
        level = [self._base]
        depth = 0
        with ThreadPoolExecutor(_FOLDERS_AT_ONCE) as pool:
            while level and len(opened) + len(level) < CONTAINERS_WANTED and depth < self._levels:
                opened += level
                level = [below for folders in pool.map(self._folders, level) for below in folders]
                depth += 1
        parts = [*(folder.rstrip("/") for folder in opened), *(folder.rstrip("/") + "/" for folder in level)]
        return sorted(parts, key=lambda part: part.split("/"))

    def first(self) -> str | None:
        """Returns the path of any one picture, or None: enough to refuse a source that has none."""
        return next((str(files[0]["name"]) for files in self._files(self._base.rstrip("/") + "/", Tally())), None)

    def batches(
        self,
        container: str,
        earlier: Sequence["PictureListing"] = (),
        later: Sequence["PictureListing"] = (),
        tally: Tally | None = None,
    ) -> Iterator[pa.Table]:
        """Lists one container as item batches, folder by folder, by name within a folder.

        Args:
            container: one of `containers`.
            earlier: other sources; what one of them lists, or leaves out, too is left to it.
            later: those that may list what this one leaves out.
            tally: counts what is met.
        """
        tally = Tally() if tally is None else tally
        for files in self._files(container, tally, earlier, later):
            if own := [file for file in files if not any(other.accepts(file["name"]) for other in earlier)]:
                yield self._table(own, tally)

    def accepts(self, path: str) -> bool:
        """Tells whether a file of this path belongs to the source, whether or not it is there."""
        return self._wants(path) and self._reaches(path.rpartition("/")[0])

    def meets(self, path: str) -> bool:
        """Tells whether the listing comes upon what lies at this path, whether or not it is taken."""
        if self._is_glob:
            return self.accepts(path)
        below = path.startswith(self._base.rstrip("/") + "/")
        return path == self._base or (below and self._reaches(path.rpartition("/")[0]))

    def _reaches(self, folder: str) -> bool:
        """Tells whether the listing enters a folder that lies below the base."""
        if self._levels < math.inf or len(folder) <= len(self._base):
            return True
        if folder not in self._reached:
            above, _, name = folder.rpartition("/")
            hidden = name.startswith(".") and not self._is_glob
            linked = self.source.pattern.startswith("file://") and Path(folder).is_symlink()
            self._reached[folder] = not hidden and not linked and self._reaches(above)
        return self._reached[folder]

    @cached_property
    def _reached(self) -> dict[str, bool]:
        return {}

    def _wants(self, path: str) -> bool:
        """Tells whether a file that the listing met belongs to the source."""
        if self._is_glob:
            return bool(self._matches.match(path))
        if path == self._base:
            return True
        name = path.rpartition("/")[2]
        below = path.startswith(self._base.rstrip("/") + "/")
        return below and not name.startswith(".") and PurePosixPath(name).suffix.lower() in PICTURE_ENDINGS

    def _files(
        self,
        container: str,
        tally: Tally,
        earlier: Sequence["PictureListing"] = (),
        later: Sequence["PictureListing"] = (),
    ) -> Iterator[list[dict[str, Any]]]:
        """Yields the files of the source, folder by folder, and counts what it leaves out and no other sees to."""
        waiting = [container.rstrip("/") or "/"]
        while waiting:
            folder = waiting.pop()
            content = self._content(folder)
            below = folder[len(self._base) :].strip("/")
            level = below.count("/") + 1 if below else 0
            if container.endswith("/") and level < self._levels:
                waiting.extend(reversed(content.folders))
            wanted = [file for file in content.files if self._wants(file["name"])]
            beside = content.others
            if not self._is_glob:
                names = (file["name"] for file in content.files if not self._wants(file["name"]))
                unasked = (name for name in names if not any(other.accepts(name) for other in later))
                beside = [*beside, *((name, left_out.kind_of_file(name)) for name in unasked)]
            own = (kind for name, kind in beside if not any(other.meets(name) for other in earlier))
            tally.left_out.update(own)
            if wanted:
                yield wanted

    def _folders(self, folder: str) -> list[str]:
        return self._content(folder).folders

    def _content(self, folder: str) -> _Content:
        """Looks into a folder.

        A listing is believed of what lies directly in the folder only: keys of an object store with two slashes in a
        row make it name the folder itself, and others may name one above.
        """
        content, own = _Content(), folder.rstrip("/")
        for entry in self._entries(folder):
            name, is_folder = str(entry["name"]), entry["type"] == "directory"
            path = name.rstrip("/")
            if name.endswith("/") and not is_folder:
                continue  # an object that stands for a folder of its name
            if path == own and is_folder:
                self._leave_out(content, own + "/", left_out.NAMELESS_FOLDER)
            elif path != own and (path.rpartition("/")[0] != own or len(path) > _PATH_LIMIT):
                self._leave_out(content, path, left_out.ELSEWHERE)
            elif is_folder:
                self._meet_folder(content, path, is_linked="linked" in entry)
            elif entry["type"] == "file":
                content.files.append(entry)
            else:
                self._leave_out(content, path, left_out.kind_of_special(entry))
        return content

    def _meet_folder(self, content: _Content, path: str, *, is_linked: bool) -> None:
        if path.rpartition("/")[2].startswith(".") and not self._is_glob:
            content.others.append((path, left_out.HIDDEN_FOLDER))
        elif is_linked and self._levels == math.inf:
            self._leave_out(content, path, left_out.LINKED_FOLDER)
        else:
            content.folders.append(path)
            if self._levels < math.inf:
                self._leave_out(content, path, left_out.FOLDER)

    def _leave_out(self, content: _Content, path: str, kind: str) -> None:
        """Counts what is no file: of a glob, where it matches."""
        if not self._is_glob or self._matches.match(path):
            content.others.append((path, kind))

    def _entries(self, folder: str) -> list[dict[str, Any]]:
        """Lists a folder, by name; links are what they lead to."""
        filesystem, _ = self._filesystem
        filesystem.invalidate_cache()
        try:
            entries = filesystem.ls(folder, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except PermissionError as error:
            raise UsageError(
                f"--images {self.source.pattern}: {folder} may not be read: mend its permissions"
            ) from error
        return [self._followed(entry) for entry in sorted(entries, key=lambda entry: str(entry["name"]))]

    def _followed(self, entry: dict[str, Any]) -> dict[str, Any]:
        if not entry.get("islink"):
            return entry
        try:
            return {**self._filesystem[0].info(entry["name"]), "name": entry["name"], "linked": True}
        except OSError:
            return {**entry, "type": "file"}  # a dangling link becomes a reject, by name

    def _table(self, files: list[dict[str, Any]], tally: Tally) -> pa.Table:
        protocol = self.source.pattern.partition("://")[0]
        uri = pa.array([uris.from_path(protocol, file["name"]) for file in files], pa.string())
        version = pa.array([uris.version(file) for file in files], pa.string())
        return items.table_of(
            key=keys.nfc(uri), uri=uri, version=version, image=uri, columns=self._named_groups(keys.nfc(uri), tally)
        )

    def _named_groups(self, uri: pa.Array, tally: Tally) -> dict[str, pa.Array]:
        """Columns from the file names, by `key_pattern`; null where a name does not match."""
        if not self.source.key_pattern:
            return {}
        stem = pc.replace_substring_regex(pc.replace_substring_regex(uri, "(?s)^.*/", ""), r"(?s)(.)\.[^.]*$", r"\1")
        groups = pc.extract_regex(stem, f"^(?:{self.source.key_pattern})$")
        names = [group.name for group in groups.type]
        tally.named += len(groups) - groups.null_count
        tally.unnamed += groups.null_count
        return dict(zip(items.column_names(names), groups.flatten(), strict=True))


def check(source: Source) -> None:
    """Refuses a picture source that cannot work, before any work is done.

    Raises:
        UsageError: nothing matches, or `key_pattern` is no regular expression with named groups.
    """
    pattern = source.key_pattern
    if pattern:
        try:
            groups = list(pc.extract_regex(pa.array([""]), f"^(?:{pattern})$").type)
        except pa.ArrowInvalid as error:
            raise UsageError(f"--key-pattern {pattern}: {error}; use RE2 syntax with (?P<name>…) groups") from error
        if not groups:
            raise UsageError(f"--key-pattern {pattern} names no group: write (?P<name>…) for each column")
    try:
        picture = PictureListing(source).first()
    except (ImportError, ValueError) as error:
        raise UsageError(f"--images {source.pattern}: {error}") from error
    if picture is None:
        raise UsageError(
            f"--images {source.pattern} matches no file: a glob means exactly what it matches, "
            "a folder every picture below it"
        )

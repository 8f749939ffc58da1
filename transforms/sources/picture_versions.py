"""Versions of the pictures that a CSV names, asked for side by side, or by listing a folder once."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from transforms.storage import addresses, uris

_LIST_FROM = 64
"""From how many pictures of one folder in a block on the folder is listed instead of asking for each."""

_FILES_KEPT = 500_000
"""Of so many files the listing is kept for the blocks to come: about 100 MB."""

_STATS_AT_ONCE = 16
"""Asking for a picture waits for a store far away, so ask for this many at a time."""


@dataclass(frozen=True)
class PictureVersions:
    """Finds the versions of the pictures that one CSV names, block after block.

    Cost: one request a picture, 16 at a time; or one listing of a folder, where a block names at least 64 pictures of
    it. A listing serves the blocks that follow, while the last ones hold no more than 500,000 files.
    """

    _listed: dict[str, dict[str, str]] = field(default_factory=dict)

    def of(self, pictures: Iterable[str]) -> dict[str, str]:
        """Returns the version of every picture; one that is not there, or lies on the web, has a version of its own."""
        versions: dict[str, str] = {}
        folders: dict[str, list[str]] = {}
        for picture in dict.fromkeys(pictures):
            if addresses.is_web(picture):
                versions[picture] = "url:" + picture
            else:
                folders.setdefault(picture.rpartition("/")[0], []).append(picture)
        unlisted = []
        for folder, members in folders.items():
            listed = self._folder(folder, len(members))
            for picture in members:
                if version := listed.get(picture.rpartition("/")[2]):
                    versions[picture] = version
                else:
                    unlisted.append(picture)
        return versions | _versions_of(unlisted)

    def _folder(self, folder: str, named: int) -> dict[str, str]:
        """Returns the versions of a folder's files, or nothing where listing it would cost more than asking."""
        if folder not in self._listed and named >= _LIST_FROM:
            self._listed[folder] = versions = _folder_versions(folder)
            while len(self._listed) > 1 and sum(map(len, self._listed.values())) > _FILES_KEPT:
                del self._listed[next(iter(self._listed))]
            return versions
        return self._listed.get(folder, {})


def _folder_versions(folder: str) -> dict[str, str]:
    try:
        filesystem, path = uris.filesystem_of(folder)
        filesystem.invalidate_cache()
        entries = filesystem.ls(path, detail=True)
    except Exception:  # noqa: BLE001 - as in `_version_of`
        return {}
    return {entry["name"].rpartition("/")[2]: uris.version(entry) for entry in entries if not entry.get("islink")}


def _versions_of(pictures: Sequence[str]) -> dict[str, str]:
    versions: dict[str, str] = {}
    with ThreadPoolExecutor(_STATS_AT_ONCE) as pool:
        for start in range(0, len(pictures), 1024):  # a future takes more memory than what it brings
            some = pictures[start : start + 1024]
            # Opened here and not by the threads, for each of which fsspec would connect and log in anew.
            versions.update(zip(some, pool.map(_version_of, map(_opened, some)), strict=True))
    return versions


def _opened(picture: str) -> tuple[Any, str] | None:  # fsspec is untyped
    try:
        return uris.filesystem_of(picture)
    except Exception:  # noqa: BLE001 - as in `_version_of`
        return None


def _version_of(opened: tuple[Any, str] | None) -> str:
    if opened is None:
        return "missing:"
    filesystem, name = opened
    try:
        local = isinstance(filesystem, LocalFileSystem)
        return uris.version(filesystem.info(uris.existing_path(name) if local else name))
    except Exception:  # noqa: BLE001 - every object store raises its own; the embed stage says what is wrong
        return "missing:"

"""What is wrong with a generation: collected, with the name of the file and the way out, and never raised."""

from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock
from typing import Final

from transforms.errors import PixdexError
from transforms.records import FileReference
from transforms.storage.store import Store

MOST_FINDINGS: Final = 1000

RESTORE: Final = "restore it from a backup, or go back with pixdex rollback to a generation that does not need it"
REPAIR: Final = "pixdex reindex --repair embeds its items anew"
REBUILD: Final = "pixdex reindex --retrain always makes it anew from the stored embeddings"
RENEW: Final = "restore it from a backup, or touch the files of its vectors: pixdex reindex then takes them anew"
RETUNE: Final = "pixdex tune --off goes without it, and pixdex tune makes it anew"
REPAIR_AND_REBUILD: Final = "pixdex reindex --repair --retrain always"
"""Where both are needed: either alone stops at what the other one mends."""

_WAYS: Final = {
    "embeddings": REPAIR,
    "rejects": REPAIR,
    "lists": REBUILD,
    "vectors": REBUILD,
    "index": REBUILD,
    "trained": REBUILD,
}
_OWN_WAY: Final = ("; delete it", ": restore it")
"""How the way out begins that an error of a reader names; that of a finding knows more."""


@dataclass(frozen=True)
class Finding:
    """Something that is wrong: with which file (its whole path or URL), what, and the way out."""

    path: str
    what: str


class Report:
    """What was looked at, and what is wrong; threads may share it.

    Attributes:
        files, bytes: how many files were looked at, and their size.
        count: how many findings there are; the first thousand are kept.
    """

    def __init__(self, store: Store) -> None:
        """Begins a report on a root."""
        self._store, self._lock = store, Lock()
        self._kept: list[Finding] = []
        self._damaged: set[str] = set()
        self.files = self.bytes = self.count = 0

    @property
    def findings(self) -> list[Finding]:
        """What is wrong, by file, in the order in which it was found."""
        return sorted(self._kept, key=lambda finding: finding.path)

    def saw(self, files: Iterable[FileReference]) -> None:
        """Counts files that are looked at."""
        for file in files:
            self.files, self.bytes = self.files + 1, self.bytes + file.bytes

    def found(self, path: str, what: str, way_out: str | None = None) -> None:
        """Notes something that is wrong with a file of the root, or with one elsewhere, by its URL.

        Args:
            path: relative to the root, or a URL.
            what: goes on the name of the file.
            way_out: by default what helps with files of this folder.
        """
        name = path if "://" in path else f"{self._store.url}/{path}"
        with self._lock:
            self.count += 1
            if len(self._kept) < MOST_FINDINGS:
                self._kept.append(Finding(name, f"{what}: {way_out or way_of(path)}"))

    def damaged(self, file: FileReference, what: str, way_out: str | None = None) -> None:
        """Notes that a file is not the one that was written: nothing else is read from it."""
        self._damaged.add(file.path)
        self.found(file.path, what, way_out)

    def unreadable(self, file: FileReference, error: Exception, way_out: str | None = None) -> None:
        """Notes that a file cannot be read, for what its reader says."""
        self.damaged(file, reason_of(error, f"{self._store.url}/{file.path}", file.path), way_out)

    def is_whole(self, *files: FileReference | None) -> bool:
        """Tells whether nothing has been found to be wrong with files as such."""
        return not any(file.path in self._damaged for file in files if file is not None)


def way_of(path: str) -> str:
    """Returns what helps when a file of the root is lost.

    >>> way_of("lists/9f3c/block-0000000000-1a77.ivf") == REBUILD, way_of("tables/9f3c.parquet") == RESTORE
    (True, True)
    """
    if path.rpartition("/")[2].startswith("spread-"):  # it lies beside the trained index, which is whole without it
        return RETUNE
    return _WAYS.get(path.partition("/")[0], RESTORE)


def reason_of(error: Exception, *names: str) -> str:
    """Returns what an error says, without the names of its file and the way out that it names."""
    text = str(error) if isinstance(error, PixdexError) else f"cannot be read ({error})"
    for name in names:
        text = text.removeprefix(f"{name} ")
    for begin in _OWN_WAY:
        text = text.partition(begin)[0]
    return text

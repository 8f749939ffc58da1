"""A root in the memory of this process, memory://: an object store for tests, gone with the process."""

import threading
from pathlib import Path

from transforms.storage.objects import ObjectStore

_LOCK = threading.Lock()


class Memory(ObjectStore):
    """The objects below a prefix, of fsspec's memory, which forgets the condition of a create between two threads."""

    def create(self, path: str, data: bytes) -> bool:
        """Makes an object unless there is one of its name, under a lock."""
        with _LOCK:
            return super().create(path, data)

    def place(self, file: Path, path: str) -> None:
        """Copies a file to an object, at once: fsspec's `put_file` shows one that is not yet whole."""
        self.filesystem.pipe_file(self.full(path), file.read_bytes())

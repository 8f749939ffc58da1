"""The page, as it is sent: files that are shipped, read once."""

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Final

HOME: Final = "index.html"

_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True)
class PageFile:
    """A file of the page: what it is, and a name of its content."""

    data: bytes
    media_type: str
    tag: str


def page() -> dict[str, PageFile]:
    """Returns the files of the page by their names."""
    folder = resources.files("transforms.serving") / "page"
    files = {}
    for file in folder.iterdir():
        ending = file.name.rpartition(".")[2]
        if ending in _TYPES:
            data = file.read_bytes()
            files[file.name] = PageFile(data, _TYPES[ending], hashlib.sha256(data).hexdigest()[:32])
    return files

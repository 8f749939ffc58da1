"""A folder as clip-retrieval leaves it: vectors of pictures and of texts, and metadata, each in a folder of its own.

| folder | its files |
|---|---|
| `img_emb` | `img_emb_0.npy`, …: vectors of pictures |
| `text_emb` | `text_emb_0.npy`, …: vectors of the texts of the same items; may be missing, or be alone |
| `metadata` | `metadata_0.parquet`, …: what is known of the same items; may be missing |
"""

from dataclasses import dataclass, replace
from typing import Final

from transforms.errors import PixdexError, UsageError
from transforms.records import Modality, Source
from transforms.shards import ready_files
from transforms.sources import listed
from transforms.storage import uris

_PICTURES: Final = ("image_path", "url")
"""Columns in which clip-retrieval and img2dataset name pictures, the better one first."""


@dataclass(frozen=True)
class ClipFolder:
    """URLs of the folders with vectors of pictures, with those of texts, and with metadata; None: there is none."""

    pictures: str | None
    texts: str | None
    metadata: str | None

    @classmethod
    def at(cls, pattern: str) -> "ClipFolder | None":
        """Returns what a folder holds; None: it is no such folder, or has vectors elsewhere, too.

        Cost: it is listed once.
        """
        if pattern.lower().endswith((".npy", ".parquet")):
            return None
        try:
            filesystem, path = uris.filesystem_of(pattern)
            if uris.is_pattern(path) and not filesystem.exists(path):
                return None
            filesystem.invalidate_cache()
            start = len(path.rstrip("/")) + 1
            below = [str(name)[start:] for name in filesystem.find(path)]
        except Exception:  # noqa: BLE001 - clients of object stores raise anything; whoever lists it says what is wrong
            return None

        def in_folder(name: str, ending: str) -> int:
            return sum(file.startswith(f"{name}/") and listed.is_wanted(file, (ending,)) for file in below)

        pictures, texts = in_folder("img_emb", ".npy"), in_folder("text_emb", ".npy")
        if not pictures + texts or pictures + texts < sum(listed.is_wanted(file, (".npy",)) for file in below):
            return None
        url = pattern.rstrip("/")
        return cls(
            f"{url}/img_emb" if pictures else None,
            f"{url}/text_emb" if texts else None,
            f"{url}/metadata" if in_folder("metadata", ".parquet") else None,
        )

    def source(self, like: Source, modality: Modality | None) -> Source:
        """Returns the source that it is, with what another one says beside.

        Args:
            like: what was asked for: where it names no metadata, or no column of pictures, those of the folder are.
            modality: which vectors are taken alone; None: pictures with their texts, or what there is.

        Raises:
            UsageError: it has no vectors of that kind.
        """
        of_kind = {"image": self.pictures, "text": self.texts, None: self.pictures or self.texts}[modality]
        if of_kind is None:
            there = "text_emb" if modality == "image" else "img_emb"
            raise UsageError(f"--modality {modality}: --vectors {like.pattern} has {there} only: leave --modality out")
        source = replace(
            like,
            pattern=of_kind,
            metadata=like.metadata or self.metadata,
            modality="text" if of_kind == self.texts else "image",
            text_vectors=self.texts if modality is None and self.pictures else None,
        )
        if source.uri_column is None and source.metadata is not None and source.metadata == self.metadata:
            source = replace(source, uri_column=_picture_column(self.metadata))
        return source if source.uri_column is not None else replace(source, image_base=None, image_was=None)


def _picture_column(metadata: str) -> str | None:
    """Returns the column of metadata that names pictures, as the first of its files tells; None: there is none."""
    try:
        with ready_files.opened(listed.files("--metadata", metadata, (".parquet",))[0]) as file:
            names = file.schema_arrow.names
    except (PixdexError, OSError):
        return None  # reading its header says what is wrong
    return next((name for name in _PICTURES if name in names), None)

"""Ready embeddings as records name them: items of files that lie outside of the root, and what stands beside them."""

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class VectorRange:
    """Items `start` to `stop` (exclusive) of ready embeddings, which stay where they are: an item is a row of a file.

    Where another file has the vectors of the items' texts, an item has two rows, a picture and a text: in a shard, all
    pictures come first.

    Attributes:
        uri: absolute URL of the file.
        format: `npy` (2-d, float16 or float32) or `parquet` (`column` holds lists of float16 or float32).
        version: listed size and etag or mtime of the file; another one is another file.
        metadata: absolute URL of a parquet file, or CSV, with the same rows, beside an `.npy`.
        modality: what the vectors are of.
        metadata_version: as `version`, of the metadata.
        text_uri, text_version: of the `.npy` file with the vectors of the texts, row for row. None: there is none.
        uri_column: column, of the metadata or of the parquet file itself, that names the picture of an item.
        image_base: absolute URL of the folder that such names are relative to; None: that of the file with the column.
        image_was: what absolute names began with while the pictures lay there.
    """

    uri: str
    format: Literal["npy", "parquet"]
    start: int
    stop: int
    version: str
    column: str | None = None
    metadata: str | None = None
    modality: Literal["image", "text", "keyword"] = "image"
    metadata_version: str | None = None
    text_uri: str | None = None
    text_version: str | None = None
    uri_column: str | None = None
    image_base: str | None = None
    image_was: str | None = None

    @property
    def items(self) -> int:
        """How many items it has, each with a key of its own."""
        return self.stop - self.start

    @property
    def rows(self) -> int:
        """How many rows have an id: one an item, of pairs two."""
        return self.items if self.text_uri is None else 2 * self.items

    @property
    def of_each_file(self) -> tuple["VectorRange", ...]:
        """The ranges of single files that it stands for, in the order of its rows."""
        if self.text_uri is None:
            return (self,)
        alone = replace(self, text_uri=None, text_version=None)
        return alone, replace(alone, uri=self.text_uri, version=self.text_version or "", modality="text")


def row_key(ready: VectorRange, row: int) -> str:
    """Returns the key of row `row` of a range: its file, and its number in the file; of a text that of its picture.

    >>> row_key(VectorRange("file:///a.npy", "npy", 65536, 70000, "stat:1"), 2)
    'file:///a.npy#65538'
    >>> row_key(VectorRange("file:///a.npy", "npy", 0, 9, "stat:1", text_uri="file:///b.npy"), 11)
    'file:///a.npy#2'
    """
    return f"{ready.uri}#{ready.start + row % max(1, ready.items)}"

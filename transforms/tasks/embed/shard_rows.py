"""The rows of one partition, from its items to the columns of its shard: pictures, then texts, then keywords."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from transforms.records import EncoderSettings, Modality
from transforms.rejects import Failure, on_line
from transforms.shards.files import Reject
from transforms.shards.lengths import TOO_LONG, too_long
from transforms.sources import items

_CHUNK = 4096
"""Vectors that are normalised or moved at once: what that takes beyond the vectors themselves."""

_SHORT, _LONG = 1e-30, 1e30
"""Between these, the norm of a vector is as exact in float32 as any number."""


@dataclass
class ShardRows:
    """The rows of a partition in the order of its shard; those of rejected items leave in `keep_sound`.

    Attributes:
        table: the items (see `sources.items`).
        item: int64 `(rows,)`, the place of each row's item in the table.
        part: int32 `(rows,)`, the number of a keyword among its item's, else 0.
        counts: rows of each modality, in the order in which they stand.
        vectors: float32 `(rows, d)`, filled by the encoder.
        sizes: int32 `(pictures, 2)`, upright width and height.
        is_carried: bool `(rows,)`: rows whose vectors are there, and are left as they are.
        rejects: by place of the item.
        left_out: rows of pictures which could not be fetched, and whose items have texts to keep.
    """

    table: pa.Table
    item: NDArray[np.int64]
    part: NDArray[np.int32]
    counts: dict[Modality, int]
    vectors: NDArray[np.float32]
    sizes: NDArray[np.int32]
    is_carried: NDArray[np.bool_]
    rejects: dict[int, Reject] = field(default_factory=dict)
    left_out: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, table: pa.Table, dim: int) -> "ShardRows":
        """Lays out the rows of these items; an item with a problem has none and is rejected."""
        usable = pc.is_null(table[items.PROBLEM])
        pictures = np.flatnonzero(pc.and_(usable, pc.is_valid(table[items.IMAGE])).to_numpy())
        texts = np.flatnonzero(pc.and_(usable, pc.is_valid(table[items.TEXT])).to_numpy())
        words = pc.if_else(usable, pc.fill_null(pc.list_value_length(table[items.KEYWORDS]), 0), 0).to_numpy()
        keywords = np.repeat(np.arange(len(table)), words)
        part = np.arange(len(keywords)) - np.repeat(np.cumsum(words) - words, words)
        item = np.concatenate((pictures, texts, keywords)).astype(np.int64)
        rows = cls(
            table=table,
            item=item,
            part=np.concatenate((np.zeros(len(pictures) + len(texts)), part)).astype(np.int32),
            counts={"image": len(pictures), "text": len(texts), "keyword": len(keywords)},
            vectors=np.zeros((len(item), dim), np.float32),
            sizes=np.zeros((len(pictures), 2), np.int32),
            is_carried=np.zeros(len(item), np.bool_),
        )
        for place, problem in enumerate(table[items.PROBLEM].to_pylist()):
            if problem is not None:
                kind, _, message = problem.partition(": ")
                rows._reject_item(place, None, None, Failure("plan", kind, message))
        return rows

    def pictures(self) -> list[str]:
        """Returns the URI of every picture; they are the first rows."""
        uris = self.table[items.IMAGE].take(pa.array(self.item[: self.counts["image"]]))
        pictures: list[str] = uris.to_pylist()
        return pictures

    def inside(self) -> dict[str, str]:
        """Returns `pixdex.inside` of those pictures that are in a file with others, by their URIs."""
        # A run that an earlier pixdex planned has none.
        columns = self.table[items.INSIDE].to_pylist() if items.INSIDE in self.table.column_names else []
        uris = self.table[items.IMAGE].to_pylist()
        return {uri: column for uri, column in zip(uris, columns, strict=False) if column is not None}

    def captions(self) -> pa.Array:
        """Returns the text of every row: an item's text for its picture and itself, the keyword for a keyword.

        A picture whose item has no text has the caption that stands beside it, if any.
        """
        whole = self.counts["image"] + self.counts["text"]
        text = self.table[items.TEXT].combine_chunks().take(pa.array(self.item[:whole]))
        if items.CAPTION in self.table.column_names:
            text = pc.coalesce(text, self.table[items.CAPTION].combine_chunks().take(pa.array(self.item[:whole])))
        keywords = self.table[items.KEYWORDS]
        usable = pc.is_null(self.table[items.PROBLEM])
        words = pc.list_flatten(pc.if_else(usable, keywords, pa.nulls(len(self.table), keywords.type)))
        words = words.combine_chunks() if isinstance(words, pa.ChunkedArray) else words
        return pa.concat_arrays([text, words])

    def leave_out(self, row: int, failure: Failure) -> None:
        """Leaves out a row of a picture, if its item has other rows; else rejects the item."""
        if np.isin(self.item[self.counts["image"] :], self.item[row]).any():
            self.left_out.add(row)
        else:
            self.reject(row, failure)

    def reject(self, row: int, failure: Failure) -> None:
        """Rejects the item of a row, unless it is rejected already, or the row left out."""
        if row in self.left_out:
            return
        modality = list(self.counts)[int(self._modalities(row))]
        self._reject_item(int(self.item[row]), modality, int(self.part[row]), failure)

    def finish(self, settings: EncoderSettings) -> None:
        """Normalises and rounds in place what is not carried.

        A vector that is not finite, has no direction to keep, or is too long to be indexed as it is, rejects its item.

        Memory: four times that of 4,096 vectors.
        """
        message = "the encoder's vector is zero, not finite, or too large for float16 (--precision full keeps it)"
        for chunk in _chunks(len(self.vectors)):
            new = np.flatnonzero(~self.is_carried[chunk])
            are_all = not self.is_carried[chunk].any()
            vectors = self.vectors[chunk] if are_all else self.vectors[chunk][new]
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                if settings.normalize:
                    _normalise(vectors)
                if settings.precision == "float16":
                    vectors[:] = vectors.astype(np.float16)
            if not are_all:
                self.vectors[chunk][new] = vectors
            finite = np.isfinite(vectors).all(axis=1)
            for row in new[~finite].tolist():
                self.reject(chunk.start + row, Failure("encode", "BadVector", message))
            if not settings.normalize:
                some = np.flatnonzero(finite)
                for row in new[some[too_long(vectors if finite.all() else vectors[some])]].tolist():
                    self.reject(chunk.start + row, Failure("encode", "BadVector", TOO_LONG))

    @property
    def carried(self) -> int:
        """Rows whose vectors were there, of items that are not rejected."""
        return int(np.count_nonzero(self.is_carried & ~np.isin(self.item, list(self.rejects))))

    @property
    def without_picture(self) -> int:
        """Items that are not rejected, and whose pictures are left out."""
        return sum(int(self.item[row]) not in self.rejects for row in self.left_out)

    def keep_sound(self) -> tuple[pa.Table, NDArray[np.float32]]:
        """Leaves out the rows of rejected items, and those left out already: the last that is done with the rows.

        Returns:
            The shard's columns but its ids and vectors, and its vectors, float32 `(kept rows, d)`. They are moved
            together in place: `vectors` is no longer in the order of the other fields.
        """
        is_kept = ~np.isin(self.item, list(self.rejects))
        is_kept[list(self.left_out)] = False
        kept = np.flatnonzero(is_kept)
        metadata = self._metadata(kept)
        if len(kept) < len(self.vectors):
            for chunk in _chunks(len(kept)):  # a row only ever moves forward, to where nothing is read any more
                self.vectors[chunk] = self.vectors[kept[chunk]]
        return metadata, self.vectors[: len(kept)]

    def _metadata(self, kept: NDArray[np.int64]) -> pa.Table:
        table, item, rows = self.table, pa.array(self.item[kept]), pa.array(kept)
        modality = pa.DictionaryArray.from_arrays(pa.array(self._modalities(kept)), list(self.counts))
        picture = kept < self.counts["image"]
        sizes = np.zeros((len(kept), 2), np.int32)
        sizes[picture] = self.sizes[kept[picture]]
        columns = {
            "key": table["key"].take(item),
            "uri": table["uri"].take(item),
            "modality": modality.cast(pa.string()),
            "part": pa.array(self.part[kept]),
            "caption": self.captions().take(rows),
            "version": table["version"].take(item),
            "width": pa.array(sizes[:, 0], mask=~picture),
            "height": pa.array(sizes[:, 1], mask=~picture),
        }
        extra = [
            name for name in table.column_names if name not in (*items.CORE_SCHEMA.names, items.CARRIED, items.CAPTION)
        ]
        return pa.table({**columns, **{name: table[name].take(item) for name in extra}})

    def _modalities(self, rows: int | NDArray[np.int64]) -> NDArray[np.int8]:
        """The place of each row's modality in `counts`."""
        ends = np.cumsum(list(self.counts.values()))
        return np.asarray(np.searchsorted(ends, rows, side="right"), np.int8)

    def _reject_item(self, place: int, modality: Modality | None, part: int | None, failure: Failure) -> None:
        key, uri, version = (self.table[name][place].as_py() for name in ("key", "uri", "version"))
        self.rejects.setdefault(
            place, Reject(key, uri, version, modality, part, failure.stage, failure.type, self._said(place, failure))
        )

    def _said(self, place: int, failure: Failure) -> str:
        """The message of a failure, with the line on which the row of its item begins."""
        # A run that an earlier pixdex planned has no lines.
        line = self.table[items.LINE][place].as_py() if items.LINE in self.table.column_names else None
        return failure.message if line is None else on_line(line, failure.message)


def _normalise(vectors: NDArray[np.float32]) -> None:
    """Brings vectors to length one in place, whatever their length; those without a direction become NaN."""
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    extreme = np.flatnonzero(~((norms > _SHORT) & (norms < _LONG)))
    # Beyond the normal numbers of float32 a norm would be rounded to nothing, or to infinity.
    exact = (vectors[extreme] / norms[extreme, None]).astype(np.float32)
    vectors /= norms[:, None].astype(np.float32)
    vectors[extreme] = exact


def _chunks(rows: int) -> Iterator[slice]:
    return (slice(start, min(start + _CHUNK, rows)) for start in range(0, rows, _CHUNK))

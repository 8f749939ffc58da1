"""What an item is made of: the bytes of its picture, its text; of ready embeddings the vector, which is all there is.

It tells which results are the same, of those that have equal vectors. Pictures are read as they are now, where they
lie, as far as a root may have read what lies there (`storage.outside`).
"""

import logging
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128

from transforms.rejects import normalised_message
from transforms.search.metadata import RowMetadata
from transforms.search.refine import StoredVectors
from transforms.search.rules import CONTENT, EQUAL, are_equal
from transforms.storage import uris
from transforms.storage.outside import FLAG, Outside
from transforms.storage.uris import Located

_ROUNDED_TO_BYTES: Final = 5e-3
"""The same as `EQUAL` of vectors that are stored as a byte a component, each block with other steps."""

_ROUNDED: Final = 2**-23
"""The same where vectors have any length: apart by half a step of float16."""

_ROUNDED_TO_FLOAT32: Final = 2**-41
"""The same of ready embeddings there: apart by a few steps of float32, since there is nothing else to go by."""

_ANY: Final = 4.0
"""No two vectors are further apart: short ones beside long ones, stored as bytes, keep little of what they are."""

_log = logging.getLogger(__name__)


class _Kind(NamedTuple):
    """What rows of equal content have in common: a text its words, ready embeddings a caption."""

    modality: str
    is_ready: bool
    words: str | None


class Contents:
    """Compares the content of rows for one search, which reads each object once.

    Pictures have the same content when their bytes have the same xxh3_128, texts and keywords when they are the same
    words, ready embeddings when their vectors are equal but for rounding. A picture that may not be read, or cannot be,
    is another than all others.

    Cost: metadata of the rows; of a picture a look at its size and, where another has that size, a read, one after the
    other and 8 MiB at a time. What has the same URI is not read. Of ready embeddings whose vectors are stored as bytes,
    the vectors in their files.
    """

    def __init__(
        self, metadata: RowMetadata, stored: StoredVectors, outside: Outside, *, cosines: bool, encoded: bool = True
    ) -> None:
        """Has read nothing yet.

        `cosines` tells that scores are, `encoded` that vectors come of an encoder: others have no other content.
        """
        self._metadata, self._stored, self._outside = metadata, stored, outside
        self._cosines, self._encoded = cosines, encoded
        self._rows: dict[int, tuple[_Kind, str]] = {}
        self._located: dict[str, Located | None] = {}
        self._digests: dict[str, bytes | None] = {}
        self._has_warned = False

    @property
    def rounding(self) -> float:
        """By how much the cosine of vectors may be less than 1 that were equal before they were stored."""
        if self._stored.are_bytes:
            return _ROUNDED_TO_BYTES if self._cosines else _ANY
        return EQUAL if self._cosines else _ROUNDED

    def expect(self, ids: NDArray[np.int64]) -> None:
        """Reads what rows are, all at once."""
        self._metadata.load(ids)

    def are_equal(self, one: int, other: int) -> bool:
        """Tells whether two rows have the same content, whose vectors are equal as they are stored.

        Raises:
            PixdexError: a shard, or a file of ready embeddings, is missing or damaged.
        """
        (kind, uri), (other_kind, other_uri) = self._known(one), self._known(other)
        if kind != other_kind:
            return False
        if kind.is_ready:
            vectors = self._stored.all(np.array([one, other], np.int64), exact=True)
            return bool(are_equal(vectors[:1], vectors[1], EQUAL if self._cosines else _ROUNDED_TO_FLOAT32)[0])
        return kind.modality != "image" or self._are_equal_objects(uri, other_uri)

    def _known(self, row: int) -> "tuple[_Kind, str]":
        if row not in self._rows:
            self._metadata.load(np.array([row], np.int64))
            known, _ = self._metadata.row(row)
            words = None if known["modality"] == "image" else known["caption"]
            is_ready = not self._encoded or self._metadata.is_ready(row)
            self._rows[row] = _Kind(known["modality"], is_ready, words), known["uri"]
        return self._rows[row]

    def _are_equal_objects(self, one: str, other: str) -> bool:
        if one == other:
            return True
        found = self._locate(one), self._locate(other)
        if found[0] is None or found[1] is None:
            return False
        if None not in (found[0].size, found[1].size) and found[0].size != found[1].size:
            return False
        digest = self._digest(one, found[0])
        return digest is not None and digest == self._digest(other, found[1])

    def _locate(self, uri: str) -> Located | None:
        if uri not in self._located:
            self._located[uri] = None
            if (why := self._outside.refusal(uri)) is not None:
                self._warn(uri, f"{why}: if you trust the root, say {FLAG}")
                return None
            try:
                self._located[uri] = uris.locate(uri)
            except Exception as error:  # noqa: BLE001 - clients of object stores raise anything
                self._warn(uri, f"cannot be read ({normalised_message(error, is_named=True)})")
        return self._located[uri]

    def _digest(self, uri: str, located: Located) -> bytes | None:
        if uri not in self._digests:
            self._digests[uri] = None
            hasher = xxh3_128()
            try:
                for piece in located.pieces():
                    hasher.update(piece)
            except Exception as error:  # noqa: BLE001 - likewise
                self._warn(uri, f"cannot be read ({normalised_message(error, is_named=True)})")
            else:
                self._digests[uri] = hasher.digest()
        return self._digests[uri]

    def _warn(self, uri: str, why: str) -> None:
        """Says once a search that what cannot be compared is shown."""
        if not self._has_warned:
            _log.warning("dedup %s shows what it cannot compare: %r %s", CONTENT, uri[:200], why)
        self._has_warned = True

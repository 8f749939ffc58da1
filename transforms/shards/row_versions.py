"""Versions of rows of a table: of the whole row, and of what is embedded of it.

A row is written as `row:<hash of all cells>[+<version of its picture>]~<hash of its picture>.<hash of its words>`.
Where only what stands before the tilde differs from what it was, its vectors are what they were. Rows of before have no
tilde.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

_FORM: Final = r"(?s)^(?P<whole>row:.*)~(?P<picture>[0-9a-f]{0,16})\.(?P<words>[0-9a-f]{0,16})$"


@dataclass(frozen=True)
class RowVersions:
    """Versions of items, taken apart.

    Attributes:
        whole: strings; of an item that is no row its version as it is.
        picture, words: uint64 `(n,)`, hashes of the picture, and of the text with the keywords; 0 where there is none,
            or nobody wrote it down.
    """

    whole: pa.Array
    picture: NDArray[np.uint64]
    words: NDArray[np.uint64]


def joined(whole: pa.Array, pictures: Sequence[str | None], words: Sequence[str | None]) -> pa.Array:
    """Returns the versions of rows, of which those of a whole row begin with `row:`; None: it has no such part.

    >>> joined(pa.array(["row:1"]), ["file:///a.png"], [None]).to_pylist()
    ['row:1~ce42ec31534d187b.']
    """
    parts = [pa.array([_hash(part) if part else "" for part in column], pa.string()) for column in (pictures, words)]
    return pc.binary_join_element_wise(whole, pc.binary_join_element_wise(*parts, "."), "~")


def taken_apart(versions: pa.Array) -> RowVersions:
    """Takes versions of items apart, of rows and others."""
    parts = pc.extract_regex(versions, _FORM)
    return RowVersions(
        pc.coalesce(pc.struct_field(parts, "whole"), versions),
        *(_numbers(pc.struct_field(parts, name)) for name in ("picture", "words")),
    )


def _hash(text: str) -> str:
    return xxhash.xxh3_64_hexdigest(text.encode())


def _numbers(digits: pa.Array) -> NDArray[np.uint64]:
    return np.array([int(some, 16) if some else 0 for some in digits.to_pylist()], np.uint64)

"""Keywords of rows: cells that are split, or lists that are there, without blanks."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.sources import blank_texts


def split_keywords(cells: pa.Array, separator: str) -> pa.Array:
    """Splits cells into lists of keywords, trimmed, without blank ones; a cell without any becomes null."""
    return trimmed_keywords(pc.split_pattern(pc.fill_null(cells, ""), separator))


def trimmed_keywords(lists: pa.Array) -> pa.Array:
    """Returns lists of keywords (`list<string>`, none of them null) trimmed, without blank ones; null: none is left."""
    owner = pc.list_parent_indices(lists)
    words = pc.utf8_trim_whitespace(lists.flatten())
    kept = pc.is_valid(blank_texts.as_null(words))
    counts = np.bincount(pc.filter(owner, kept).to_numpy(zero_copy_only=False), minlength=len(lists))
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
    trimmed = pa.ListArray.from_arrays(pa.array(offsets), pc.filter(words, kept))
    return pc.if_else(pa.array(counts > 0), trimmed, pa.nulls(len(lists), trimmed.type))


def keywords_of(values: Sequence[list[str] | str | None], separator: str) -> pa.Array:
    """Returns the keywords of rows, each of which has a list of them, or a string that is split, or none."""
    listed = pa.array([value if isinstance(value, list) else [] for value in values], pa.list_(pa.string()))
    cells = pa.array([None if isinstance(value, list) else value for value in values], pa.string())
    return pc.coalesce(trimmed_keywords(listed), split_keywords(cells, separator))

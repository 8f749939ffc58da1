"""Judgements of people, of a CSV: how relevant an item is to a query."""

import io
import math
from collections import Counter
from typing import Final

import pyarrow as pa
import pyarrow.csv

from transforms.errors import UsageError
from transforms.nearest import no_column
from transforms.rejects import normalised_message
from transforms.sources import packed
from transforms.storage import uris

Judgements = dict[str, dict[str, float]]
"""Of each query the relevance of items, by their keys."""

_COLUMNS: Final = ("query", "key")
_RELEVANCE: Final = "relevance"


def read(location: str) -> Judgements:
    """Reads a CSV with the columns `query`, `key` and `relevance`; one without the last counts each as 1.

    Raises:
        UsageError: it cannot be read, lacks a column or a query, judges an item twice otherwise, or a relevance is no
            number.
    """
    try:
        with packed.opened(uris.absolute(location), "--judgements") as stream:
            data = stream.read(uris.OBJECT_BYTES_LIMIT + 1)
        if len(data) > uris.OBJECT_BYTES_LIMIT:
            raise ValueError(f"it has more than {uris.OBJECT_BYTES_LIMIT} bytes")
        text = pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys((*_COLUMNS, _RELEVANCE), pa.string()), strings_can_be_null=False
        )
        parsing = pyarrow.csv.ParseOptions(newlines_in_values=True)
        table = pyarrow.csv.read_csv(io.BytesIO(data), convert_options=text, parse_options=parsing)
    except (OSError, ValueError, ImportError, pa.ArrowException) as error:  # of a protocol, too, that is not known
        why = normalised_message(error, is_named=True)
        raise UsageError(f"--judgements {location} cannot be read ({why})") from error
    missing = [name for name in _COLUMNS if name not in table.column_names]
    if missing:
        raise UsageError(
            f"--judgements {location} {no_column(missing[0], table.column_names)}: name the columns query, key and "
            "relevance"
        )
    counts = Counter(table.column_names)
    if twice := [name for name in (*_COLUMNS, _RELEVANCE) if counts[name] > 1]:
        raise UsageError(f"--judgements {location} has more than one column {twice[0]}: leave one")
    relevances = table[_RELEVANCE].to_pylist() if _RELEVANCE in table.column_names else ["1"] * len(table)
    judged: Judgements = {}
    rows = zip(table["query"].to_pylist(), table["key"].to_pylist(), relevances, strict=True)
    for number, (query, key, written) in enumerate(rows, 1):
        if not query.strip():
            raise UsageError(f"--judgements {location}, row {number}, names no query: write one, or leave the row out")
        relevance = _number(written)
        if relevance is None:
            raise UsageError(
                f"--judgements {location}, row {number}: the relevance {written!r} is no number: write one"
            )
        if judged.setdefault(query, {}).setdefault(key, relevance) != relevance:
            raise UsageError(f"--judgements {location}, row {number}: {key!r} is judged twice for {query!r}")
    if not judged:
        raise UsageError(f"--judgements {location} has no rows: name a file with judgements")
    return judged


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None

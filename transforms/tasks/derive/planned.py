"""From the parts of another root to the partitions of a plan: how many rows each makes, and which are one shard."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from transforms.derivation import Derivation, RootPart
from transforms.errors import UsageError
from transforms.records import ROWS_PER_SHARD
from transforms.runs.partitions import PARTITIONS_WANTED
from transforms.tasks.derive.cut import GROUP_ROWS

LEAST_ROWS: Final = 2 * GROUP_ROWS
"""Rows of the other root that become a shard of a condensed one, at least: so that few rows are several tasks."""


def shards_of(derivation: Derivation, parts: Sequence[RootPart]) -> list[tuple[RootPart, ...]]:
    """Returns what each shard is made of, in an order that does not depend on who listed what.

    Raises:
        UsageError: more rows are wanted than there are.
    """
    if derivation.operation == "augment":
        ordered = sorted(parts, key=lambda part: part.shard or 0)
        return [(replace(part, wanted=part.rows),) for part in ordered]
    return _filled(_shared_out(derivation, sorted(parts, key=lambda part: (part.first_list, part.piece))))


def made_of(parts: Sequence[RootPart]) -> int:
    """Returns how many rows are made of parts."""
    return sum(sum(part.wanted) for part in parts)


def _shared_out(derivation: Derivation, parts: Sequence[RootPart]) -> list[RootPart]:
    """Shares the wanted rows out among kinds and parts, in proportion to their rows.

    Shares are rounded where they add up, kind by kind and part by part: each kind, and each part of it, is within one
    row of its share, and no part has more than its rows.
    """
    rows = np.array([part.rows for part in parts], np.int64).reshape(-1, 3)
    ends = np.cumsum(rows.T.reshape(-1)).tolist()
    there = ends[-1] if ends else 0
    if derivation.rows > there:
        raise UsageError(f"--rows {derivation.rows} is more than the {there} rows that there are: take fewer")
    rounded = [(2 * end * derivation.rows + there) // (2 * there) for end in ends]  # too large for int64
    shares = np.diff(rounded, prepend=0).reshape(3, -1).T.tolist()
    return [replace(part, wanted=(share[0], share[1], share[2])) for part, share in zip(parts, shares, strict=True)]


def _filled(parts: Sequence[RootPart]) -> list[tuple[RootPart, ...]]:
    most = max(LEAST_ROWS, sum(sum(part.rows) for part in parts) // PARTITIONS_WANTED)
    shards: list[tuple[RootPart, ...]] = []
    held: list[RootPart] = []
    for part in parts:
        if not sum(part.wanted):
            continue
        rows = sum(sum(one.rows) for one in held)
        if held and (rows + sum(part.rows) > most or made_of([*held, part]) > ROWS_PER_SHARD):
            shards.append(tuple(held))
            held = []
        held.append(part)
    return [*shards, tuple(held)] if held else shards

"""What a root is made of that is made of another one: by which operation, of which generation, in which parts."""

from dataclasses import dataclass, field
from typing import Literal

Operation = Literal["augment", "condense"]

Counts = tuple[int, int, int]
"""Rows that are pictures, texts, and keywords."""

DEFAULT_ALPHA = 3.0
DEFAULT_NEIGHBOURS = 10


@dataclass(frozen=True)
class Derivation:
    """How the rows of a root become those of another one.

    Attributes:
        operation: `augment` (each row with its neighbours added) or `condense` (fewer rows that stand for all).
        generation: the number of the generation of the other root.
        seal: the checksum that its manifest has of itself: a root that was made anew has another of that number.
        places: URIs of files and folders that the sources of the other root name; pictures of results lie there.
        alpha: exponent of the cosines with which `augment` weighs neighbours.
        neighbours: that `augment` adds to each row.
        nprobe: lists that `augment` probes for them; None: as many as searches of the root do.
        rows: that `condense` leaves.
        by: a column of the sources: `condense` leaves rows of each of its values apart; None: of all together.
        names_pictures: whether several items of the other root may have one picture.
    """

    operation: Operation
    generation: int
    seal: str
    places: tuple[str, ...] = ()
    alpha: float = DEFAULT_ALPHA
    neighbours: int = DEFAULT_NEIGHBOURS
    nprobe: int | None = None
    rows: int = 0
    by: str | None = None
    names_pictures: bool = False

    @property
    def spreads_items(self) -> bool:
        """Whether rows of one key may be in several shards, each of which has an entry of it in the key tables."""
        return self.operation == "condense"


@dataclass(frozen=True)
class RootPart:
    """Some rows of another root: a shard of it, some of its lists, or a piece of a list that has too many rows.

    Attributes:
        rows: how many there are of each kind, at most.
        shard: the number of the shard; None: it is of lists.
        first_list, stop_list: the lists, the last exclusive.
        piece, pieces: which of how many equal parts, in the order of ids.
        wanted: how many rows are to be made of each kind.
    """

    rows: Counts
    shard: int | None = None
    first_list: int = 0
    stop_list: int = 0
    piece: int = 0
    pieces: int = 1
    wanted: Counts = field(default=(0, 0, 0))

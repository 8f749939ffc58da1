"""What a search did: lists probed, codes scanned, vectors read, and the time that each step took."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Trace:
    """Counts what searches do, from when it is made.

    Attributes:
        is_full: lists and codes are counted, too, for which lists are ranked once more.
        looks: into the index, or at all rows of a selection: the first is of all queries, others are of one.
        lists, codes: probed and scanned, of all queries together.
        vectors: read for exact scores.
        cut_offs: the scores that `min_score="auto"` chose, of each query.
        milliseconds: of each step that there was.
    """

    is_full: bool = True
    looks: int = 0
    lists: int = 0
    codes: int = 0
    vectors: int = 0
    cut_offs: list[float] = field(default_factory=list)
    milliseconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Adds the time that its block takes to a step."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.milliseconds[name] = self.milliseconds.get(name, 0.0) + 1000 * (time.perf_counter() - began)

    def told(self) -> dict[str, object]:
        """Returns all of it, for JSON."""
        steps = {name: round(took, 3) for name, took in self.milliseconds.items()}
        counts = {"looks": self.looks, "lists": self.lists, "codes": self.codes, "vectors": self.vectors}
        chosen = {"cut_offs": [round(score, 6) for score in self.cut_offs]} if self.cut_offs else {}
        return {**counts, **chosen, "milliseconds": steps}

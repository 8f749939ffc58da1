"""How far searches go that say nothing of it: settings that keep a promise, chosen for queries of each kind."""

from dataclasses import dataclass
from typing import Final, Literal

from transforms.records import FileReference, Modality

QueryKind = Literal["image", "text", "keyword", "vector"]
"""What a query is; `vector`: of a file, and nobody says of what."""

OF_FILE: Final = "vector"


@dataclass(frozen=True)
class Setting:
    """How far a search goes with queries of a kind, and what it finds so.

    Attributes:
        queries: of which kind.
        modality: what they look for; None: rows of several kinds.
        nprobe: lists that are probed where queries cannot stop by themselves: with a condition, or without a margin.
        shortlist: rows that are ranked by stored vectors; 0: codes rank alone.
        margin: at which a query stops (`index.adaptive.stop`); None: it probes `nprobe` lists.
        recall: recall@k of queries that nothing was chosen by, 0 to 1.
        tail: share of these that reach the recall of the tail that was asked for; None: none was.
        codes: that one of them scans, on average.
    """

    queries: QueryKind
    modality: Modality | None
    nprobe: int
    shortlist: int
    margin: float | None
    recall: float
    tail: float | None
    codes: float


@dataclass(frozen=True)
class Tuned:
    """Settings that keep a promise on the trained index of a generation.

    Attributes:
        k: results that recall is of.
        target_recall: that was asked for, on average; None: none was.
        tail: a recall, and the share of queries that reach it; None: none was asked for.
        settings: one for each kind of queries.
        spread: how widely the rows of each list are spread; None: no query stops by itself.
        canaries: recall@10 of the canary queries when this was tuned; None: there were too few.
    """

    k: int
    target_recall: float | None
    tail: tuple[float, float] | None
    settings: tuple[Setting, ...]
    spread: FileReference | None = None
    canaries: float | None = None

    def of(self, queries: QueryKind | None, modality: Modality | None) -> Setting | None:
        """Returns the setting for queries of a kind that look for a modality; None: nothing was promised of them.

        Of queries whose kind nobody knows it is that of a file of queries, or else the one that looks further.
        """
        known = [one for one in self.settings if one.modality == modality]
        for kind in (queries, OF_FILE):
            for one in known:
                if one.queries == kind:
                    return one
        if queries in ("image", "text", "keyword"):
            return None
        return max(known, key=lambda one: (one.nprobe, one.margin or 0), default=None)

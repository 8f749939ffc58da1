"""How far a search goes for what is asked: which rows, how many of them, in how many lists, at first and at last."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from transforms.generations.manifest import Generation
from transforms.generations.tuned import Setting, Tuned
from transforms.index.adaptive.stop import Stop
from transforms.index.wanted_lists import WantedLists
from transforms.records import Modality
from transforms.search import ranking
from transforms.search.hits import Asked
from transforms.search.ranking import Reach
from transforms.search.refine import SHORTLIST
from transforms.search.rules import ID, Rules
from transforms.search.selection import Selection

ALL_COMPARED: Final = 20_000
"""Rows that a condition leaves, up to which all are compared: 20 MB of vectors of 512 components."""

GROUPED_ROWS: Final = 3
"""Rows fetched for each result when keys have several: most searches then need one look."""


@dataclass(frozen=True)
class Way:
    """How a search goes about what is asked, whatever the queries.

    Attributes:
        rules: by which rows are results.
        selected: rows that may be; None: all.
        first, most: how far it looks at first, and at last.
        keyed: whether several rows may be of one item, or of one picture.
        by_picture: which of these two.
        is_refined: whether stored vectors rank a shortlist.
        all_compared: whether all rows that may be are compared, and no list is scanned.
    """

    rules: Rules
    selected: Selection | None
    first: Reach
    most: Reach
    keyed: bool
    by_picture: bool
    is_refined: bool
    all_compared: bool


def all_are_compared(asked: Asked, rows: int, *, can_refine: bool) -> bool:
    """Tells whether all rows that may be results, of which there are so many, are compared, and no list is scanned."""
    return asked.where is not None and rows <= ALL_COMPARED and can_refine


def have_several_rows(generation: Generation, modality: Modality | None) -> bool:
    """Tells whether items may have several rows of a kind, of which a search shows the nearest; None: of any kind.

    An item has at most one picture and one text: only keywords, and kinds mixed, give a key several.
    """
    totals, derivation = generation.totals, generation.request.derivation
    # Each of the shards with rows of a key counts an item then.
    spread = derivation is not None and derivation.spreads_items and totals.vectors > totals.images
    return (totals.vectors > totals.embedded or spread) and modality not in ("image", "text")


def show_pictures_once(generation: Generation) -> bool:
    """Tells whether several items may have one picture, of which a search shows the nearest."""
    request = generation.request
    derived = request.derivation is not None and request.derivation.names_pictures
    return derived or any(source.names_pictures for source in request.sources)


def setting_of(generation: Generation, asked: Asked) -> Setting | None:
    """Returns how far a search was tuned to go that does not say; None: nothing was promised of such queries.

    Where more results are asked for than were tuned for, as many more rows are ranked by stored vectors, and no fewer
    lists are probed than without tuning.
    """
    tuned = generation.tuned
    setting = None if tuned is None else tuned.of(asked.query_kind, asked.modality or generation.only_modality)
    if tuned is None or setting is None or not _is_more(tuned, asked):
        return setting
    shortlist = math.ceil(setting.shortlist * asked.k / tuned.k)
    return replace(setting, nprobe=max(setting.nprobe, generation.trained.nprobe), shortlist=shortlist)


def _is_more(tuned: Tuned, asked: Asked) -> bool:
    """Whether more results are asked for; where a row of the root asks, it is one more itself."""
    return asked.k > tuned.k + 1


def shortlist_of(generation: Generation, asked: Asked) -> int:
    """Returns how many rows are ranked by stored vectors, where there are any."""
    if asked.shortlist is not None:
        return asked.shortlist
    tuned = setting_of(generation, asked)
    return SHORTLIST if tuned is None else tuned.shortlist


def stop_of(generation: Generation, asked: Asked) -> Stop | None:
    """Returns where each query stops; None: it probes all lists that it may, as a condition or a number asks for.

    Fewer results than were tuned for are looked for as far: the nearest of them are what a query wants most.
    """
    tuned, setting = generation.tuned, setting_of(generation, asked)
    if tuned is None or setting is None or setting.margin is None:
        return None
    if asked.nprobe is not None or asked.where is not None:
        return None
    return Stop(setting.margin, asked.k if _is_more(tuned, asked) else tuned.k)


def way_of(
    generation: Generation,
    asked: Asked,
    rules: Rules,
    selected: Selection | None,
    lists_of: Callable[[Selection], WantedLists],
    *,
    can_refine: bool,
) -> Way | None:
    """Returns how to go about what is asked; None: no row can be a result.

    Args:
        generation: what is searched.
        asked: what is asked of it.
        rules: those that are asked, as they are kept to.
        selected: rows that may be results; None: all.
        lists_of: finds the lists that hold rows of a selection.
        can_refine: whether vectors are stored that rank better than codes.
    """
    trained, totals, k, tuned = generation.trained, generation.totals, asked.k, setting_of(generation, asked)
    rows = totals.vectors if selected is None else selected.count
    if not rows:
        return None
    by_picture = show_pictures_once(generation)
    keyed = rules.group_by != ID and (by_picture or have_several_rows(generation, asked.modality))
    grouped = keyed or rules.group or rules.dedup is not None
    # A selection leaves the dead out: they cost nothing there.
    scanned = rows if selected is not None else totals.vectors + totals.tombstones
    refined = shortlist_of(generation, asked) if can_refine else 0
    wanted = ranking.over_fetched(max((GROUPED_ROWS if grouped else 1) * k + 1, refined), 1 - rows / scanned)
    all_compared = all_are_compared(asked, rows, can_refine=can_refine)
    lists = trained.nlist
    if selected is not None and not all_compared:
        lists = math.ceil(lists_of(selected).total)
    if not lists:
        return None
    # Few rows that satisfy a condition may lie in any list.
    nprobe = lists if asked.where is not None and rows <= ALL_COMPARED else asked.nprobe
    usual, stop = (trained.nprobe, None) if tuned is None else (tuned.nprobe, stop_of(generation, asked))
    first = Reach(rows if all_compared else min(wanted, scanned), min(nprobe or usual, lists), stop=stop)
    most = Reach(scanned, first.nprobe if nprobe else lists)
    return Way(rules, selected, first, most, keyed, by_picture, refined > 0, all_compared)

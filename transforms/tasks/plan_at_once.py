"""Plans in one process, without a graph, what one has at hand in no time: and ends a night that found nothing to do.

That is ready embeddings, of which headers are read, and files of rows that are all as they were, of which none is. What
comes of it is what the graph would make of it, by the same functions.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from transforms.generations import tables
from transforms.generations.manifest import Generation
from transforms.markers import StageMarker
from transforms.records import Changes
from transforms.runs import beginning, inventory
from transforms.runs.run import STAGES, Run
from transforms.sources.ready.vectors import ReadyFile
from transforms.storage import layout
from transforms.tasks.changes import BucketChanges
from transforms.tasks.listing import Beside, Container, Lister, SkippableFile, containers_of
from transforms.tasks.losses import KnownItems
from transforms.tasks.plan import commit_plan

_LOOKERS: Final = 16
"""Files are often far away: so many are looked at at a time."""


def plan(run: Run, first_shard: int, worker_memory: int | None, max_gone_ratio: float) -> bool:
    """Makes and commits the plan of a run, where that needs no graph. Returns whether it is there.

    Cost: a listing of the sources, and a look at each file; of ready embeddings that are new, their headers.

    Args:
        run, first_shard, worker_memory, max_gone_ratio: as of `commit_plan`.

    Raises:
        UsageError, PixdexError: as `commit_plan`, and as listing does.
    """
    if run.is_planned:
        return True
    limits = first_shard, worker_memory, max_gone_ratio
    if run.request.derivation is not None:
        return False
    if run.request.is_ready:
        listed = [found for part in containers_of(run) for found in Lister(run, 0).list(part)]
        files = [found for found in listed if isinstance(found, ReadyFile)]
        commit_plan(run, *limits, files, [], [], [found for found in listed if isinstance(found, Beside)])
        return True
    unchanged = None if run.base is None else _unchanged(run, run.base)
    if unchanged is None:
        return False
    files_of_rows, counts = unchanged
    commit_plan(run, *limits, [], [counts], files_of_rows)
    return True


def end_if_idle(run: Run) -> bool:
    """Brings a planned run to its end, if it found nothing to do, as its stages would. Returns whether it did."""
    if run.plan.items or run.plan.removed or not inventory.is_idle(run):
        return False
    for stage in STAGES:
        if stage == "publish":
            beginning.give_up(run)
        tasks = 1 if stage in ("plan", "publish") else 0
        run.store.commit(layout.stage_marker(run.generation, stage), StageMarker(stage, tasks, time.time()))
    return True


def _unchanged(run: Run, base: Generation) -> tuple[list[SkippableFile], BucketChanges] | None:
    """The files of all sources and what became of their items, where each is as it was; None: one is not."""
    sources = run.request.sources
    known = tables.containers_of(run.base_store, base)
    if not known or not all(source.is_skippable for source in sources):
        return None
    lister, files = Lister(run, 0), list[SkippableFile]()

    def looked_at(part: Container) -> SkippableFile | None:
        first = next(lister.list(part))
        return first if isinstance(first, SkippableFile) and not first.opened else None

    parts = [part for part in containers_of(run) if isinstance(part, Container)]
    if {part.name for part in parts} != known.keys():
        return None
    with ThreadPoolExecutor(_LOOKERS, "look") as pool:
        looks = pool.map(looked_at, parts)
        for file in looks:
            if file is None:
                pool.shutdown(cancel_futures=True)
                return None
            files.append(file)
    rows = tables.key_rows(run.base_store, base)
    rejected = sum(row["rejected"] for row in rows)
    counts = Changes(0, 0, 0, sum(row["entries"] for row in rows) - rejected, rejected, 0)
    none = (0,) * len(sources)
    return files, BucketChanges(0, 0, counts, sources=KnownItems(none, none))

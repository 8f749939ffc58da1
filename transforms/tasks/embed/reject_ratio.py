"""Whether so many items of a run were rejected that it should not go on, and why they were."""

from collections.abc import Sequence

import numpy as np

from transforms.errors import PixdexError
from transforms.generations import key_tables, tables
from transforms.markers import ShardMarker
from transforms.runs.run import Run
from transforms.shards import files
from transforms.shards.reasons import Reasons, reasons_of

_REASONS_SHOWN = 3
_MANY = 100

_WHICH = "pixdex inspect --rejects says which"


def check_rejects(run: Run, limit: float) -> None:
    """Refuses to go on with a run when more than `limit` (0 to 1) of its items, or all of them, were rejected.

    Of a reindex, fewer than 100 items may all be bad, as long as they are no larger share of the root, and the root is
    left with something to find. Rejects that were tried again and rejected again do not count, nor do items that keep
    their vectors.

    Raises:
        PixdexError: names the counts and the most common reasons.
    """
    markers = run.shards()
    if not _are_too_many(run, markers, limit):
        return
    items, rejected = _counts(markers)
    reasons = reasons_of_run(run).most_common(_REASONS_SHOWN)
    common = f"{'; '.join(map(str, reasons))}; {_WHICH}"
    mend = "mend the sources and run the same command again, which lists and embeds them anew"
    if _leaves_nothing(run, markers, items, rejected):
        raise PixdexError(f"all {items} items were rejected, nothing is left to index ({common}): {mend}")
    lost = " or lost their pictures" if any(marker.without_picture for marker in markers) else ""
    raise PixdexError(
        f"{rejected} of {items} items were rejected{lost}, more than --max-reject-ratio {limit} allows ({common}): "
        f"{mend}; or run again with a higher ratio, and what is embedded stays"
    )


def is_refused(run: Run, limit: float) -> bool:
    """Tells whether a run was embedded, and went no further since more than `limit` of its items were rejected.

    Cost: reads the marker of every shard.
    """
    if run.stage_marker("embed") is None or run.stage_marker("keys") is not None:
        return False
    return _are_too_many(run, run.shards(), limit)


def reasons_of_run(run: Run) -> Reasons:
    """Returns why items of a run were rejected; its embed stage must be done.

    Cost: reads the rejects of the run, those of some shards at a time.
    """
    return reasons_of(run.store, [marker.rejects for marker in run.shards() if marker.rejects])


def _are_too_many(run: Run, markers: Sequence[ShardMarker], limit: float) -> bool:
    items, rejected = _counts(markers)
    if _leaves_nothing(run, markers, items, rejected):
        return True
    # Of a night with little to do, the whole root is what a share is of.
    few = _staying(run, markers) if items < _MANY else 0
    if rejected <= limit * (items + few):
        return False
    again = _rejected_again(run, markers)
    return rejected - again > limit * (items - again + few)


def _counts(markers: Sequence[ShardMarker]) -> tuple[int, int]:
    """Items that were embedded, or were to be, and how many of them were rejected, or only lost their pictures."""
    tried = [marker for marker in markers if not marker.is_carried]
    return sum(marker.items for marker in tried), sum(marker.rejected + marker.without_picture for marker in tried)


def _staying(run: Run, markers: Sequence[ShardMarker]) -> int:
    """Items that have the vectors that they had."""
    changes = run.plan.changes
    return 0 if changes is None else changes.unchanged + sum(one.items for one in markers if one.is_carried)


def _leaves_nothing(run: Run, markers: Sequence[ShardMarker], items: int, rejected: int) -> bool:
    """Tells whether a run would leave nothing to find."""
    return rejected == items and not any(marker.rows for marker in markers) and not _staying(run, markers)


def _rejected_again(run: Run, markers: Sequence[ShardMarker]) -> int:
    """Counts the rejects of a reindex that had been rejected before, and did not change since.

    Cost: reads the key tables of the base, and the rejects of the run; 48 bytes a reject are held.
    """
    changes = run.plan.changes
    if changes is None or not changes.retried:
        return 0
    base = run.base
    assert base is not None
    parts = [np.empty(0, key_tables.LISTED)]
    for marker in markers:
        if marker.rejects is not None:
            rejects = files.read_rejects(run.store, marker.rejects)
            parts.append(key_tables.listed(rejects["key"].combine_chunks(), rejects["version"].combine_chunks(), 0))
    buckets = tables.buckets_of(run.base_store, base)
    bits = max(bucket.bits for bucket in buckets)
    again = 0
    for number, rejected in key_tables.by_bucket(np.concatenate(parts), bits):
        known = key_tables.read_bucket(run.base_store, buckets, number, bits)
        place = key_tables.place_among(rejected, known)
        met, there = known[place[place >= 0]], rejected[place >= 0]
        again += int(np.count_nonzero((met["reject"] != 0) & (met["version"] == there["version"])))
    return again

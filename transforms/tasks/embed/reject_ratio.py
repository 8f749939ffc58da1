"""Whether so many items of a run were rejected that it should not go on."""

from collections import Counter

from transforms.errors import PixdexError
from transforms.runs.run import Run
from transforms.shards import files

_REASONS_SHOWN = 3
_MANY = 100


def check_rejects(run: Run, limit: float) -> None:
    """Refuses to go on with a run when more than `limit` (0 to 1) of its items, or all of them, were rejected.

    Of a reindex, fewer than 100 items may all be bad, as long as the root is left with something to find.

    Raises:
        PixdexError: names the counts and the most common reasons.
    """
    markers = run.shards()
    items, rejected = sum(marker.items for marker in markers), sum(marker.rejected for marker in markers)
    unchanged = run.plan.changes.unchanged if run.plan.changes else 0
    few = run.plan.changes is not None and items < _MANY
    if (few or rejected <= limit * items) and (unchanged or rejected < items):
        return
    reasons: Counter[str] = Counter()
    for marker in markers:
        if marker.rejects:
            table = files.read_rejects(run.store, marker.rejects)
            pairs = zip(table["type"].to_pylist(), table["message"].to_pylist(), strict=True)
            reasons.update(f"{kind}: {message}" for kind, message in pairs)
    common = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(_REASONS_SHOWN))
    if rejected == items and not unchanged:
        raise PixdexError(f"all {items} items were rejected, nothing is left to index ({common}): mend the sources")
    raise PixdexError(
        f"{rejected} of {items} items were rejected, more than --max-reject-ratio {limit} allows ({common}): "
        "mend the sources, or run again with a higher ratio; what is embedded stays"
    )

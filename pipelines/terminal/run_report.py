"""What a run made, for people and for programs: totals of a generation, and what changed."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pipelines.terminal import text_table
from transforms.generations import tables
from transforms.generations.manifest import Generation
from transforms.markers import ShardMarker
from transforms.records import Changes, FileReference, Plan
from transforms.shards.reasons import Reasons
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.tasks.embed import spent

REASONS = 10
"""Reasons of rejects that a last line names at most; `pixdex inspect --json` has more."""

_REASONS_SHOWN = 3
_NO_CHANGES = Changes(0, 0, 0, 0, 0, 0)


def summary(
    store: Store,
    generation: Generation,
    seconds: dict[str, float],
    reasons: Reasons | None = None,
    shards: Sequence[ShardMarker] = (),
) -> dict[str, object]:
    """Returns the last line of a build; `reasons` are those of what this run rejected, `shards` what it embedded."""
    totals, reasons = generation.totals, reasons or Reasons()
    return {
        "generation": generation.generation,
        "items": totals.items,
        "embedded": totals.embedded,
        "rejected": totals.rejected,
        "reject_reasons": [asdict(reason) for reason in reasons.most_common(REASONS)],
        "reject_reasons_left_out": reasons.left_out(REASONS),
        "vectors": totals.vectors,
        "tombstones": totals.tombstones,
        "index_key": generation.trained.key,
        "trained": generation.trained.fingerprint,
        "refine": generation.request.index.refine,
        "index": store.full(generation.index.path),
        **beside(store, generation.tables.containers),
        "seconds": seconds,
        **({"without_picture": missing} if (missing := _without_picture(shards)) else {}),
        **spent_by(shards, generation),
    }


def _without_picture(shards: Sequence[ShardMarker]) -> int:
    return sum(marker.without_picture for marker in shards)


def embedding_text(shards: Sequence[ShardMarker], generation: Generation) -> list[str]:
    """Says in lines what became of pictures that are missing, and what a faster run needs; of nothing, nothing."""
    missing = _without_picture(shards)
    lines = [f"pictures that cannot be fetched, whose texts stay: {missing:,}"] if missing else []
    limit = spent_by(shards, generation).get("limit")
    return [*lines, str(limit)] if limit else lines


def spent_by(shards: Sequence[ShardMarker], generation: Generation) -> dict[str, object]:
    """Returns what the parts of embedding took and which of them is the limit; nothing where nothing was embedded."""
    seconds = spent.total(shards)
    if seconds is None:
        return {}
    return {"spent": seconds, "limit": spent.what_limits(shards, generation.request.encoder.threads)}


def beside(store: Store, containers: FileReference | None) -> dict[str, object]:
    """Returns what the sources have beside the items, as the table of a plan or a generation says."""
    left_out, unnamed = tables.left_out_of(store, containers), tables.unnamed_of(store, containers)
    return {"left_out": left_out, **({"unnamed": unnamed} if unnamed else {})}


def beside_text(store: Store, containers: FileReference | None) -> list[str]:
    """Says the same in lines; none where there is nothing."""
    left_out, unnamed = tables.left_out_of(store, containers), tables.unnamed_of(store, containers)
    lines = [f"left out: {kinds_text(left_out)}"] if left_out else []
    return [*lines, f"{unnamed:,} pictures have names that --key-pattern does not match"] if unnamed else lines


def kinds_text(left_out: Mapping[str, int]) -> str:
    """Returns counts of kinds as words, the commonest first."""
    ordered = sorted(left_out.items(), key=lambda kind: (-kind[1], kind[0]))
    return ", ".join(f"{count:,} {kind}" for kind, count in ordered)


def totals_text(store: Store, generation: Generation, reasons: Reasons | None = None) -> str:
    """Says in a line what a generation holds and, when something was rejected, why and how to see which."""
    totals = generation.totals
    common = "; ".join(map(text_table.plain, map(str, (reasons or Reasons()).most_common(_REASONS_SHOWN))))
    root = shlex.quote(str(store.local or store.url))
    which = f"pixdex inspect --root {root} --rejects says which"
    why = f" ({common}{': ' if common else ''}{which})" if totals.rejected else ""
    return (
        f"{totals.items:,} items: {totals.embedded:,} embedded, {totals.rejected:,} rejected{why}; "
        f"{totals.vectors:,} vectors, index {generation.trained.key}"
    )


def report_text(store: Store, generation: Generation) -> list[str]:
    """Says in a line where the report of a generation is; none where it has none."""
    there = store.exists(layout.report(generation.generation))
    return [f"report: {place_of_report(store, generation)}"] if there else []


def place_of_report(store: Store, generation: Generation) -> str:
    """Returns where the report of a generation is, or would be: a path, or a URL where the root is no folder."""
    path = layout.report(generation.generation)
    return f"{store.url}/{path}" if store.local is None else store.full(path)


def changes_text(plan: Plan) -> str:
    """Says in a line what a plan found."""
    changes = plan.changes or _NO_CHANGES
    retried = f", {changes.retried:,} to embed again" if changes.retried else ""
    carried = f" ({changes.carried:,} in metadata only)" if changes.carried else ""
    return (
        f"{changes.new:,} new, {changes.changed:,} changed{carried}, {changes.gone:,} gone, "
        f"{changes.unchanged:,} unchanged, {changes.rejected:,} still rejected{retried}"
    )


def changes(plan: Plan) -> dict[str, Any]:
    """Returns the same as values that JSON has."""
    counts = asdict(plan.changes or _NO_CHANGES)
    return {"still_rejected" if name == "rejected" else name: count for name, count in counts.items()}

"""What a run made, for people and for programs: totals of a generation, and what changed."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from transforms.generations import tables
from transforms.generations.manifest import Generation
from transforms.records import Changes, FileReference, Plan
from transforms.storage.store import Store

_NO_CHANGES = Changes(0, 0, 0, 0, 0, 0)


def summary(store: Store, generation: Generation, seconds: dict[str, float]) -> dict[str, object]:
    """Returns the last line of a build."""
    totals = generation.totals
    return {
        "generation": generation.generation,
        "items": totals.items,
        "embedded": totals.embedded,
        "rejected": totals.rejected,
        "vectors": totals.vectors,
        "tombstones": totals.tombstones,
        "index_key": generation.trained.key,
        "trained": generation.trained.fingerprint,
        "index": store.full(generation.index.path),
        **beside(store, generation.tables.containers),
        "seconds": seconds,
    }


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


def totals_text(store: Store, generation: Generation) -> str:
    """Says in a line what a generation holds and, when something was rejected, how to see why."""
    totals = generation.totals
    why = f" (pixdex inspect --root {shlex.quote(str(store.local or store.url))} says why)" if totals.rejected else ""
    return (
        f"{totals.items:,} items: {totals.embedded:,} embedded, {totals.rejected:,} rejected{why}; "
        f"{totals.vectors:,} vectors, index {generation.trained.key}"
    )


def changes_text(plan: Plan) -> str:
    """Says in a line what a plan found."""
    changes = plan.changes or _NO_CHANGES
    retried = f", {changes.retried:,} to embed again" if changes.retried else ""
    return (
        f"{changes.new:,} new, {changes.changed:,} changed, {changes.gone:,} gone, {changes.unchanged:,} unchanged, "
        f"{changes.rejected:,} still rejected{retried}"
    )


def changes(plan: Plan) -> dict[str, Any]:
    """Returns the same as values that JSON has."""
    counts = asdict(plan.changes or _NO_CHANGES)
    return {"still_rejected" if name == "rejected" else name: count for name, count in counts.items()}

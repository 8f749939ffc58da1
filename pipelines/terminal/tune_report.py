"""What was tuned, for people and for programs; and whether it still holds after a reindex."""

from typing import Any

from pipelines.terminal import text_table
from pipelines.terminal.text_table import Column
from transforms.evaluation.promise import Promise
from transforms.generations.manifest import Generation
from transforms.generations.tuned import Setting, Tuned

_LOST = 0.01
"""Recall of canaries that is lost when a promise is said to hold no longer: thousand queries tell so much."""


def summary(generation: Generation) -> dict[str, Any]:
    """Returns the last line: the setting of each kind of queries, null where there is none."""
    settings = () if generation.tuned is None else generation.tuned.settings
    told: dict[str, Any] = {"generation": generation.generation, "image": None, "text": None}
    return told | {one.queries: _as_json(one) for one in settings}


def _as_json(one: Setting) -> dict[str, Any]:
    names = ("nprobe", "shortlist", "margin", "recall", "tail", "codes")
    return {name: getattr(one, name) for name in names}


def text_of(promise: Promise, k: int, tuned: Tuned | None) -> str:
    """Returns the settings as a table."""
    if tuned is None:
        return "not tuned"
    headings = ("queries", "nprobe", "stop at margin", "shortlist", f"recall@{k}", "tail", "codes")
    rows = [
        (
            one.queries,
            str(one.nprobe),
            "" if one.margin is None else f"{one.margin:.2f}",
            str(one.shortlist) if one.shortlist else "codes",
            f"{one.recall:.4f}",
            "" if one.tail is None else f"{one.tail:.4f}",
            f"{one.codes:,.0f}",
        )
        for one in tuned.settings
    ]
    columns = [Column(heading, "left" if heading == "queries" else "right") for heading in headings]
    return f"{promise}, as other queries than those chosen by confirm\n{text_table.render(columns, rows)}"


def lost(before: Tuned | None, now: Generation) -> str:
    """Says why what was tuned holds no longer after a reindex; empty: it does, or nothing was."""
    if before is None:
        return ""
    promise = str(Promise(before.target_recall, before.tail))
    if now.tuned is None:
        return f"{promise} was of the trained index before: searches go as this one was trained; run pixdex tune again"
    recall = None if now.drift is None else now.drift.recall
    if before.canaries is None or recall is None or recall >= before.canaries - _LOST:
        return ""
    return (
        f"{promise} may no longer hold: canary queries found {before.canaries:.4f} when it was tuned, and find "
        f"{recall:.4f} now; run pixdex tune again"
    )

"""What `pixdex inspect` says to people: the same as its JSON, as facts and tables."""

from collections.abc import Sequence
from typing import Any, Final

from pipelines.terminal import text_table
from pipelines.terminal.run_report import kinds_text
from pipelines.terminal.text_table import Column
from transforms.evaluation.promise import Promise
from transforms.records import NO_ENCODER

_METRICS: Final = {"ip": "inner product", "l2": "squared L2", "l1": "L1"}
_REASONS_SHOWN: Final = 10


def text_of(said: dict[str, Any]) -> str:
    """Returns it as lines.

    Args:
        said: what `--json` prints.
    """
    parts = [_facts([("root", said["root"])])]
    if "generation" in said:
        parts = [_generation_text(said)]
        if len(said["history"]) > 1:
            parts.append(_history_text(said["history"]))
        if said["reject_reasons"]:
            parts.append(_rejects_text(said))
    if said["unfinished"]:
        parts.append(_progress_text(said["unfinished"]))
    return "\n\n".join(parts)


def reject_line(reject: dict[str, Any]) -> str:
    """Returns key, stage, type, message and generation of a reject, with tabs between them."""
    cells = (str(reject[name]) for name in ("key", "stage", "type", "message", "generation"))
    return "\t".join("".join(c if c.isprintable() else " " for c in cell) for cell in cells)


def _generation_text(said: dict[str, Any]) -> str:
    encoder, index, sizes = said["encoder"], said["index"], said["bytes"]
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in said["by_modality"].items() if count)
    facts = [
        ("root", said["root"]),
        ("generation", f"{said['generation']}"),
        ("items", f"{said['items']:,}: {said['embedded']:,} embedded, {said['rejected']:,} rejected"),
        ("vectors", f"{said['vectors']:,}: {kinds}"),
        *([("deltas", _deltas_text(said["deltas"]))] if said["deltas"]["files"] else []),
        *([("tombstones", f"{said['tombstones']:,} dead codes that searches drop")] if said["tombstones"] else []),
        *([("hidden", f"{_count(said['hidden'], 'key')} that no search returns")] if said["hidden"] else []),
        *([("drift", _drift_text(said["drift"]))] if said["drift"] else []),
        *([("tuned", _tuned_text(said["tuned"]))] if said["tuned"] else []),
        ("encoder", _encoder_text(encoder)),
        (
            "index",
            (
                f"{index['key']}, {_METRICS[index['metric']]}, "
                f"{_count(index['nlist'], 'list')}, nprobe {index['nprobe']}, {index['code_size']} bytes a vector"
            ),
        ),
        ("trained", f"{index['trained']}"),
        *([("assignment", _assignment_text(index["assignment"]))] if index["assignment"] else []),
        (
            "files",
            f"{_count(said['shards'], 'shard')}, {_count(said['blocks'], 'block')}"
            + (f", {_count(index['segments'], 'segment')}" if index["segments"] else ""),
        ),
        *(
            [
                (
                    "ready",
                    f"{_count(said['ready']['shards'], 'shard')} of {_count(said['ready']['files'], 'file')} elsewhere",
                )
            ]
            if said["ready"]["shards"]
            else []
        ),
        ("bytes", f"{_size(sum(sizes.values()))}: {', '.join(f'{_size(n)} {kind}' for kind, n in sizes.items() if n)}"),
        *(("source", _source_text(source)) for source in said["sources"]),
        *([("left out", kinds_text(said["left_out"]))] if said["left_out"] else []),
        *([("report", said["report"])] if said["report"] else []),
    ]
    return _facts(facts)


def _history_text(history: Sequence[dict[str, Any]]) -> str:
    names = ("generation", "items", "rejected", "vectors", "deltas", "tombstones")
    rows = [[f"{entry[name]:,}" for name in names] + [entry["trained"][:12] + "…"] for entry in history]
    return text_table.render([*(Column(name, "right") for name in names), Column("trained index")], rows)


def _deltas_text(deltas: dict[str, int]) -> str:
    return f"{deltas['rows']:,} vectors beside the merged index, in {_count(deltas['files'], 'file')}"


def _drift_text(drift: dict[str, Any]) -> str:
    parts = [f"{drift['new_rows']:.1%} new rows"]
    if drift["residual"] is not None:
        parts.append(f"coded {drift['residual']:.2f} times as badly as those trained for")
    parts.append(f"lists {drift['imbalance']:.2f} times as unbalanced")
    if drift["recall"] is not None and drift["recall_trained"] is not None:
        parts.append(f"recall@10 of canaries {drift['recall']:.3f}, {drift['recall_trained']:.3f} when trained")
    return ", ".join(parts)


def _tuned_text(tuned: dict[str, Any]) -> str:
    each = (
        f"{one['queries']} queries find {one['recall']:.3f} with nprobe {one['nprobe']}, shortlist {one['shortlist']}"
        + ("" if one["margin"] is None else f", and stop at margin {one['margin']:.2f}")
        for one in tuned["settings"]
    )
    return f"{Promise(tuned['target_recall'], tuned['tail'])} of {tuned['k']}: {'; '.join(each)}"


def _encoder_text(encoder: dict[str, Any]) -> str:
    if encoder["spec"] == NO_ENCODER:
        length = "normalised" if encoder["normalized"] else "of any length"
        return f"none: ready embeddings of {encoder['dim']} dimensions, {length}"
    return (
        f"{encoder['spec']}, {encoder['dim']} dimensions, takes {' and '.join(encoder['modalities'])}, "
        f"fit {encoder['image_fit']}, fingerprint {encoder['fingerprint'][:12]}…"
    )


def _rejects_text(said: dict[str, Any]) -> str:
    reasons = said["reject_reasons"]
    shown = reasons[:_REASONS_SHOWN]
    rows = [[f"{reason['count']:,}", reason["stage"], reason["type"], reason["message"]] for reason in shown]
    columns = [Column("rejects", "right"), Column("stage"), Column("type"), Column("message", cut="end")]
    lines = [text_table.render(columns, rows, text_table.terminal_width())]
    more = len(reasons) - len(shown) + said["reject_reasons_left_out"]
    if more:
        lines.append(f"… and {_count(more, 'other reason')}; --json has more, --rejects has every item")
    return "\n".join(lines)


def _progress_text(run: dict[str, Any]) -> str:
    rows = [
        [
            stage,
            f"{state['done']:,}" + ("" if state["planned"] is None else f" of {state['planned']:,}"),
            "finished" if state["finished"] else "begun" if state["done"] else "",
        ]
        for stage, state in run["stages"].items()
    ]
    head = (
        f"The run of generation {run['generation']} is not finished: run its command again to go on, "
        "or give it up with --abandon-plan."
    )
    if run["left_out"]:
        head += f"\nLeft out of its sources: {kinds_text(run['left_out'])}."
    return f"{head}\n{text_table.render([Column('stage'), Column('tasks', 'right'), Column('')], rows)}"


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    room = max(len(name) for name, _ in facts)
    return "\n".join(f"{name:<{room}}  {text_table.plain(text)}" for name, text in facts)


def _assignment_text(audit: dict[str, Any]) -> str:
    return f"two levels, {_count(audit['probes'], 'cell')} a vector, {audit['agreement']:.2%} as flat assignment does"


def _source_text(source: dict[str, Any]) -> str:
    rest = ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in source.items() if name not in ("kind", "pattern")
    )
    return f"{source['kind']} {source['pattern']}" + (f" ({rest})" if rest else "")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _size(number: int) -> str:
    """A number of bytes for people, as `--max-index-memory` reads it: in powers of 1,024."""
    value = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"

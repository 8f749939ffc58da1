"""What a generation holds, as values that JSON has: what `pixdex inspect` prints, and a report shows."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from transforms.generations import hidden, published, sizes, tables
from transforms.generations.manifest import Generation
from transforms.generations.published import open_generation
from transforms.index.trained import read_training
from transforms.records import FileReference, Source
from transforms.shards import reasons as rejected
from transforms.storage import layout, parquet_files
from transforms.storage.store import Store

REASONS: Final = 100
"""Reasons of rejects that are given at most."""

_GENERATIONS_SHOWN: Final = 10


def describe(store: Store, generation: Generation, rejects: Sequence[FileReference] | None = None) -> dict[str, Any]:
    """Returns what a generation holds, as values that JSON has.

    Args:
        store: the root.
        generation: one of it.
        rejects: files of rejects whose reasons are counted; None: all of them.

    Cost: reads its tables and these files of rejects.
    """
    totals, trained, encoder = generation.totals, generation.trained, generation.request.encoder
    reasons = rejected.reasons_of(store, reject_files(store, generation) if rejects is None else rejects)
    return {
        "generation": generation.generation,
        "generations": published.numbers(store),
        "history": [_summary(store, number) for number in published.numbers(store)[-_GENERATIONS_SHOWN:]],
        "items": totals.items,
        "embedded": totals.embedded,
        "rejected": totals.rejected,
        "vectors": totals.vectors,
        "by_modality": {"image": totals.images, "text": totals.texts, "keyword": totals.keywords},
        "tombstones": totals.tombstones,
        "hidden": hidden.count(store, generation),
        "deltas": _deltas(store, generation),
        "drift": None if generation.drift is None else asdict(generation.drift),
        "tuned": None if generation.tuned is None else asdict(generation.tuned),
        "encoder": {
            "spec": encoder.spec,
            "fingerprint": encoder.fingerprint,
            "dim": encoder.dim,
            "modalities": list(encoder.modalities),
            "image_fit": encoder.image_fit,
            "normalized": encoder.normalize,
            "precision": encoder.precision,
        },
        "index": {
            "key": trained.key,
            "metric": trained.metric,
            "nlist": trained.nlist,
            "nprobe": trained.nprobe,
            "code_size": trained.code_size,
            "refine": generation.request.index.refine,
            "trained": trained.fingerprint,
            "assignment": _assignment(store, generation),
            "path": generation.index.path,
            "segments": _segments(store, generation),
        },
        "shards": totals.shards,
        "ready": _ready(store, generation),
        "blocks": totals.blocks,
        "bytes": sizes.bytes_of(store, generation),
        "sources": [source_of(source) for source in generation.request.sources],
        "left_out": tables.left_out_of(store, generation.tables.containers),
        "reject_reasons": [asdict(reason) for reason in reasons.most_common(REASONS)],
        "reject_reasons_left_out": reasons.left_out(REASONS),
        "report": report if store.exists(report := layout.report(generation.generation)) else None,
    }


def reject_files(store: Store, generation: Generation) -> list[FileReference]:
    """Returns the files of the rejects of a generation."""
    return [file.file for file in tables.rejects_of(store, generation).values() if file.file]


def source_of(source: Source) -> dict[str, Any]:
    """Returns what a source is, less what says nothing."""
    fields = {name: getattr(source, name) for name in source.__dataclass_fields__}
    if not source.keyword_column:
        del fields["keyword_separator"]
    if (derivation := fields.pop("derivation")) is not None:
        del fields["modality"]
        unused = {"augment": ("rows",), "condense": ("alpha", "neighbours", "nprobe")}[derivation.operation]
        left_out = ("seal", "places", *unused)
        fields |= {name: value for name, value in asdict(derivation).items() if name not in left_out}
    return {name: value for name, value in fields.items() if value is not None}


def _deltas(store: Store, generation: Generation) -> dict[str, int]:
    """How many shard indexes a search scans beside the merged one, and how many codes they have."""
    deltas = [block for block in tables.blocks_of(store, generation) if not block.merged and block.rows]
    return {"files": len(deltas), "rows": sum(block.rows for block in deltas)}


def _summary(store: Store, number: int) -> dict[str, Any]:
    """What one of the generations holds, in a line."""
    generation = open_generation(store, number)
    totals = generation.totals
    return {
        "generation": number,
        "items": totals.items,
        "rejected": totals.rejected,
        "vectors": totals.vectors,
        "deltas": _deltas(store, generation)["files"],
        "tombstones": totals.tombstones,
        "trained": generation.trained.fingerprint,
    }


def _assignment(store: Store, generation: Generation) -> dict[str, Any] | None:
    """How vectors are assigned to lists in two levels, as its training audited it; None where assignment is flat."""
    if generation.trained.assignment is None:
        return None
    audit = read_training(store, generation.trained).assignment
    return None if audit is None else asdict(audit)


def _segments(store: Store, generation: Generation) -> int:
    """The number of files of an index that is kept as segments; 0 where it is one file."""
    if not generation.is_segmented:
        return 0
    return len(parquet_files.read(store, generation.tables.segments)["path"])


def _ready(store: Store, generation: Generation) -> dict[str, int]:
    """How many shards are ready embeddings, and of how many files; these are not copied into the root."""
    table = parquet_files.read(store, generation.tables.shards)
    ranges = table["ready"].to_pylist() if "ready" in table.column_names else []
    uris = [(ready["uri"], ready.get("text_uri")) for ready in ranges if ready]
    return {"shards": len(uris), "files": len({uri for pair in uris for uri in pair if uri is not None})}

"""Says what a root holds: generations, items, rejects, vectors, drift, files, and an unfinished run.

For people:

    pixdex inspect --root ./emoji

For another program, one JSON object as the last line on stdout:

    pixdex inspect --root ./emoji --json

Every file that the current generation needs, one path relative to the root a line; so a generation is copied with:

    pixdex inspect --root ./emoji --files | rsync --archive --files-from=- ./emoji/ backup:emoji/

Every item that was rejected, a line each: key, stage, type, message and generation, with tabs between them; or, with
--json, one object that lists them. An unfinished run has those that it has rejected so far:

    pixdex inspect --root ./emoji --rejects
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

from pipelines.terminal import command_line, console, inspect_report, process
from pipelines.terminal.flags import Group, switch
from pipelines.terminal.options import ROOT, root_of
from transforms.errors import UsageError
from transforms.generations import published, sizes, tables
from transforms.generations.manifest import Generation
from transforms.generations.published import open_generation
from transforms.index.trained import read_training
from transforms.markers import ShardMarker
from transforms.records import FileReference, Source
from transforms.runs import beginning
from transforms.runs.run import STAGES, Run
from transforms.shards import reasons as rejected
from transforms.storage import layout, parquet_files
from transforms.storage.store import Store

REASONS = 100
"""Reasons of rejects that `--json` gives at most; people see the first few."""

_GENERATIONS_SHOWN = 10
_ROWS_AT_ONCE = 4096

OPTIONS: Final = (
    ROOT,
    Group(
        "InspectOptions",
        "What is said",
        (
            switch("--files", "print only the files that the generation needs"),
            switch("--rejects", "print only the items that were rejected, and why"),
            switch("--json", "print one JSON object instead of tables"),
        ),
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: inspect(arguments))


def inspect(argv: Sequence[str]) -> int:
    """Parses, looks and says."""
    options = command_line.parse("inspect", __doc__, argv, OPTIONS)
    store = root_of(options)
    if options.files and (options.json or options.rejects):
        other = "--json" if options.json else "--rejects"
        raise UsageError(f"--files and {other} print different things: give one of them")
    if options.files:
        for path in published.files(store, open_generation(store)):
            console.show(path)
        return console.DONE
    run = beginning.unfinished(store)
    if options.rejects:
        _list_rejects(store, run, only_json=options.json)
        return console.DONE
    if run is None or published.numbers(store):
        generation: Generation | None = open_generation(store)
    else:
        generation = None  # a first build is under way
    said = {
        "root": store.url,
        **({} if generation is None else describe(store, generation)),
        "unfinished": None if run is None else progress(run),
    }
    if options.json:
        console.show_json(said)
    else:
        console.show(inspect_report.text_of(said))
    return console.DONE


def describe(store: Store, generation: Generation) -> dict[str, Any]:
    """Returns what a generation holds, as values that JSON has.

    Cost: reads its tables and the files of rejects.
    """
    totals, trained, encoder = generation.totals, generation.trained, generation.request.encoder
    reasons = rejected.reasons_of(store, _reject_files(store, generation))
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
        "sources": [_source(source) for source in generation.request.sources],
        "left_out": tables.left_out_of(store, generation.tables.containers),
        "reject_reasons": [asdict(reason) for reason in reasons.most_common(REASONS)],
        "reject_reasons_left_out": reasons.left_out(REASONS),
    }


def progress(run: Run) -> dict[str, Any]:
    """Returns how far a run is: tasks done and planned of every stage; planned is None where no plan says it yet."""
    stages: dict[str, dict[str, Any]] = {}
    for stage in STAGES:
        done = len(run.store.names(layout.marker_folder(run.generation, stage)))
        marker = run.stage_marker(stage)
        planned = marker.tasks if marker else run.tasks(stage)
        stages[stage] = {"done": marker.tasks if marker else done, "planned": planned, "finished": marker is not None}
    return {
        "generation": run.generation,
        "sources": [_source(source) for source in run.request.sources],
        "left_out": tables.left_out_of(run.store, run.plan.containers) if run.is_planned else {},
        "encoder": run.request.encoder.spec,
        "stages": stages,
    }


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


def _reject_files(store: Store, generation: Generation) -> list[FileReference]:
    return [file.file for file in tables.rejects_of(store, generation).values() if file.file]


def _list_rejects(store: Store, run: Run | None, *, only_json: bool) -> None:
    """Prints the rejects of the current generation, if there is one, and those of the unfinished run so far."""
    files: dict[int, list[FileReference]] = {}
    if run is None or published.numbers(store):
        generation = open_generation(store)
        files[generation.generation] = _reject_files(store, generation)
    head: dict[str, object] = {"generation": next(iter(files), None), "unfinished": None}
    if run is not None:
        markers = run.markers("embed", run.numbers("embed"), ShardMarker)
        files[run.generation] = [marker.rejects for marker in markers if marker.rejects]
        head["unfinished"] = run.generation
    rows = _reject_rows(store, files)
    if only_json:
        console.show_json_list(head, "rejects", rows)
    else:
        console.show_lines(inspect_report.reject_line(row) for row in rows)


def _reject_rows(store: Store, files: dict[int, list[FileReference]]) -> Iterator[dict[str, Any]]:
    """Reads rejects by the generation that they are, or will be, of."""
    for generation, some in files.items():
        for table in rejected.read_all(store, some):
            for batch in table.to_batches(max_chunksize=_ROWS_AT_ONCE):
                yield from ({**row, "generation": generation} for row in batch.to_pylist())


def _source(source: Source) -> dict[str, Any]:
    fields = {name: getattr(source, name) for name in source.__dataclass_fields__}
    if not source.keyword_column:
        del fields["keyword_separator"]
    if (derivation := fields.pop("derivation")) is not None:
        del fields["modality"]
        unused = {"augment": ("rows",), "condense": ("alpha", "neighbours", "nprobe")}[derivation.operation]
        left_out = ("seal", "places", *unused)
        fields |= {name: value for name, value in asdict(derivation).items() if name not in left_out}
    return {name: value for name, value in fields.items() if value is not None}


if __name__ == "__main__":
    process.run(main)

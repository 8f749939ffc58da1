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
from typing import Any, Final

from pipelines.terminal import command_line, console, inspect_report, process
from pipelines.terminal.flags import Group, switch
from pipelines.terminal.options import ROOT, root_of
from transforms.errors import UsageError
from transforms.generations import published, tables
from transforms.generations.manifest import Generation
from transforms.generations.published import open_generation
from transforms.markers import ShardMarker
from transforms.records import FileReference
from transforms.report.described import describe, reject_files, source_of
from transforms.runs import beginning
from transforms.runs.run import STAGES, Run
from transforms.shards import reasons as rejected
from transforms.storage import layout
from transforms.storage.store import Store

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
        "sources": [source_of(source) for source in run.request.sources],
        "left_out": tables.left_out_of(run.store, run.plan.containers) if run.is_planned else {},
        "encoder": run.request.encoder.spec,
        "stages": stages,
    }


def _list_rejects(store: Store, run: Run | None, *, only_json: bool) -> None:
    """Prints the rejects of the current generation, if there is one, and those of the unfinished run so far."""
    files: dict[int, list[FileReference]] = {}
    if run is None or published.numbers(store):
        generation = open_generation(store)
        files[generation.generation] = reject_files(store, generation)
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


if __name__ == "__main__":
    process.run(main)

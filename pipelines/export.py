"""Writes a root as files that other tools open: faiss, autofaiss, clip-retrieval, parquet.

    pixdex export --root ./photos --layout faiss ./for-faiss

    pixdex export --root ./photos --layout clip-retrieval ./for-clip   # a folder that clip-retrieval back serves
    pixdex export --root ./photos --layout autofaiss ./for-autofaiss   # knn.index, index_infos.json, ids
    pixdex export --root ./photos --layout parquet ./data-set          # rows with vectors: pandas, DuckDB, polars
    pixdex export --root ./shop --layout faiss --with-hidden ./all     # what pixdex hide has hidden, too

Of the current generation all living rows, with what nights added since the last merge; dead and hidden ones are left
out. The root is read, and stays as it is. The files appear whole, one by one: the same command goes on where it was
stopped, with the generation that it began with, and leaves an export alone that is finished. A folder that holds
something else is refused. The last line on stdout is one JSON object: {"layout", "rows", "files", "generation"}: rows
are vectors, of clip-retrieval rows of metadata, and files is how many there are.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pipelines.terminal import command_line, console, flags, process
from pipelines.terminal.flags import Flag, Group, positive, switch
from pipelines.terminal.options import ROOT, TRUST_URIS, root_of
from pipelines.terminal.progress.shown import shown_parts, way_of
from transforms.errors import UsageError

if TYPE_CHECKING:
    from transforms.export.run import Asked, Exported, Tally

LAYOUTS: Final = ("faiss", "autofaiss", "clip-retrieval", "parquet")
"""Those of `transforms.export.run`, whose import takes seconds, which only an export needs."""

OPTIONS: Final = (
    ROOT,
    Group(
        "ExportOptions",
        "What is written, and where",
        (
            Flag("dest", "DEST", "folder of this machine that is new or empty, or holds this export", nargs="?"),
            Flag("--layout", None, "whose files they are", choices=LAYOUTS),
            switch("--with-hidden", "write hidden items, too"),
            Flag(
                "--rows-per-file",
                "N",
                "rows of a file with vectors, metadata or ids (default: about 1 GiB of vectors, 1048576 at most)",
                positive,
            ),
            *flags.PROGRESS,
            TRUST_URIS,
        ),
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: run(arguments))


def run(argv: Sequence[str]) -> int:
    """Parses, exports and says what was written."""
    options = command_line.parse("export", __doc__, argv, OPTIONS)
    store = root_of(options)
    if options.layout is None:
        raise UsageError(f"--layout is missing: name one of {', '.join(LAYOUTS)}")
    if not options.dest:
        raise UsageError("DEST is missing: name a new or empty folder")
    # Now, as all of it is: --help needs none of it.
    from transforms.export.destination import folder_of  # noqa: PLC0415
    from transforms.export.run import Asked, export  # noqa: PLC0415

    folder = folder_of(options.dest)
    asked = Asked(options.layout, folder, options.with_hidden, options.rows_per_file, options.trust_uris)
    with shown_parts("export", lambda: _parts(asked.tally), way_of(options)):
        made = export(store, asked)
    console.say(_summary(asked, made))
    if made.note:
        console.say(f"note: in {folder}, a build takes it by: pixdex build {made.note}")
    console.show_json({"layout": asked.layout, "rows": made.rows, "files": made.files, "generation": made.generation})
    return console.DONE


def _parts(tally: "Tally") -> tuple[int, int | None]:
    """How many batches of rows are written, and of how many."""
    from transforms.shards.vectors import BATCH_ROWS  # noqa: PLC0415 - as above

    if tally.total is None:
        return 0, None
    parts = -(-tally.total // BATCH_ROWS)
    return parts if tally.done == tally.total else tally.done // BATCH_ROWS, parts


def _summary(asked: "Asked", made: "Exported") -> str:
    rows = f"generation {made.generation} as {asked.layout}, {made.rows:,} rows in {made.files:,} files"
    return f"{asked.folder} holds {rows}" + (": nothing to do" if made.was_there else "")


if __name__ == "__main__":
    process.run(main)

"""The `pixdex` command: finds the job that a command names and hands it the rest of the line."""

import importlib
import sys
from collections.abc import Sequence
from typing import Final

from pipelines.terminal import console, help_page, process
from transforms.errors import UsageError
from transforms.nearest import guess

COMMANDS: Final = {
    "build": "Builds an index: embed + train + add + merge + publish, as one Beam graph.",
    "embed": "Embeds what a build would embed, and stops there: plan + embed.",
    "train": "Trains the index of a build, and stops there: whatever is missing before it + sample to train.",
    "add": "Adds every shard to the trained index, and stops there: whatever is missing before it + shard indexes.",
    "merge": "Merges the shard indexes and publishes the index: whatever is missing before it + merge + publish.",
    "reindex": "Brings an index up to date: embeds what is new or changed, and drops what is gone.",
    "augment": "Makes a new root of a root, each of whose vectors has its nearest neighbours added.",
    "condense": "Makes a new, smaller root of a root: so many rows, which stand for all.",
    "search": "Searches an index with a text, a picture or a vector.",
    "serve": "Serves a root over HTTP: a page for people, and JSON for programs.",
    "batch-search": "Answers many queries as one Beam graph, and writes their results as a parquet file.",
    "evaluate": "Says how much searches of a root find, and what that costs: recall, judgements, labels.",
    "tune": "Chooses how far searches go that keep a promise of recall, and has them go so by default.",
    "export": "Writes a root as files that other tools open: faiss, autofaiss, clip-retrieval, parquet.",
    "plan": "Says what a build will be, before there is any: index, parts, memory, bytes, hours, and the bottleneck.",
    "inspect": "Says what a root holds: generations, items, rejects, vectors, drift, files, and an unfinished run.",
    "watch": "Follows a run that was begun elsewhere, and ends with it: how far, how fast, for how long still.",
    "report": "Makes the report of a generation: what it is, is worth and took, on one page with pictures.",
    "verify": "Says whether a generation is whole: every file, checksum and count, and every id in one place.",
    "hide": "Hides items from searches, at once and without a build, until they are shown again.",
    "unhide": "Shows items again that pixdex hide has hidden.",
    "rollback": "Goes back to an earlier generation, by publishing it anew under the next number.",
    "gc": "Drops what no kept generation needs: old generations, their files, and what stopped runs left.",
    "demo": "Shows everything at once, offline: draws pictures, builds their index and searches it.",
    "completion": "Prints a script that lets a shell complete commands, flags, their values and files.",
}
"""Commands in the order a person meets them, with the first line of their module's docstring."""

_HELP: Final = ("-h", "--help", "help")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments:
        console.say(help_page.overview(COMMANDS))
        return console.BAD_USAGE
    command, *rest = arguments
    if command in _HELP and rest[:1] == ["commands"]:
        console.show(help_page.listing(COMMANDS))
        return console.DONE
    if command in _HELP and rest and rest[0] in COMMANDS:
        command, rest = rest[0], ["--help"]
    if command in _HELP:
        console.show(help_page.overview(COMMANDS))
        return console.DONE
    if command in ("-V", "--version"):
        console.show(f"pixdex {version()}")
        return console.DONE
    if command not in COMMANDS:
        return console.run(lambda: _refuse(command))
    # Only now: a job imports Beam or torch, which takes seconds.
    job = importlib.import_module(f"pipelines.{command.replace('-', '_')}")
    code: int = job.main(rest)
    return code


def version() -> str:
    """Returns the version that is installed."""
    from importlib import metadata  # noqa: PLC0415 - imports a tenth of what --help may take, and only this needs it

    try:
        return metadata.version("pixdex")
    except metadata.PackageNotFoundError:
        return "(not installed: run from a checkout)"


def _refuse(command: str) -> int:
    if command.startswith("-"):
        raise UsageError(f"{command} comes before a command: write pixdex COMMAND {command} …; see pixdex --help")
    raise UsageError(f"unknown command {command!r}{guess(command, COMMANDS)}; commands are {', '.join(COMMANDS)}")


if __name__ == "__main__":
    process.run(main)

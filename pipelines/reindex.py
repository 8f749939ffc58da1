"""Brings an index up to date: embeds what is new or changed, and drops what is gone.

Every night, with nothing but the root: sources, encoder and index options are those of the generation that is there:

    pixdex reindex --root ./photos

What would be done, and nothing else:

    pixdex reindex --root ./photos --dry-run

Rejects are not tried again while nothing changes; all of them anew, or those of one type:

    pixdex reindex --root ./photos --retry-rejects
    pixdex reindex --root ./photos --retry-rejects ConnectionError

What missing or damaged shards held, anew from the sources:

    pixdex reindex --root ./photos --repair

On a Flink cluster, as pixdex build:

    pixdex reindex --root /shared/photos \\
        --runner PortableRunner --job_endpoint flink-jobserver:8099 \\
        --environment_type EXTERNAL --environment_config localhost:50000

On Dataflow, with everything on Cloud Storage:

    pixdex reindex --root gs://bucket/photos \\
        --runner DataflowRunner --project my-project --region europe-west1 --temp_location gs://bucket/temp \\
        --sdk_container_image my-registry/pixdex:0.1.0

New and changed items become a delta, which searches scan beside the merged index; rows of what is gone or changed
become tombstones, which searches drop. With more than --max-deltas of the one, or more than a share of --max-tombstones
of the other, all shard indexes are merged anew, without dead rows. Where the vectors have drifted away from what the
index was trained on, it is trained anew, and every stored embedding is added again; nothing is embedded twice.

A night that finds more than a share of --max-gone-ratio of a source's items gone is stopped, with nothing changed: a
folder that is not mounted should not empty an index.

A file of rows that names no pictures outside of itself, and one of ready embeddings, is not opened while its
modification time (or ETag) stays.
One run at a time: a second one says who is at it, and exits with 1. A run that was stopped goes on where it was; what
changed in the sources since then waits for the next run. Nothing to do: no new generation, and exit code 0.

The last line on stdout is one JSON object: the totals of the generation, with what this run embedded and found.
"""

import sys
from collections.abc import Sequence
from typing import Final

from pipelines.running.start import read
from pipelines.terminal import console, options, process

OPTIONS: Final = options.REINDEX


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: reindex(arguments))


def reindex(argv: Sequence[str]) -> int:
    """Parses, compares, runs what is to be done, and reports."""
    words = ["--dry-run" if word == "--dry_run" else word for word in argv]
    line = read("reindex", __doc__, words, OPTIONS)
    from pipelines.running import reindex as running  # noqa: PLC0415 - imports Beam, and --help needs none

    return running.reindex(line)


if __name__ == "__main__":
    process.run(main)

"""Makes a new, smaller root of a root: so many rows, which stand for all.

    pixdex condense --root ./photos --to ./photos-condensed --rows 10000
    pixdex condense --root ./photos --to ./photos-condensed --rows 10000 --seed 1 --workers 4
    pixdex condense --root ./messages --to ./messages-condensed --rows 10000 --by label

On Flink, and on Dataflow, where both roots are what every worker reaches:

    pixdex condense --root s3://b/photos --to s3://b/condensed --rows 100000 --runner FlinkRunner \\
        --flink_master localhost:8081 --flink_version 1.19 --environment_type EXTERNAL \\
        --environment_config localhost:50000
    pixdex condense --root gs://b/photos --to gs://b/condensed --rows 100000 --runner DataflowRunner --project P \\
        --region R --temp_location gs://b/temp --sdk_container_image IMAGE

The new root has exactly --rows rows. The vector of each is a centre of k-means; its key, URI, caption and columns are
those of the row that is nearest to the centre, and no row stands for two. Pictures, texts and keywords are condensed
apart, each in proportion to their rows. Rows that are dead or hidden are left out. The encoder is the same, so that
texts and pictures find in the new root; its index has the same settings and is trained on its own vectors.

--by has the rows of each value of a column condensed apart, each in its share (rounded at random, group by group, so
that rare values have theirs on average): every row stands for rows of its own value only. Where neighbours vote on
labels, that keeps what they say (k-means for each class: Hastie, Tibshirani and Friedman, "The Elements of Statistical
Learning", 13.2.1).

The work is cut by the inverted lists of the root: groups of lists with about 8,192 rows, or one with up to 65,536, are
clustered each by itself, spherically where scores are cosines, and get representatives in proportion to their rows. A
task holds the vectors of one group, and reads each list once more than the count before it. Rows are read from stored
vectors: of sq8 they are as exact as these; of a root that stores none (--refine-store none) they are taken out of its
shards, which takes long.

--seed chooses the rows that k-means begins with: the same seed makes the same root. The root is read, and not changed.
A command that was stopped goes on where it was when it is run again, with the generation of the root that it began
with. A new root that holds what is asked for is left alone; one of another request is refused.

The last line on stdout is one JSON object, as that of pixdex build: the totals of the new root. Where items have
several rows, those that are left of one may be counted as several items.
"""

import sys
from collections.abc import Sequence
from typing import Final

from pipelines.running.start import read
from pipelines.terminal import console, process
from pipelines.terminal.flags import Flag, Group, positive
from pipelines.terminal.options import DERIVED, ROOT, TRUST

OPTIONS: Final = (
    ROOT,
    Group(
        "CondenseOptions",
        "What is left",
        (
            Flag("--rows", "N", "rows of the new root, exactly", positive),
            Flag("--by", "COLUMN", "column whose values are condensed apart"),
        ),
    ),
    DERIVED,
    TRUST,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: condense(arguments))


def condense(argv: Sequence[str]) -> int:
    """Parses, makes what is not made yet, and reports."""
    line = read("condense", __doc__, argv, OPTIONS)
    from pipelines.running import derive  # noqa: PLC0415 - imports Beam, and --help needs none

    return derive.derive(line, "condense")


if __name__ == "__main__":
    process.run(main)

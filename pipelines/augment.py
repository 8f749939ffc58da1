"""Makes a new root of a root, each of whose vectors has its nearest neighbours added.

Database-side augmentation: a vector v becomes normalise(v + sum of max(cosine, 0)^alpha * n) over its N nearest
neighbours n, so that it stands for what it shows and not for how it happens to show it:

    pixdex augment --root ./photos --to ./photos-augmented
    pixdex augment --root ./photos --to ./photos-augmented --neighbours 20 --alpha 2 --workers 4
    pixdex search --root ./photos-augmented "a cat on a sofa"

On Flink, and on Dataflow, where both roots are what every worker reaches:

    pixdex augment --root s3://b/photos --to s3://b/augmented --runner FlinkRunner --flink_master localhost:8081 \\
        --flink_version 1.19 --environment_type EXTERNAL --environment_config localhost:50000
    pixdex augment --root gs://b/photos --to gs://b/augmented --runner DataflowRunner --project P --region R \\
        --temp_location gs://b/temp --sdk_container_image IMAGE

The new root has the same rows, with the same keys, URIs, captions and columns, but for those that are dead or hidden;
the same encoder, so that texts and pictures find in it; and an index of the same settings, trained on its own vectors.
Neighbours are rows of the same kind (pictures of pictures), a row itself left out, as a search of the root finds them
and ranks them by stored vectors; --nprobe has it look into more lists, or fewer, than it usually does. With
--neighbours 0 vectors stay as they are. A larger --alpha trusts the nearest neighbours more; 0 trusts all alike.

The root must have inner products for scores (--metric-type ip): other ones are refused. It is read, and not changed.
Each shard of it is a task: one search for each row, and a read of N stored vectors. Of a root that stores none
(--refine-store none) these are taken out of its shards, which takes long. An index on an object store is copied once to
each machine that works.

A command that was stopped goes on where it was when it is run again, with the generation of the root that it began
with. A new root that holds what is asked for is left alone; one of another request is refused.

Arandjelović, Zisserman: "Three things everyone should know to improve object retrieval", CVPR 2012; the weights are
those of Radenović, Tolias, Chum: "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2018.

The last line on stdout is one JSON object, as that of pixdex build: the totals of the new root.
"""

import sys
from collections.abc import Sequence
from typing import Final

from pipelines.running.start import read
from pipelines.terminal import console, process
from pipelines.terminal.flags import Flag, Group, number, positive, whole
from pipelines.terminal.options import DERIVED, ROOT, TRUST
from transforms.derivation import DEFAULT_ALPHA, DEFAULT_NEIGHBOURS

OPTIONS: Final = (
    ROOT,
    Group(
        "AugmentOptions",
        "What is added to each vector",
        (
            Flag(
                "--neighbours",
                "N",
                f"nearest rows that are added to each (default {DEFAULT_NEIGHBOURS}; 0: none)",
                whole,
                default=DEFAULT_NEIGHBOURS,
            ),
            Flag(
                "--alpha",
                "A",
                f"each is weighted with its cosine to this power (default {DEFAULT_ALPHA:g})",
                number,
                default=DEFAULT_ALPHA,
            ),
            Flag("--nprobe", "N", "lists that are looked into for them (default: as many as searches do)", positive),
        ),
    ),
    DERIVED,
    TRUST,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: augment(arguments))


def augment(argv: Sequence[str]) -> int:
    """Parses, makes what is not made yet, and reports."""
    line = read("augment", __doc__, argv, OPTIONS)
    from pipelines.running import derive  # noqa: PLC0415 - imports Beam, and --help needs none

    return derive.derive(line, "augment")


if __name__ == "__main__":
    process.run(main)

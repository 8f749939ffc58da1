"""Embeds what a build would embed, and stops there: plan + embed.

    pixdex embed --root ./photos --images ./pictures --encoder demo

Takes the same options as `pixdex build`, and runs where it runs (`--runner`). Partitions that have their shard
already are left alone. Of ready embeddings (`--vectors`) every vector is checked and none is copied. Go on with
`pixdex train`, or with `pixdex build`, and the same options.
"""

import sys
from collections.abc import Sequence

from pipelines import console
from pipelines.launch import launch


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: launch("embed", __doc__, arguments, "embed"))


if __name__ == "__main__":
    sys.exit(main())

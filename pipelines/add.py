"""Adds every shard to the trained index, and stops there: whatever is missing before it + shard indexes.

    pixdex add --root ./photos --images ./pictures --encoder demo

Takes the same options as `pixdex build`, and runs where it runs (`--runner`). A shard index that is gone or cut short
is made again. Go on with `pixdex merge`, or with `pixdex build`, and the same options.
"""

import sys
from collections.abc import Sequence

from pipelines import console
from pipelines.launch import launch


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: launch("add", __doc__, arguments, "add"))


if __name__ == "__main__":
    sys.exit(main())

"""Merges the shard indexes and publishes the index: whatever is missing before it + merge + publish.

    pixdex merge --root ./photos --images ./pictures --encoder demo

Takes the same options as `pixdex build`, and runs where it runs (`--runner`).
"""

import sys
from collections.abc import Sequence

from pipelines import console
from pipelines.launch import launch


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: launch("merge", __doc__, arguments, "publish"))


if __name__ == "__main__":
    sys.exit(main())

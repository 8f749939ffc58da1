"""Trains the index of a build, and stops there: whatever is missing before it + sample to train.

    pixdex train --root ./photos --images ./pictures --encoder demo --index-key IVF1024,Flat

Takes the same options as `pixdex build`, and runs where it runs (`--runner`). Go on with `pixdex add`, or with
`pixdex build`, and the same options.
"""

import sys
from collections.abc import Sequence

from pipelines import console
from pipelines.launch import launch


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: launch("train", __doc__, arguments, "train"))


if __name__ == "__main__":
    sys.exit(main())

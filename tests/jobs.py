"""Every job that is a Beam graph: tests of all runners go through these, and a new job joins them by being listed."""

from collections.abc import Callable, Sequence
from typing import Final

from pipelines import add, build, embed, merge, reindex, train

JOBS: Final[dict[str, Callable[[Sequence[str]], int]]] = {
    "build": build.main,
    "embed": embed.main,
    "train": train.main,
    "add": add.main,
    "merge": merge.main,
    "reindex": reindex.main,
}
"""In the order of their stages, `build` before all, and `reindex`, which goes on from a build, at the end."""

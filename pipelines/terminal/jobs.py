"""The jobs that are Beam graphs, with the options of each: what templates and tests of all jobs go through."""

from typing import Final

from pipelines.terminal import options
from pipelines.terminal.flags import Group

OPTIONS: Final[dict[str, tuple[Group, ...]]] = {
    **dict.fromkeys(("build", "embed", "train", "add", "merge"), options.BUILD),
    "reindex": options.REINDEX,
}

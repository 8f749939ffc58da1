"""The way from the words of a job to its graph: Beam, whose import takes seconds, comes in once the words are read."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.terminal import command_line, options

if TYPE_CHECKING:
    from transforms.runs.run import Stage


def start(job: str, manual: str | None, argv: Sequence[str], last: "Stage") -> int:
    """Reads the words of `build`, or of the job for one of its stages, and runs it.

    Args:
        job: name of the command.
        manual: what its `--help` prints.
        argv: the words after it.
        last: the stage to end with.

    Returns:
        The exit code of success; everything else is an error that says what to do.
    """
    line = command_line.read(job, manual, argv, options.BUILD)
    from pipelines.running.build import build  # noqa: PLC0415 - imports Beam, and --help needs none

    return build(line, last)

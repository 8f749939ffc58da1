"""The way from the words of a job to its graph: Beam, whose import takes seconds, comes in once the words are read."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.terminal import command_line, options
from pipelines.terminal.command_line import CommandLine
from pipelines.terminal.flags import Group

if TYPE_CHECKING:
    from transforms.runs.run import Stage


def read(job: str, manual: str | None, argv: Sequence[str], groups: Sequence[Group]) -> CommandLine:
    """Reads the words of a command that runs a graph; or prints its options, those of Beam among them, and ends.

    Args:
        job, manual, argv, groups: as of `command_line.read`.

    Raises:
        UsageError: a value that cannot be; of options that are printed, also a flag that not even Beam has.
    """
    line = command_line.read(job, manual, argv, groups)
    if line.prints_config:
        if line.others:
            from pipelines.running import beam_options  # noqa: PLC0415 - imports Beam, and only these words need it

            beam_options.of(line)
        line.show_config()
    return line


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
    line = read(job, manual, argv, options.BUILD)
    from pipelines.running.build import build  # noqa: PLC0415 - imports Beam, and --help needs none

    return build(line, last)

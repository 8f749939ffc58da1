"""Reads a pixdex command with the options of its own job, as the job would, and runs nothing."""

import importlib
import shlex
from collections.abc import Sequence

from pipelines.cli import COMMANDS
from pipelines.running import beam_options
from pipelines.running.request import sources_of
from pipelines.terminal import command_line
from pipelines.terminal.command_line import CommandLine
from pipelines.terminal.flags import Group
from pipelines.terminal.jobs import OPTIONS as JOBS
from transforms.errors import UsageError


def parsed(argv: Sequence[str]) -> CommandLine:
    """Returns what the job reads.

    Args:
        argv: the words of the command, `pixdex` first.

    Raises:
        UsageError: the job would refuse it.
    """
    program, command, *rest = argv
    if program != "pixdex" or command not in COMMANDS:
        raise UsageError(f"{shlex.join(argv)} is no command of pixdex: they are {', '.join(COMMANDS)}")
    line = command_line.read(command, "", rest, groups(command), takes_beam=command in JOBS)
    if command in JOBS:
        beam_options.of(line)
    elif line.others:
        line.refuse(line.others[0])
    if not line.options.root:
        raise UsageError(f"{shlex.join(argv)} names no --root")
    if hasattr(line.options, "images"):
        sources_of(line.options)
    return line


def groups(command: str) -> Sequence[Group]:
    """Returns the options of a command."""
    job = importlib.import_module(f"pipelines.{command.replace('-', '_')}")
    declared: Sequence[Group] = job.OPTIONS
    return declared

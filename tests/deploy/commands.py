"""Reads a pixdex command with the options of its own job, as the job would, and runs nothing."""

import importlib
import shlex
from argparse import Namespace
from collections.abc import Sequence
from typing import cast

from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.cli import COMMANDS
from pipelines.running import launch
from pipelines.terminal import options
from transforms.errors import UsageError


def parsed(argv: Sequence[str]) -> tuple[Namespace, list[str]]:
    """Returns the job's own options and the flags left for Beam.

    Args:
        argv: the words of the command, `pixdex` first.

    Raises:
        UsageError: the job would refuse it.
    """
    program, command, *rest = argv
    if program != "pixdex" or command not in COMMANDS:
        raise UsageError(f"{shlex.join(argv)} is no command of pixdex: they are {', '.join(COMMANDS)}")
    own, beam_flags = options.parse(command, "", rest, groups(command))
    if not own.root:
        raise UsageError(f"{shlex.join(argv)} names no --root")
    if hasattr(own, "images"):
        options.sources(own)
    return own, beam_flags


def groups(command: str) -> Sequence[type[PipelineOptions]]:
    """Returns the options of a job: its OPTIONS, those of a build, or the classes that it declares."""
    job = importlib.import_module(f"pipelines.{command.replace('-', '_')}")
    if hasattr(job, "OPTIONS"):
        return cast(Sequence[type[PipelineOptions]], job.OPTIONS)
    if getattr(job, "launch", None) is launch.launch:
        return launch.OPTIONS
    declared = [each for each in vars(job).values() if isinstance(each, type) and issubclass(each, PipelineOptions)]
    return [options.RootOptions, *declared]

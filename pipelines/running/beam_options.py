"""Beam's options of a command: its own flags as classes of Beam, and the flags that only Beam knows.

So each flag shows in Flink's and Dataflow's consoles, and Beam's own pass through. Every class is a direct subclass of
`PipelineOptions`, which is how Beam finds it, and none of its flags is required, since Beam would then refuse every
other pipeline of the process.
"""

import argparse
from collections.abc import Iterator, Sequence
from typing import Final

from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.terminal import flags, options
from pipelines.terminal.command_line import CommandLine, Parser
from pipelines.terminal.flags import Group


def _class_of(group: Group) -> type[PipelineOptions]:
    def add(cls: type[PipelineOptions], parser: argparse.ArgumentParser) -> None:
        group.add_to(parser)

    return type(
        group.name,
        (PipelineOptions,),
        {"__doc__": f"{group.title}.", "__module__": __name__, "_add_argparse_args": classmethod(add)},
    )


_SHOWN: Final = frozenset({"build", "embed", "train", "add", "merge", "reindex"})
"""Jobs whose flags are those of the classes, so that Beam's consoles show them."""

_KEPT_HERE: Final = (flags.METRICS_FILE.name,)
"""Flags of one value that only the launcher reads: with a password in one, no console is to show it."""

CLASSES: Final = tuple(_class_of(group) for group in options.BUILD)
"""They are known to Beam for as long as they are held here."""


def of(line: CommandLine) -> PipelineOptions:
    """Returns Beam's options of a command: the one place where they are parsed.

    Raises:
        UsageError: a flag that neither the job nor Beam has, with the nearest of the job's own.
    """
    unknown = _unknown_to_beam(line)
    if unknown:
        line.refuse(unknown[0])
    # Of another job Beam sees its own flags only: a class may have one of the same name with other values.
    words = _without_kept(line.words) if line.job in _SHOWN else line.others
    return PipelineOptions(list(words), save_main_session=False)


def _without_kept(words: Sequence[str]) -> Iterator[str]:
    """The words without those flags, each of which has its value behind it or behind a `=`."""
    left = iter(words)
    for word in left:
        if word in _KEPT_HERE:
            next(left, None)
        elif word.partition("=")[0] not in _KEPT_HERE:
            yield word


def _unknown_to_beam(line: CommandLine) -> list[str]:
    beam = Parser(allow_abbrev=False, add_help=False, prog=f"pixdex {line.job}")
    for group in PipelineOptions.__subclasses__():
        if group.__module__.startswith("apache_beam."):
            group._add_argparse_args(beam)  # type: ignore[arg-type]  # only its own class of parser is declared
    _, unknown = beam.parse_known_args(list(line.others))
    return unknown

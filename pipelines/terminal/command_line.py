"""Reads the words of a command: what its own flags say, and what is to be said of a flag that it does not have."""

import argparse
import difflib
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from pipelines.terminal import options
from pipelines.terminal.flags import Group
from transforms.errors import UsageError

_NEAR = 0.5


@dataclass(frozen=True)
class CommandLine:
    """A command that was read.

    Attributes:
        job: its name.
        words: all that stood behind it.
        options: values of its own flags.
        others: words that none of its flags takes; a flag of Beam may be among them.
        flags: its own flags, in every spelling.
    """

    job: str
    words: tuple[str, ...]
    options: Namespace
    others: tuple[str, ...]
    flags: tuple[str, ...]

    def refuse(self, word: str) -> NoReturn:
        """Refuses a word that nobody takes, with the nearest of the flags that the command has.

        Raises:
            UsageError: always.
        """
        flag = word.partition("=")[0]
        if not flag.startswith("-"):
            flags = "--images, --csv, --jsonl, --parquet, --tars, --urls, --vectors"
            hint = f": every source has its flag ({flags})" if "--images" in self.flags else ""
            raise UsageError(f"{flag!r} is not expected here{hint}")
        raise UsageError(f"unknown flag {flag}{self._guess(flag)}; see pixdex {self.job} --help")

    def _guess(self, flag: str) -> str:
        for job, groups in (("build", options.BUILD), ("reindex", options.REINDEX)):
            if job != self.job and _dashed(flag) in (each.name for group in groups for each in group.flags):
                return f", which is one of pixdex {job}"
        near = difflib.get_close_matches(_dashed(flag), sorted(set(map(_dashed, self.flags))), n=1, cutoff=_NEAR)
        return f", did you mean {near[0]}?" if near else ""


def _dashed(flag: str) -> str:
    return flag.replace("_", "-")


class _StoreOnce(argparse._StoreAction):
    """Refuses a second value of a flag, where argparse drops the first one without a word."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: Namespace, values: Any, option_string: str | None = None
    ) -> None:
        if option_string is not None and isinstance(parser, Parser):
            if self in parser.given:
                parser.error(f"{self.option_strings[0]} is given twice, and takes one value: leave one out")
            parser.given.append(self)
        super().__call__(parser, namespace, values, option_string)


class Parser(argparse.ArgumentParser):
    """Raises what it would print, and takes a flag of one value once; for one line."""

    def __init__(self, **settings: Any) -> None:
        """Takes what argparse does."""
        self.given: list[argparse.Action] = []
        super().__init__(**settings)
        for name in (None, "store"):
            self.register("action", name, _StoreOnce)

    def error(self, message: str) -> NoReturn:
        """Raises it, with where to read on."""
        raise UsageError(f"{message}; see {self.prog} --help")


def read(job: str, manual: str | None, argv: Sequence[str], groups: Sequence[Group]) -> CommandLine:
    """Reads a command that runs a pipeline: the words of others are Beam's, as `pipelines.running.beam_options` tells.

    Args:
        job: name of the command.
        manual: what `--help` prints before the options.
        argv: words after the name of the command.
        groups: the options of this job.

    Raises:
        UsageError: a value that cannot be, or two for a flag that takes one.
    """
    parser = Parser(
        prog=f"pixdex {job}",
        description=manual,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for group in groups:
        group.add_to(parser.add_argument_group(group.title))
    values, others = parser.parse_known_args(list(argv))
    return CommandLine(job, tuple(argv), values, tuple(others), tuple(parser._option_string_actions))


def parse(job: str, manual: str | None, argv: Sequence[str], groups: Sequence[Group]) -> Namespace:
    """Reads a command that runs no pipeline, and takes no flag but its own.

    Args:
        job, manual, argv, groups: as of `read`.

    Raises:
        UsageError: a flag that it does not have, with the nearest one that it has, or a value that cannot be.
    """
    line = read(job, manual, argv, groups)
    if line.others:
        line.refuse(line.others[0])
    return line.options

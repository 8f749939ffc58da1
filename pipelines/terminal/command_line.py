"""Reads the words of a command: what its own flags say, and what is to be said of a flag that it does not have."""

import argparse
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from pipelines.terminal import console, help_page, options
from pipelines.terminal.config import reader, writer
from pipelines.terminal.config.reader import Config
from pipelines.terminal.flags import Flag, Group, switch
from transforms.errors import UsageError
from transforms.nearest import guess

CONFIG: Final = Group(
    "ConfigOptions",
    "Options in a file",
    (
        Flag("--config", "FILE", "options as YAML, a key each, as image-column: image; flags given here go first"),
        switch("--print-config", "print the options in effect as such a file, and do nothing else"),
    ),
)
"""Of every command; what reads them hands on what they stand for, so that nobody else knows them."""


@dataclass(frozen=True)
class CommandLine:
    """A command that was read.

    Attributes:
        job: its name.
        words: all that stood behind it, and what a file of options adds.
        options: values of its own flags.
        others: words that none of its flags takes; a flag of Beam may be among them.
        flags: its own flags, in every spelling.
        groups: its own flags.
        given: values of the flags that were given, as they were written, by the name of the flag.
        places: file and line of words that stand in a file of options.
        prints_config: the options are to be printed, and nothing is to be done.
    """

    job: str
    words: tuple[str, ...]
    options: Namespace
    others: tuple[str, ...]
    flags: tuple[str, ...]
    groups: tuple[Group, ...] = ()
    given: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    prints_config: bool = False

    def show_config(self) -> NoReturn:
        """Prints the options in effect as a file that `--config` reads, and ends as `--help` does.

        Raises:
            SystemExit: always, of success.
            UsageError: a secret would stand in it.
        """
        console.show(writer.text_of(self.job, self.groups, self.given, self.others).rstrip())
        raise SystemExit(console.DONE)

    def refuse(self, word: str) -> NoReturn:
        """Refuses a word that nobody takes, with the nearest of the flags that the command has.

        Raises:
            UsageError: always.
        """
        flag = word.partition("=")[0]
        if word in self.places:
            key = flag.removeprefix("--")
            raise UsageError(f"{self.places[word]}: unknown option {key}: Beam has none of this name")
        if not flag.startswith("-"):
            flags = "--images, --csv, --jsonl, --parquet, --tars, --urls, --vectors"
            hint = f": every source has its flag ({flags})" if "--images" in self.flags else ""
            raise UsageError(f"{flag!r} is not expected here{hint}")
        raise UsageError(f"unknown flag {flag}{self._guess(flag)}; see pixdex {self.job} --help")

    def _guess(self, flag: str) -> str:
        for job, groups in (("build", options.BUILD), ("reindex", options.REINDEX)):
            if job != self.job and _dashed(flag) in (each.name for group in groups for each in group.flags):
                return f", which is one of pixdex {job}"
        return guess(_dashed(flag), sorted(set(map(_dashed, self.flags))))


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
    """Raises what it would print, takes a flag of one value once, and keeps values as they were written; for one line.

    Attributes:
        given: flags of one value that were given.
        written: values of all flags and bare words that were given, by the name of each.
    """

    def __init__(self, **settings: Any) -> None:
        """Takes what argparse does."""
        self.given: list[argparse.Action] = []
        self.written: dict[str, tuple[str, ...]] = {}
        super().__init__(**settings)
        for name in (None, "store"):
            self.register("action", name, _StoreOnce)

    def error(self, message: str) -> NoReturn:
        """Raises it, with where to read on."""
        raise UsageError(f"{message}; see {self.prog} --help")

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        values = super()._get_values(action, arg_strings)
        texts = tuple(word for word in arg_strings if word != "--")
        if action.option_strings or texts:
            name = action.option_strings[0] if action.option_strings else action.dest
            alone = (str(action.const),) if action.nargs == "?" and not texts else texts
            self.written[name] = (*self.written.get(name, ()), *alone)
        return values


def read(
    job: str, manual: str | None, argv: Sequence[str], groups: Sequence[Group], *, takes_beam: bool = True
) -> CommandLine:
    """Reads a command that runs a pipeline: the words of others are Beam's, as `pipelines.running.beam_options` tells.

    Args:
        job: name of the command.
        manual: what `--help` prints before the options.
        argv: words after the name of the command.
        groups: the options of this job.
        takes_beam: what a file of options says to Beam is among the words of others.

    Raises:
        UsageError: a value that cannot be, or two for a flag that takes one; with its line where it stands in a file.
    """
    before = Parser(prog=f"pixdex {job}", allow_abbrev=False, add_help=False)
    CONFIG.add_to(before)
    asked, words = before.parse_known_args(list(argv))
    parser = _parser(job, manual, groups)
    values, others = parser.parse_known_args(words)
    places: dict[str, str] = {}
    if asked.config is not None:
        file = reader.read(asked.config, job, reader.names_of(groups), known_elsewhere=_OF_BUILDS)
        words, places = _joined(file if takes_beam else Config(file.flags), words, parser.written, others)
        parser = _parser(job, manual, groups)
        values, others = parser.parse_known_args(words)
    return CommandLine(
        job,
        tuple(words),
        values,
        tuple(others),
        tuple(parser._option_string_actions),
        tuple(groups),
        _without_switches_that_are_off(parser.written, values, groups),
        places,
        asked.print_config,
    )


def parse(job: str, manual: str | None, argv: Sequence[str], groups: Sequence[Group]) -> Namespace:
    """Reads a command that runs no pipeline, and takes no flag but its own; or prints its options, and ends.

    Args:
        job, manual, argv, groups: as of `read`.

    Raises:
        UsageError: a flag that it does not have, with the nearest one that it has, or a value that cannot be.
    """
    line = read(job, manual, argv, groups, takes_beam=False)
    if line.others:
        line.refuse(line.others[0])
    if line.prints_config:
        line.show_config()
    return line.options


_OF_BUILDS: Final = frozenset(reader.names_of((*options.BUILD, *options.REINDEX)))
"""Flags that may stand above all sections of a file that other commands read, too."""


def _parser(job: str, manual: str | None, groups: Sequence[Group]) -> Parser:
    parser = _WithHelp(job, manual or "")
    for group in (*groups, CONFIG):
        group.add_to(parser.add_argument_group(group.title))
    return parser


class _WithHelp(Parser):
    """The parser of a command, with its page of help."""

    def __init__(self, job: str, manual: str) -> None:
        self.job = job
        self.manual = manual
        super().__init__(prog=f"pixdex {job}", formatter_class=help_page.Formatter, allow_abbrev=False)

    def format_help(self) -> str:
        """Returns what `--help` prints."""
        return help_page.page(self, self.job, self.manual)


def _without_switches_that_are_off(
    written: Mapping[str, tuple[str, ...]], values: Namespace, groups: Sequence[Group]
) -> dict[str, tuple[str, ...]]:
    switches = (flag for group in groups for flag in group.flags if flag.action == "store_true")
    off = {flag.name for flag in switches if not getattr(values, flag.dest)}
    return {name: texts for name, texts in written.items() if name not in off}


def _joined(
    file: Config, words: Sequence[str], written: Mapping[str, tuple[str, ...]], others: Sequence[str]
) -> tuple[list[str], dict[str, str]]:
    """The words of a command line with those of a file before them, where the command line says nothing else."""
    opposites = (f"--{name[5:]}" if name.startswith("--no-") else f"--no-{name[2:]}" for name in written)
    bare, flags, places = file.words(frozenset({*written, *opposites, *writer.beam_values(others)}))
    if any(word.startswith("-") for word in bare):
        return [*flags, *words, "--", *bare], places
    return [*bare, *flags, *words], places

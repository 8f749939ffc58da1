"""Flags that several commands have, each with one help, type and set of values; needs no Beam, which takes seconds."""

import argparse
import math
import re
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from pipelines.terminal import quantities
from transforms.records import Metric

METRICS: Final[tuple[Metric, ...]] = get_args(Metric)
DEFAULT_INDEX_MEMORY: Final = 16 << 30

MOST: Final = 1 << 40
"""Of anything that is counted by a flag."""

MOST_THREADS: Final = 1024


def size(text: str) -> int:
    """Reads bytes, for argparse."""
    value = quantities.bytes_of(text)
    if value is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not {quantities.A_SIZE}")
    return value


def positive(text: str) -> int:
    """Reads a whole number above 0, for argparse."""
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text[:20]) <= MOST:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number above 0")
    return int(text)


def threads(text: str) -> int:
    """Reads a number of threads, for argparse."""
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text) <= MOST_THREADS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0, up to {MOST_THREADS}")
    return int(text)


def integer(text: str) -> int:
    """Reads a whole number that 64 bits hold, for argparse."""
    try:
        value = int(text)
    except ValueError:
        value = 1 << 63
    if not -(1 << 63) <= value < 1 << 63:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number of 64 bits")
    return value


def whole(text: str) -> int:
    """Reads a whole number from 0 on, for argparse."""
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def seconds(text: str) -> float:
    """Reads a number of seconds above 0, up to a day, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0, up to 86400")
    return value


def rate(text: str) -> float:
    """Reads how often a second something may be, from once a day on, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 / 86_400 <= value <= MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number a second, from 0.0000116 (once a day) on")
    return value


def header(text: str) -> str:
    """Reads what can stand in a header of HTTP, for argparse."""
    if not text.strip() or not text.isascii() or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a text of printable ASCII")
    return text


def number(text: str) -> float:
    """Reads a finite number, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def ratio(text: str) -> float:
    """Reads a share from 0 to 1, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def share(text: str) -> float:
    """Reads a share above 0, up to 1, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0, up to 1")
    return value


def tail(text: str) -> tuple[float, float]:
    """Reads a recall and the share of queries that reach it, as `.9@95%`, for argparse."""
    recall, _, reached = text.partition("@")
    try:
        value = float(recall), float(reached.removesuffix("%")) / 100
    except ValueError:
        value = -1.0, -1.0
    if not (reached.endswith("%") and 0 < value[0] <= 1 and 0 < value[1] < 1):
        raise argparse.ArgumentTypeError(f"{text!r} is not a recall and a share of queries, as .9@95%")
    return value


def add(parser: argparse._ActionsContainer, flag: str, **kwargs: object) -> None:
    """Adds a flag under both spellings, `--index-key` and `--index_key`."""
    spellings = dict.fromkeys([flag, _with_underscores(flag)]) if flag.startswith("--") else [flag]
    parser.add_argument(*spellings, **kwargs)  # type: ignore[arg-type]  # argparse's own overloads are wider


def _with_underscores(flag: str) -> str:
    return "--" + flag.removeprefix("--").replace("-", "_")


@dataclass(frozen=True)
class Flag:
    """A flag of a command, or its bare words where the name begins with no dash; no flag is ever required.

    Attributes:
        name: with dashes, `--index-key`; it is read with underscores too.
        metavar: what stands for the value in the help; None: the choices, or the name.
        help: what it says, beginning with a small letter and ending without a stop.
        type: reads the value; raises `argparse.ArgumentTypeError`.
        choices: the values that there are, if not any.
        default: the value without the flag.
        action: `append` where the flag is repeated for a list, `store_true` where it has no value.
        nargs: `?` where the value may be left out, `*` for any number of words.
        const: the value of a flag whose value was left out.
        dashes_only: it is not read with underscores, since a flag of Beam is spelled so.
    """

    name: str
    metavar: str | None
    help: str
    type: Callable[[str], object] = str
    choices: tuple[str, ...] | None = None
    default: object = None
    action: Literal["store", "append", "store_true"] = "store"
    nargs: Literal["?", "*"] | None = None
    const: object = None
    dashes_only: bool = False

    @property
    def default_text(self) -> str | None:
        """The value without the flag as it would be written; None where there is none, or where the flag has no value.

        >>> Flag("--memory", "SIZE", "of a worker", size, default=16 << 30).default_text
        '16G'
        """
        if self.default is None or self.action == "store_true":
            return None
        if isinstance(self.default, str):
            return self.default
        if isinstance(self.default, int) and self.type is size:
            short = quantities.size_text(self.default)
            return short if size(short) == self.default else str(self.default)
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)

    @property
    def _help_with_default(self) -> str:
        text = self.default_text
        return self.help if not text or re.search(r"\bdefault\b", self.help) else f"{self.help} (default {text})"

    def add_to(self, parser: argparse._ActionsContainer) -> None:
        """Declares it to a parser of argparse, or of Beam, which is one."""
        if self.action == "store_true":
            self._add_switch_to(parser)
            return
        told: dict[str, object] = {"help": self._help_with_default, "default": self.default, "action": self.action}
        told |= {"type": self.type, "choices": self.choices, "metavar": self.metavar}
        if self.nargs is not None:
            told["nargs"] = self.nargs
        if self.const is not None:
            told["const"] = self.const
        if self.dashes_only:
            parser.add_argument(self.name, **told)  # type: ignore[arg-type]  # argparse's own overloads are wider
        else:
            add(parser, self.name, **told)

    @property
    def dest(self) -> str:
        """What its value is called among the options.

        >>> ROOT.dest, METRIC_TYPE.dest
        ('root', 'metric_type')
        """
        return self.name.lstrip("-").replace("-", "_")

    @property
    def opposite(self) -> str:
        """The flag that turns a switch off again.

        >>> switch("--json", "").opposite, switch("--no-report", "").opposite
        ('--no-json', '--report')
        """
        bare = self.name.removeprefix("--")
        return f"--{bare.removeprefix('no-')}" if bare.startswith("no-") else f"--no-{bare}"

    def _add_switch_to(self, parser: argparse._ActionsContainer) -> None:
        spellings = [self.name] if self.dashes_only else [self.name, _with_underscores(self.name)]
        if self.opposite not in parser._option_string_actions:  # --progress is a flag of its own
            spellings += self.opposite, _with_underscores(self.opposite)
        parser.add_argument(*dict.fromkeys(spellings), help=self.help, dest=self.dest, default=False, action=_Switch)


class _Switch(argparse.Action):
    """Is turned on by its name and off by the opposite, of which the last one counts; the help shows the name."""

    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **settings)
        self._names = frozenset((option_strings[0], _with_underscores(option_strings[0])))

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: Namespace, values: Any, option_string: str | None = None
    ) -> None:
        setattr(namespace, self.dest, option_string in self._names)


def switch(name: str, help: str, *, dashes_only: bool = False) -> Flag:
    """Returns a flag without a value, which is off unless given; its `opposite` turns off what a file turns on."""
    return Flag(name, None, help, default=False, action="store_true", dashes_only=dashes_only)


@dataclass(frozen=True)
class Group:
    """Flags that belong together.

    Attributes:
        name: what Beam calls them, in CamelCase.
        title: what they are about, for `--help`.
        flags: in the order in which the help shows them.
    """

    name: str
    title: str
    flags: tuple[Flag, ...]

    def add_to(self, parser: argparse._ActionsContainer) -> None:
        """Declares all of them."""
        for flag in self.flags:
            flag.add_to(parser)


ROOT: Final = Flag("--root", "ROOT", "folder or fsspec URL that holds everything a search needs")
INDEX_KEY: Final = Flag(
    "--index-key",
    "KEY",
    "auto, Flat, or a faiss factory string such as IVF1024,Flat or OPQ16_64,IVF1024,PQ16 (default auto)",
)
METRIC_TYPE: Final = Flag(
    "--metric-type", None, "inner product, squared L2, or L1 (Flat only); default ip", choices=METRICS
)
MAX_INDEX_MEMORY: Final = Flag("--max-index-memory", "SIZE", "the index auto chooses fits it (default 16G)", size)
CODE_SIZE: Final = Flag(
    "--code-size",
    "BYTES",
    "bytes a vector that auto compresses to (default: the most of 64, 32, 16, 8, 4 that fits)",
    positive,
)
REFINE_STORE: Final = Flag(
    "--refine-store",
    None,
    "vectors stored beside the index for exact scores: float16, a byte a component, or none (default f16); codes that "
    "are exact, and ready .npy files, need none",
    choices=("f16", "sq8", "none"),
)
PROGRESS: Final = (
    Flag(
        "--progress",
        None,
        "how progress is shown, on stderr: a bar, lines, a JSON object a line, or not at all (default: a bar on a "
        "terminal, lines elsewhere)",
        choices=("bar", "lines", "json", "none"),
    ),
    switch("--no-progress", "the same as --progress none"),
)
METRICS_FILE: Final = Flag(
    "--metrics",
    "FILE",
    "keep figures of the run in a text file for Prometheus, or at a Pushgateway (http://HOST:PORT)",
)
WORKER_MEMORY: Final = Flag(
    "--worker-memory",
    "SIZE",
    "memory of a worker: what cannot fit is refused before any work (default: this machine's; a plan refuses nothing)",
    size,
)

"""Flags that several commands have, each with one help, type and set of values; needs no Beam, which takes seconds."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, get_args

from pipelines.terminal import quantities
from transforms.records import Metric

METRICS: Final[tuple[Metric, ...]] = get_args(Metric)
DEFAULT_INDEX_MEMORY: Final = 16 << 30


def size(text: str) -> int:
    """Reads bytes, for argparse."""
    value = quantities.bytes_of(text)
    if value is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not {quantities.A_SIZE}")
    return value


def positive(text: str) -> int:
    """Reads a whole number above 0, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def whole(text: str) -> int:
    """Reads a whole number from 0 on, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def add(parser: argparse.ArgumentParser, flag: str, **kwargs: object) -> None:
    """Adds a flag under both spellings, `--index-key` and `--index_key`."""
    other = "--" + flag.removeprefix("--").replace("-", "_")
    spellings = dict.fromkeys([flag, other]) if flag.startswith("--") else [flag]
    parser.add_argument(*spellings, **kwargs)  # type: ignore[arg-type]  # argparse's own overloads are wider


@dataclass(frozen=True)
class Flag:
    """A flag with a value; commands choose its default, None unless they do."""

    name: str
    metavar: str
    help: str
    type: Callable[[str], object] = str
    choices: tuple[str, ...] | None = None

    def add_to(self, parser: argparse.ArgumentParser, default: object = None) -> None:
        """Declares it."""
        metavar = None if self.choices else self.metavar
        add(parser, self.name, metavar=metavar, help=self.help, type=self.type, choices=self.choices, default=default)


ROOT: Final = Flag("--root", "ROOT", "folder or fsspec URL that holds everything a search needs")
INDEX_KEY: Final = Flag(
    "--index-key",
    "KEY",
    "auto, Flat, or a faiss factory string such as IVF1024,Flat or OPQ16_64,IVF1024,PQ16 (default auto)",
)
METRIC_TYPE: Final = Flag(
    "--metric-type", "METRIC", "inner product, squared L2, or L1 (Flat only); default ip", choices=METRICS
)
MAX_INDEX_MEMORY: Final = Flag("--max-index-memory", "SIZE", "the index auto chooses fits it (default 16G)", size)
CODE_SIZE: Final = Flag(
    "--code-size",
    "BYTES",
    "bytes a vector that auto compresses to (default: the most of 64, 32, 16, 8, 4 that fits)",
    positive,
)
WORKER_MEMORY: Final = Flag(
    "--worker-memory",
    "SIZE",
    "memory of a worker: what cannot fit is refused before any work (default: this machine's; a plan refuses nothing)",
    size,
)

"""How much searches find, as far as somebody measured it: canaries, what was tuned, and an evaluation."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from transforms.errors import PixdexError, UsageError
from transforms.generations.manifest import Generation
from transforms.storage import layout
from transforms.storage.store import Store

FILE: Final = "evaluation.json"
"""What `pixdex evaluate --output` writes, and what a report keeps of it."""

_MOST_BYTES: Final = 64 << 20


@dataclass(frozen=True)
class Point:
    """What queries of a kind find at one setting (`pixdex evaluate`); None: it is no number."""

    modality: str
    nprobe: int
    shortlist: int
    default: bool
    queries: int
    codes: float
    recall: float | None
    ci95: tuple[float | None, float | None]
    robust90: float | None
    p5: float | None
    p50_ms: float
    p99_ms: float
    margin: float | None = None
    recall_of_queries: tuple[float, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A figure of judgements or labels, with its interval."""

    value: float | None
    ci95: tuple[float | None, float | None]
    count: int


@dataclass(frozen=True)
class Evaluation:
    """What `pixdex evaluate` measured of a generation."""

    generation: int
    queries: int
    k: int
    curve: tuple[Point, ...]
    ndcg: float | None = None
    map: float | None = None
    mrr: float | None = None
    accuracy: float | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """What was asked, each once."""
        return tuple(dict.fromkeys(point.modality for point in self.curve))

    def usual(self, kind: str) -> Point | None:
        """Returns what queries of a kind find as they go by default."""
        return next((point for point in self.curve if point.modality == kind and point.default), None)


@dataclass(frozen=True)
class Watched:
    """What the canary queries found when the index was trained: so many of them, which count from 500 on."""

    queries: int
    recall_trained: float


def evaluation_in(folder: Path, generation: Generation) -> bytes:
    """Returns the file that `pixdex evaluate --output FOLDER` wrote, which must be of this generation.

    Raises:
        UsageError: there is none, or it is none, or of another generation.
    """
    file = folder / FILE if folder.is_dir() else folder
    try:
        size = file.stat().st_size
        data = file.read_bytes() if size <= _MOST_BYTES else b""
    except OSError as error:
        raise UsageError(
            f"--evaluation {folder} cannot be read ({error.strerror or error}): name the folder of pixdex evaluate "
            "--output"
        ) from error
    try:
        found = decoded(data)
    except PixdexError as error:
        raise UsageError(f"--evaluation {file} is no evaluation ({error}): make one with pixdex evaluate") from error
    if found.generation != generation.generation:
        raise UsageError(
            f"--evaluation {file} is of generation {found.generation}, and the report of {generation.generation}: "
            f"evaluate again, or say --generation {found.generation}"
        )
    return data


def evaluation_of(store: Store, generation: Generation, given: bytes | None) -> Evaluation | None:
    """Returns the evaluation that a report of this generation is given, or that an earlier one was; None: none was.

    Raises:
        PixdexError: it is damaged.
    """
    if given is not None:
        return decoded(given)
    path = layout.report_evaluation(generation.generation)
    return decoded(store.read(path)) if store.exists(path) else None


def decoded(data: bytes) -> Evaluation:
    """Reads an evaluation; what this report does not show is passed over.

    Raises:
        PixdexError: it is none.
    """
    try:
        return msgspec.json.decode(data, type=Evaluation)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PixdexError(str(error)) from error


def watched_by(store: Store, generation: Generation) -> Watched | None:
    """Returns what the canaries of a generation found when it was trained; None: it has none.

    Raises:
        PixdexError: they are missing or damaged.
    """
    if generation.canaries is None:
        return None
    from transforms.index import canaries  # noqa: PLC0415 - most roots have too few rows for any

    watched: Any = canaries.load(store, generation.canaries)
    return Watched(len(canaries.countable(watched)), round(watched.recall_trained, 4))

"""Collects what a report says; a part that cannot be read is left out, with why, and the others are there."""

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from transforms.errors import PixdexError
from transforms.generations import manifest, published, tables
from transforms.generations.manifest import Generation
from transforms.index.trained import Training, read_training
from transforms.markers import Drift, RejectsFile
from transforms.report import described, evaluated, samples, timing
from transforms.report.evaluated import Evaluation, Watched
from transforms.report.lists import Lists, lists_of
from transforms.report.samples import Item, Samples
from transforms.report.timing import Timing
from transforms.report.words import bare, cut
from transforms.shards import files
from transforms.storage.store import Store

if TYPE_CHECKING:
    from transforms.report.thumbnails import Thumbnail

REJECTS_COUNTED: Final = 250_000
"""Whose reasons are counted, at most, and a file more: it takes about a second."""

_REJECT_FILES: Final = 4
_REJECTS_SHOWN: Final = 3
"""Of each stage and type."""

_KINDS_SHOWN: Final = 8
GENERATIONS: Final = 24
"""The newest of which the history tells."""

T = TypeVar("T")


@dataclass(frozen=True)
class Past:
    """A generation, as the history has it."""

    generation: int
    published: float
    items: int
    rejected: int
    vectors: int
    tombstones: int
    bytes: int
    trained: str
    drift: Drift | None


@dataclass(frozen=True)
class RejectKind:
    """Rejects of one stage and type: some of them, as key, URI and message."""

    stage: str
    type: str
    some: tuple[tuple[str, str, str], ...]


@dataclass
class Facts:
    """What a report says of a generation; what is None is not there, or could not be read.

    Attributes:
        said: as `pixdex inspect --json` has it.
        published, made: when the generation was published, and the report made, in seconds since the epoch.
        host: which made the report.
        rejects_counted: of how many rejects the reasons are, where these are not all.
        unread: what could not be read, and why.
    """

    root: str
    generation: Generation
    said: dict[str, Any]
    published: float
    made: float
    host: str
    rejects_counted: int | None = None
    containers: int | None = None
    unnamed: int | None = None
    hidden: int | None = None
    rejects: tuple[RejectKind, ...] = ()
    lists: Lists | None = None
    training: Training | None = None
    watched: Watched | None = None
    evaluation: Evaluation | None = None
    samples: Samples | None = None
    thumbnails: "dict[str, Thumbnail]" = field(default_factory=dict)
    timing: Timing | None = None
    history: tuple[Past, ...] = ()
    unread: list[tuple[str, str]] = field(default_factory=list)

    def part(self, name: str, read: Callable[[], T]) -> T | None:
        """Returns what is read, or None, and notes why."""
        try:
            return read()
        except Exception as error:  # noqa: BLE001 - a damaged file raises anything; the rest is as good without it
            why = str(error) if isinstance(error, PixdexError) else f"{type(error).__name__}: {error}"
            self.unread.append((name, cut(bare(why))))
            return None


def gather(
    store: Store,
    generation: Generation,
    took: Callable[[], Timing | None],
    *,
    evaluation: bytes | None = None,
    trust_uris: bool = False,
) -> Facts:
    """Collects all of it.

    Args:
        store: the root.
        generation: one of it.
        took: says what the run of it took.
        evaluation: what `pixdex evaluate` wrote; None: what is kept of an earlier report.
        trust_uris: as of a search.

    Cost: reads the tables of the generation, the sizes of its lists, the markers of its run, and samples (`samples_of`,
    `thumbnails_of`): at a million vectors some two seconds, most of which are searches and pictures.

    Raises:
        PixdexError: a table is missing or damaged: then there is nothing to be said.
    """
    counted = _counted(store, generation)
    said = described.describe(store, generation, [file.file for file in counted if file.file])
    at = timing.published_at(store, generation)
    facts = Facts(store.url, generation, said, at, time.time(), socket.gethostname())
    total = sum(file.rejected for file in counted)
    facts.rejects_counted = total if total < generation.totals.rejected else None
    listed = generation.tables
    facts.containers = facts.part("containers", lambda: len(tables.containers_of(store, generation)))
    facts.unnamed = facts.part("containers", lambda: tables.unnamed_of(store, listed.containers))
    facts.hidden = facts.part("hidden items", lambda: _hidden(store, generation))
    facts.rejects = facts.part("rejects", lambda: _rejects(store, counted)) or ()
    facts.lists = facts.part("list sizes", lambda: lists_of(store, generation)) if generation.totals.vectors else None
    facts.training = facts.part("training", lambda: read_training(store, generation.trained))
    facts.watched = facts.part("canaries", lambda: evaluated.watched_by(store, generation))
    facts.evaluation = facts.part("evaluation", lambda: evaluated.evaluation_of(store, generation, evaluation))
    facts.timing = facts.part("what the run took", took)
    facts.history = facts.part("history", lambda: _history(store, generation)) or ()
    facts.samples = facts.part("samples", lambda: samples.samples_of(store, generation, trust_uris=trust_uris))
    if facts.samples is not None and (pictures := _pictures(facts.samples)):
        from transforms.report.thumbnails import thumbnails_of  # noqa: PLC0415 - Pillow: most ready vectors have none

        facts.thumbnails = thumbnails_of(pictures, generation.request, trusted=trust_uris)
    return facts


def _counted(store: Store, generation: Generation) -> list[RejectsFile]:
    """The files of rejects that are read: as many as hold what is counted at most."""
    counted: list[RejectsFile] = []
    for file in tables.rejects_of(store, generation).values():
        if sum(one.rejected for one in counted) >= REJECTS_COUNTED:
            break
        counted.append(file)
    return counted


def _rejects(store: Store, counted: Sequence[RejectsFile]) -> tuple[RejectKind, ...]:
    """Some rejects of each stage and type, of the first files."""
    found: dict[tuple[str, str], list[tuple[str, str, str]]] = {}
    for file in [one.file for one in counted if one.file][:_REJECT_FILES]:
        table = files.read_rejects(store, file).select(["stage", "type", "key", "uri", "message"])
        for batch in table.to_batches(max_chunksize=4096):
            for row in batch.to_pylist():
                some = found.setdefault((row["stage"], row["type"]), [])
                if len(some) < _REJECTS_SHOWN:
                    some.append((row["key"], row["uri"], row["message"]))
    return tuple(RejectKind(*kind, tuple(some)) for kind, some in sorted(found.items())[:_KINDS_SHOWN])


def _hidden(store: Store, generation: Generation) -> int:
    from transforms.generations import hidden  # noqa: PLC0415 - few roots hide anything

    return 0 if generation.tables.hidden is None else len(set(hidden.read(store, generation)))


def _history(store: Store, generation: Generation) -> tuple[Past, ...]:
    """The generations up to this one that are still there and can be read."""
    past = []
    numbers = [number for number in published.numbers(store) if number <= generation.generation]
    for number in numbers[-GENERATIONS:]:
        try:
            one = generation if number == generation.generation else manifest.read(store, number)
        except PixdexError:
            continue
        totals = one.totals
        past.append(
            Past(
                generation=number,
                published=timing.published_at(store, one),
                items=totals.items,
                rejected=totals.rejected,
                vectors=totals.vectors,
                tombstones=totals.tombstones,
                bytes=one.index.bytes,
                trained=one.trained.fingerprint,
                drift=one.drift,
            )
        )
    return tuple(past)


def _pictures(looked: Samples) -> list[str]:
    """The URIs of the pictures that are shown."""
    items: list[Item] = []
    for answered in looked.answered:
        items += [answered.asked, *(item for item, _ in answered.found)]
    for pair in looked.nearest.pairs if looked.nearest else ():
        items += [pair.one, pair.other]
    return [item.uri for item in items if item.is_pictured]

"""The vectors of a part: read where they lie, or made of texts and pictures, and of which queries there are none."""

import json
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from transforms.batch.opened import Opened
from transforms.batch.plan import QUERY
from transforms.batch.request import Batch, Part, Unanswered
from transforms.errors import UsageError
from transforms.queries.answer import Wanted, prepared
from transforms.search.trace import Trace
from transforms.shards import ready_vectors
from transforms.storage import parquet_files
from transforms.storage.kept_arrays import checksum_of, is_kept, keep, kept

_NO_TEXT: Final = "it is empty (or a row of a CSV with another number of cells than the header)"

_NO_DIRECTION: Final = "its vector is not finite, too long, or has no direction"

_Why = dict[int, str]
"""Why queries have no vector, by their places in a part."""


@dataclass(frozen=True)
class PartVectors:
    """What a part is searched with.

    Attributes:
        vectors: float32 `(n, d)`.
        places: int64 `(n,)`, of their queries in the part, ascending.
        why: why the others have none, by their places.
    """

    vectors: NDArray[np.float32]
    places: NDArray[np.int64]
    why: _Why

    def unanswered(self, part: Part) -> Unanswered | None:
        """Returns which queries of the part have no vector; None: all have one."""
        why = self.why
        return Unanswered(len(why), part.first + min(why), why[min(why)]) if why else None


def vectors_of(batch: Batch, opened: Opened, number: int) -> PartVectors:
    """Returns the vectors of a part, as they were kept, or makes them.

    Raises:
        UsageError: the root cannot be asked so.
        PixdexError: it is damaged, or the queries have changed since they were planned.
    """
    if (there := kept(batch.work, _name(number), batch.part_digest(number))) is not None:
        why = {int(place): reason for place, reason in json.loads(str(there["why"])).items()}
        return PartVectors(there["vectors"], there["places"], why)
    vectors, places, why = _made(batch, opened, batch.plan.parts[number])
    prepared_vectors, left, cannot = _prepared(opened, vectors, batch.request.wanted)
    return PartVectors(prepared_vectors, places[left], why | {int(places[at]): one for at, one in cannot.items()})


def keep_vectors(batch: Batch, opened: Opened, number: int) -> None:
    """Makes and keeps the vectors of a part, unless that is done: what several tasks need is made once."""
    digest = batch.part_digest(number)
    if not is_kept(batch.work, _name(number), digest):
        made = vectors_of(batch, opened, number)
        keep(
            batch.work,
            _name(number),
            digest,
            {"vectors": made.vectors, "places": made.places, "why": np.array(json.dumps(made.why))},
        )


def vectors_checksum(batch: Batch, number: int) -> str | None:
    """Returns the checksum of the vectors of a part, which tells them from others; None: they are not kept."""
    return checksum_of(batch.work, _name(number), batch.part_digest(number))


def _name(number: int) -> str:
    return f"vectors/part-{number:08}"


def _prepared(
    opened: Opened, vectors: NDArray[np.float32], wanted: Wanted
) -> tuple[NDArray[np.float32], NDArray[np.int64], _Why]:
    """What is searched with, the places of what is left of the vectors, and why others cannot be searched with."""
    if not (wanted.minus or wanted.expand):
        return vectors, np.arange(len(vectors)), {}

    def prepare(some: NDArray[np.float32]) -> NDArray[np.float32]:
        return prepared(opened.searcher, opened.encoder, some, wanted, Trace(is_full=False))

    try:
        return prepare(vectors), np.arange(len(vectors)), {}
    except UsageError as error:
        if len(vectors) < 2:
            return vectors[:0], np.empty(0, np.int64), dict.fromkeys(range(len(vectors)), str(error))
    made: list[NDArray[np.float32]] = [vectors[:0]]
    why: _Why = {}
    for place in range(len(vectors)):  # one of them cannot be, which cancels out
        try:
            made.append(prepare(vectors[place : place + 1]))
        except UsageError as error:
            why[place] = str(error)
    return np.concatenate(made), np.array([place for place in range(len(vectors)) if place not in why], np.int64), why


def _made(batch: Batch, opened: Opened, part: Part) -> tuple[NDArray[np.float32], NDArray[np.int64], _Why]:
    """The vectors of a part, float32 `(n, d)`, the places of their queries in it, and why others have none."""
    generation = opened.searcher.generation
    dim = generation.trained.dim
    if part.vectors is not None:
        pieces = [np.asarray(piece, np.float32) for piece in ready_vectors.pieces(part.vectors, dim)]
        vectors = np.concatenate([np.empty((0, dim), np.float32), *pieces])
        _, sound = ready_vectors.soundness(vectors, normalize=generation.request.encoder.normalize)
        why = dict.fromkeys(np.flatnonzero(~sound).tolist(), _NO_DIRECTION)
        return vectors[sound], np.flatnonzero(sound), why
    assert part.texts is not None
    texts: list[str | None] = parquet_files.read(batch.work, part.texts)[QUERY].to_pylist()
    why = {place: _NO_TEXT for place, text in enumerate(texts) if text is None or not text.strip()}
    there = [place for place in range(len(texts)) if place not in why]
    asked = [text for text in texts if text is not None and text.strip()]
    if batch.request.queries.are_pictures:
        vectors, failures = opened.encoder.each_picture(asked)
        why |= {there[place]: f"{asked[place]}: {one.type}, {one.message}" for place, one in failures.items()}
        there = [place for place in there if place not in why]
    else:
        vectors = opened.encoder.texts(asked) if asked else np.empty((0, dim), np.float32)
    _, sound = ready_vectors.soundness(vectors, normalize=generation.request.encoder.normalize)
    why |= {there[place]: _NO_DIRECTION for place in np.flatnonzero(~sound).tolist()}
    return vectors[sound], np.array(there, np.int64)[sound], why

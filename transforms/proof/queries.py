"""Queries that a root is asked as a proof: those of a file, its own captions, or rows of it, each left out of its own
results.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from transforms.batch.plan import looked_at, texts_of
from transforms.batch.request import Queries
from transforms.errors import UsageError
from transforms.index.exact import NO_ROW
from transforms.proof.request import Asked, QuerySet
from transforms.queries.encode import QueryEncoder
from transforms.ready_range import VectorRange
from transforms.records import MODALITIES, Modality
from transforms.search.searcher import Searcher
from transforms.shards import ready_vectors
from transforms.storage import uris

MOST: Final = 100_000
"""Queries of a file: their vectors are in memory, and travel to every worker."""


@dataclass(frozen=True, eq=False)
class Named:
    """Queries of a file.

    Attributes:
        queries: their vectors.
        names: of each: its text, its picture as the file names it, or its number in the file; judgements call it so.
        left_out: those of the file that have no vector.
    """

    queries: QuerySet
    names: tuple[str, ...]
    left_out: int


def of_file(
    searcher: Searcher, encoder: QueryEncoder, file: Queries, modality: Modality | None, most: int = MOST
) -> Named:
    """Reads or encodes the queries of a file; those that have no vector are left out.

    Raises:
        UsageError: it cannot be read, holds more than `most`, or nothing that can be searched with.
    """
    dim = searcher.generation.trained.dim
    count = looked_at(file, dim)
    if count is not None and count > most:
        raise _too_many(file.uri, most)
    if file.are_vectors:
        vectors = _vectors_of(file, dim, count or 0)
        places: list[int] = list(range(len(vectors)))
        names = [str(place) for place in places]
    else:
        texts = _first(texts_of(replace(file, are_pictures=False)), most, file.uri)
        places = [place for place, text in enumerate(texts) if text is not None and text.strip()]
        asked = [texts[place] or "" for place in places]
        if file.are_pictures:
            vectors, failures = encoder.each_picture([uris.join(file.uri, cell.strip()) for cell in asked])
            places = [place for number, place in enumerate(places) if number not in failures]
        else:
            vectors = encoder.texts(asked)
        names = [texts[place] or "" for place in places]
    total = len(vectors) if file.are_vectors else len(texts)
    _, sound = ready_vectors.soundness(vectors, normalize=searcher.generation.request.encoder.normalize)
    if not sound.any():
        raise UsageError(f"--queries {file.uri} holds nothing that can be searched with: name another file")
    kept = np.flatnonzero(sound)
    name = "vector" if file.are_vectors else "image" if file.are_pictures else "text"
    made = QuerySet(Asked(name, modality), searcher.checked(vectors[kept]), np.full(len(kept), NO_ROW))
    return Named(made, tuple(names[place] for place in kept.tolist()), total - len(kept))


def of_texts(searcher: Searcher, encoder: QueryEncoder, texts: Sequence[str], modality: Modality | None) -> Named:
    """Encodes texts as queries, each once.

    Raises:
        UsageError: the root has no encoder, or it takes no texts.
    """
    names = tuple(dict.fromkeys(text for text in texts if text.strip()))
    vectors = searcher.checked(encoder.texts(names))
    return Named(QuerySet(Asked("text", modality), vectors, np.full(len(names), NO_ROW)), names, 0)


def of_root(searcher: Searcher, count: int, seed: int, *, tuning: bool = False) -> list[QuerySet]:
    """Draws queries from a root: its pictures, for pictures, and its texts, for pictures where there are any.

    Twice as many rows are drawn as are wanted; one half is to tune on, the other to report, so that no query does both.

    Args:
        searcher: the generation.
        count: of each kind, or half of what there is.
        seed: of what is drawn.
        tuning: returns those to tune on.

    Raises:
        UsageError: there are not two rows of a kind.
    """
    has_pictures = searcher.count("image") > 0
    sets = []
    for kind in MODALITIES[:2] if has_pictures or searcher.count("text") else MODALITIES[2:]:
        drawn = searcher.rows_of(kind).draw(2 * count, seed)
        ids = np.sort(np.random.default_rng(seed).permutation(drawn)[int(tuning) :: 2][:count])
        if len(drawn) > 1:  # a row alone has no other to find, and no half
            target: Modality = "image" if has_pictures else kind
            vectors = searcher.checked(searcher.stored.all(ids))
            sets.append(QuerySet(Asked(kind, target), vectors, ids))
    if not sets:
        raise UsageError(f"{searcher.store.url} holds too few rows to be asked about: give --queries FILE")
    return sets


def held_out(searcher: Searcher, column: str, modality: Modality | None, count: int, seed: int) -> QuerySet:
    """Draws rows that have something in a column, for a proof in which no query may find any of them.

    A fifth of these rows at most, so that most are left to be found.

    Raises:
        UsageError: no row has such a column, or fewer than five have something in it.
    """
    quoted = '"' + column.replace('"', '""') + '"'
    where = f"{quoted} IS NOT NULL AND CAST({quoted} AS VARCHAR) <> ''"
    labelled = searcher.rows_of(modality, where)
    ids = labelled.draw(min(count, labelled.count // 5), seed)
    if not len(ids):
        raise UsageError(
            f"--label-column {column}: {labelled.count} rows have something in it; five are the least: see the columns "
            "that there are with pixdex search --json"
        )
    vectors = searcher.checked(searcher.stored.all(ids))
    return QuerySet(Asked("label", modality, where, are_held_out=True), vectors, ids)


def _vectors_of(file: Queries, dim: int, count: int) -> NDArray[np.float32]:
    place = VectorRange(
        file.uri, "npy" if file.kind == "npy" else "parquet", 0, count, file.version, column=file.column
    )
    pieces = [np.asarray(piece, np.float32) for piece in ready_vectors.pieces(place, dim)]
    return np.concatenate([np.empty((0, dim), np.float32), *pieces])


def _first(texts: Iterator[str | None], most: int, uri: str) -> list[str | None]:
    first = list(itertools.islice(texts, most + 1))
    if len(first) > most:
        raise _too_many(uri, most)
    return first


def _too_many(uri: str, most: int) -> UsageError:
    return UsageError(f"--queries {uri} holds more than {most} queries: a few thousand tell enough; give fewer")

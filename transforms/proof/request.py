"""What is asked of a proof, as records; and the folder in which it is done."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from transforms.batch.request import REQUEST, request_in
from transforms.digests import digest
from transforms.errors import PixdexError
from transforms.records import STORED_VERSION, Modality
from transforms.storage import kept_arrays
from transforms.storage.store import Store

_QUERIES: Final = "asked/queries"


@dataclass(frozen=True)
class Asked:
    """Queries of one kind.

    Attributes:
        name: what they are: `image`, `text`, `keyword`, or `vector` of ready ones; `label` of held-out rows.
        modality: of the rows that may be found; None: any.
        where: a condition that these rows satisfy, in SQL; None: all do.
        are_held_out: the rows that these queries are may not be found by any of them.
    """

    name: str
    modality: Modality | None
    where: str | None = None
    are_held_out: bool = False


@dataclass(frozen=True, eq=False)
class QuerySet:
    """The same with their vectors.

    Attributes:
        vectors: float32 `(q, d)`, as they are searched with.
        own: int64 `(q,)`, the row that each of them is; -1: none.
    """

    asked: Asked
    vectors: NDArray[np.float32]
    own: NDArray[np.int64]


@dataclass(frozen=True)
class ProofRequest:
    """Of which queries exact neighbours are wanted.

    Attributes:
        root: absolute URL.
        generation: the number.
        seal: the sha256 of its manifest.
        near: neighbours of each query.
        sets: the queries, whose vectors lie beside.
        content: the digest of those vectors.
    """

    root: str
    generation: int
    seal: str
    near: int
    sets: tuple[Asked, ...]
    content: str
    format_version: int = STORED_VERSION

    @property
    def digest(self) -> str:
        """Tells this request from all others."""
        return digest(self)


@dataclass(frozen=True)
class Proof:
    """A proof on its way.

    Attributes:
        work: the folder of it, which every worker reaches.
        trust_uris: ready embeddings of the root may lie at private addresses.
        threads: of a worker; None: as many as there are cores.
    """

    work: Store
    trust_uris: bool = False
    threads: int | None = None

    def __getstate__(self) -> dict[str, object]:
        """What has been read does not travel to workers."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @cached_property
    def request(self) -> ProofRequest:
        """What is asked.

        Raises:
            PixdexError: a worker sees another folder than the launcher.
        """
        return request_in(self.work, ProofRequest, "a --work")

    @cached_property
    def sets(self) -> tuple[QuerySet, ...]:
        """The queries."""
        arrays = kept_arrays.kept(self.work, _QUERIES, self.request.digest)
        if arrays is None:
            raise PixdexError(f"{self.work.url} has no queries: run the same command again")
        return tuple(
            QuerySet(asked, arrays[f"vectors-{place}"], arrays[f"own-{place}"])
            for place, asked in enumerate(self.request.sets)
        )

    def begin(self, request: ProofRequest, sets: tuple[QuerySet, ...]) -> None:
        """Commits the request and its queries, or adopts those that are there."""
        self.work.commit(REQUEST, request)
        arrays: dict[str, NDArray[Any]] = {f"vectors-{place}": one.vectors for place, one in enumerate(sets)}
        arrays |= {f"own-{place}": one.own for place, one in enumerate(sets)}
        if not kept_arrays.is_kept(self.work, _QUERIES, request.digest):
            kept_arrays.keep(self.work, _QUERIES, request.digest, arrays)


def content_of(sets: tuple[QuerySet, ...]) -> str:
    """Returns the digest of the vectors of queries, and of the rows that they are."""
    return digest(*(part for one in sets for part in (one.vectors.shape, one.vectors.tobytes(), one.own.tobytes())))

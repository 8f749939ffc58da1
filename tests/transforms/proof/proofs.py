"""Proofs without Beam: what their tasks do, one after the other."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.roots import Row, unit
from transforms.generations.published import open_generation
from transforms.proof import exact
from transforms.proof.exact import Neighbours
from transforms.proof.request import Asked, Proof, ProofRequest, QuerySet, content_of
from transforms.records import Modality
from transforms.storage.store import Store


def begun(store: Store, work: Path, *sets: QuerySet, near: int = 100) -> Proof:
    """Begins a proof of the current generation."""
    number = open_generation(store).generation
    request = ProofRequest(store.url, number, "seal", near, tuple(one.asked for one in sets), content_of(sets))
    proof = Proof(Store.at(str(work)))
    proof.begin(request, sets)
    return proof


def proved(store: Store, work: Path, *sets: QuerySet, near: int = 100) -> list[Neighbours]:
    """Finds the exact neighbours of each set."""
    proof = begun(store, work, *sets, near=near)
    for number in range(exact.tasks(proof)):
        exact.find(proof, number)
    exact.join(proof)
    found = exact.neighbours(proof)
    assert found is not None
    return found


def vectors_asked(vectors: NDArray[np.float32], modality: Modality | None = None) -> QuerySet:
    """Vectors that are no rows."""
    return QuerySet(Asked("vector", modality), vectors, np.full(len(vectors), -1))


def directions(count: int, modality: Modality = "image", start: float = 0, name: str = "k") -> list[Row]:
    """Rows that lie 3 degrees apart."""
    return [Row(f"{name}{number}", unit(start + 3 * number), modality) for number in range(count)]

"""The root that another one is made of: opened, and held against what the run was begun with."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transforms.derivation import Derivation
from transforms.errors import PixdexError
from transforms.generations import published
from transforms.generations.manifest import Generation
from transforms.records import MODALITIES, Request
from transforms.search.searcher import Searcher
from transforms.search.slices import Whole
from transforms.storage.store import Store


@dataclass(frozen=True)
class Origin:
    """The root that rows are taken of.

    Attributes:
        store: the root.
        generation: the one that the run was begun with.
        searcher: over it; lists are opened when it first scans them. What is dead or hidden, it does not find.
        derivation: what is made of it.
        threads: of the mathematics of a task, from the request: another number may change last bits.
        seed: of what is drawn.
    """

    store: Store
    generation: Generation
    searcher: Searcher
    derivation: Derivation
    threads: int
    seed: int

    def kinds(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns of rows their places in `MODALITIES`, int64 `(n,)`; -1 of one that is dead or hidden."""
        kinds = np.full(len(ids), -1, np.int64)
        for place, modality in enumerate(MODALITIES):
            if self.searcher.count(modality):
                kinds[self.searcher.rows_of(modality).has(ids)] = place
        return kinds


def open_origin(request: Request) -> Origin:
    """Opens the root that a request is made of.

    What its ready embeddings are read from is taken as trusted: the launcher has refused what is not, before it
    committed the request.

    Raises:
        PixdexError: it is damaged, or the generation is gone, or was made anew.
    """
    derivation = request.derivation
    assert derivation is not None
    store = Store.at(request.sources[0].pattern)
    there = derivation.generation in published.numbers(store)
    generation = published.open_generation(store, derivation.generation) if there else None
    if generation is None or generation.checksum != derivation.seal:
        raise PixdexError(
            f"{store.url}: generation {derivation.generation}, of which this run makes another root, is "
            f"{'gone' if generation is None else 'not the one that it was begun with'}: start again with --abandon-plan"
        )
    searcher = Searcher(store, generation, trust_uris=True, index=Whole(store, generation))
    return Origin(store, generation, searcher, derivation, request.encoder.threads, request.seed)

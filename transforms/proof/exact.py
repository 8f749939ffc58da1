"""Exact neighbours as a job: of some shards the rows nearest to every query, and of all shards the nearest of these."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from transforms.digests import digest
from transforms.generations import tables
from transforms.generations.published import open_generation
from transforms.index.exact import ExactNeighbours
from transforms.proof.request import Proof, QuerySet
from transforms.search.searcher import Searcher
from transforms.search.selection import Selection
from transforms.search.slices import Whole
from transforms.shards.vectors import read_batches
from transforms.storage.kept_arrays import is_kept, keep, kept
from transforms.storage.store import Store

Neighbours = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Ids and distances, lower is nearer, of exact neighbours of queries, `(q, near)` both: nearest first, ties by id."""

SHARDS_A_TASK: Final = 4
_LEAST_TASKS, _MOST_TASKS = 16, 1024

_JOINED: Final = "joined/neighbours"


def tasks(proof: Proof) -> int:
    """Returns into how many tasks the shards are cut: of 262,144 rows each, where there are enough and not too many."""
    return len(_groups(proof))


def find(proof: Proof, number: int) -> None:
    """Finds and keeps the neighbours of all queries among the rows of one task, unless that is done.

    Cost: reads the vectors of the shards once, one product for each row and query. Memory: a bit for each id of the
    generation and kind of query; queries, and 12 bytes for each neighbour.

    Raises:
        PixdexError: a shard is missing or damaged.
    """
    if is_kept(proof.work, _name(number), _digest(proof, number)):
        return
    request = proof.request
    store = Store.at(request.root)
    generation = open_generation(store, request.generation)
    searcher = Searcher(store, generation, trust_uris=proof.trust_uris, index=Whole(store, generation))
    sets, metric = proof.sets, generation.trained.metric
    allowed = [searcher.rows_of(one.asked.modality, one.asked.where) for one in sets]
    exact = [ExactNeighbours(one.vectors, request.near, metric, one.own) for one in sets]
    shards = {shard.shard: shard for shard in tables.shards_of(store, generation)}

    def wanted(ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.asarray(np.logical_or.reduce([rows.has(ids) for rows in allowed]), np.bool_)

    with threadpool_limits(proof.threads):
        for shard in _groups(proof)[number]:
            for batch in read_batches(store, shards[shard], generation.request.encoder, wanted):
                for one, rows, neighbours in zip(sets, allowed, exact, strict=True):
                    mine = _mine(batch.ids, one, rows)
                    if mine.any():
                        whole = mine.all()
                        neighbours.add(
                            batch.ids if whole else batch.ids[mine], batch.vectors if whole else batch.vectors[mine]
                        )
    keep(proof.work, _name(number), _digest(proof, number), _arrays(exact))


def join(proof: Proof) -> None:
    """Keeps the nearest of what all tasks found, unless that is done. Memory: what two of them found."""
    if is_kept(proof.work, _JOINED, proof.request.digest):
        return
    metric = open_generation(Store.at(proof.request.root), proof.request.generation).trained.metric
    exact = [ExactNeighbours(one.vectors, proof.request.near, metric, one.own) for one in proof.sets]
    for number in range(tasks(proof)):
        found = kept(proof.work, _name(number), _digest(proof, number))
        if found is None:
            find(proof, number)  # its file is gone
            found = kept(proof.work, _name(number), _digest(proof, number)) or {}
        for place, one in enumerate(exact):
            one.join(found[f"ids-{place}"], found[f"distances-{place}"])
    keep(proof.work, _JOINED, proof.request.digest, _arrays(exact))


def neighbours(proof: Proof) -> list[Neighbours] | None:
    """Returns ids and distances of the exact neighbours of each set of queries, `(q, near)`; None: not found yet."""
    found = kept(proof.work, _JOINED, proof.request.digest)
    if found is None:
        return None
    return [(found[f"ids-{place}"], found[f"distances-{place}"]) for place in range(len(proof.request.sets))]


def done(proof: Proof) -> int:
    """Returns how many tasks are done."""
    return sum(name.endswith(".json") for name in proof.work.names("found"))


def _mine(ids: NDArray[np.int64], one: QuerySet, rows: Selection) -> NDArray[np.bool_]:
    mine = rows.has(ids)
    return mine & ~np.isin(ids, one.own) if one.asked.are_held_out else mine


def _groups(proof: Proof) -> list[Sequence[int]]:
    store = Store.at(proof.request.root)
    numbers = [one.shard for one in tables.shards_of(store, open_generation(store, proof.request.generation))]
    size = max(1, min(SHARDS_A_TASK, len(numbers) // _LEAST_TASKS), -(-len(numbers) // _MOST_TASKS))
    return [numbers[first : first + size] for first in range(0, len(numbers), size)]


def _arrays(exact: Sequence[ExactNeighbours]) -> dict[str, NDArray[np.generic]]:
    ids = {f"ids-{place}": one.ids for place, one in enumerate(exact)}
    return ids | {f"distances-{place}": one.distances for place, one in enumerate(exact)}


def _name(number: int) -> str:
    return f"found/task-{number:08}"


def _digest(proof: Proof, number: int) -> str:
    return digest(proof.request, number)

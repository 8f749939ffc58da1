"""The tasks of training, but for those of the lists (`transforms.tasks.train_lists`): sample, parents, routes, index.

Each reads what it needs from the store, gives the same bytes in any order, and is left alone once it has its marker.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from transforms.digests import digest
from transforms.errors import PixdexError
from transforms.index import canaries
from transforms.index.index_key import IndexKey
from transforms.index.lists.writer import write_lists_file
from transforms.index.open_trained import open_trained
from transforms.index.training import assemble, routing, sampling, save
from transforms.index.training.figures import CANARY_ROWS, Shares, sample_shares
from transforms.index.training.passes import Moved
from transforms.index.training.routing import Router
from transforms.index.training.sampling import HELD_OUT_PART, PILOT_PART, REST_PART
from transforms.markers import ListsMarker, TrainedIndex, TrainMarker
from transforms.records import Block, FileReference
from transforms.runs import inventory
from transforms.runs.run import Run
from transforms.shards.vectors import VectorBatch
from transforms.storage import layout
from transforms.tasks.training_files import TensorsMarker, files_of, key_of, read_tensors, upload_tensors

_PILOT: Final = range(PILOT_PART, PILOT_PART + 1)
_HELD_OUT: Final = range(HELD_OUT_PART, HELD_OUT_PART + 1)

_WAY: Final = "heads, lists near lists, large lists divided"
"""How lists are trained: a run that was begun in another way, or for another key, is not gone on with."""


@dataclass(frozen=True)
class SampleTask:
    """A block of which a share of the rows is sampled."""

    block: Block
    shares: Shares


def blocks_to_sample(run: Run) -> Iterator[SampleTask]:
    """Yields every block of a run that trains an index."""
    if inventory.retrains(run):
        shares = sample_shares(*key_of(run))
        yield from (SampleTask(block, shares) for block in inventory.blocks_to_add(run))


def sample_block(run: Run, task: SampleTask) -> None:
    """Makes and commits the sample of a block: a list file of its parts."""
    number, request = task.block.number, run.request
    members = inventory.shards_in(run, task.block)
    content = [(marker.shard, marker.embeddings, marker.ready) for marker in members.shards]
    task_digest = digest(request.seed, task.shares, content, members.rows)
    if run.marker("sample", number, ListsMarker, task_digest) is None:
        write = partial(
            sampling.write_sample,
            store=run.store,
            shards=members.shards,
            encoder=request.encoder,
            seed=request.seed,
            shares=task.shares,
            alive=members.alive,
        )
        folder, stem = layout.sample_folder(run.generation), layout.block_stem(number)
        rows, lists = write_lists_file(run.store, folder, stem, write)
        run.commit("sample", number, ListsMarker(number, task_digest, rows, lists))


def train_parents(run: Run) -> None:
    """Makes and commits the transforms and the parents, from the pilot of all samples.

    Raises:
        PixdexError: there is no vector.
    """
    request, workers = run.request, run.request.encoder.threads
    samples = files_of(run, "sample")
    key, rows = key_of(run)
    task_digest = _parents_digest(run, key, samples)
    if run.marker("parents", 0, TensorsMarker, task_digest) is None:
        ids, pilot = sampling.read_parts(run.store, samples, _PILOT, request.encoder.dim, workers)
        if not len(pilot):
            raise PixdexError(f"{run.store.url} has no vector to train an index on: every item was rejected")
        shares = sample_shares(key, rows)
        router = assemble.train_parents(
            key,
            request.index.metric,
            pilot,
            request.seed,
            workers,
            ids=ids,
            part=shares.pilot / shares.trained,
        )
        run.commit("parents", 0, TensorsMarker(0, task_digest, upload_tensors(run, "parents", router.tensors)))


def _parents_digest(run: Run, key: IndexKey, samples: Sequence[FileReference]) -> str:
    return digest(_WAY, str(key), run.request.index, run.request.seed, [file.checksum for file in samples])


def route_block(run: Run, block: int) -> None:
    """Makes and commits the sample of a block behind the transforms, as lists over the parents' cells."""
    request = run.request
    (parents,) = run.markers("parents", [0], TensorsMarker)
    (sample,) = run.markers("sample", [block], ListsMarker)
    task_digest = digest(parents.tensors.checksum, sample.lists.checksum)
    if run.marker("route", block, ListsMarker, task_digest) is None:
        router = Router.of(read_tensors(run, "parents"), spherical=request.index.metric == "ip")
        parts = [sampling.read_part(run.store, sample.lists, part) for part in (PILOT_PART, REST_PART)]
        half, workers = request.encoder.normalize, request.encoder.threads
        write = partial(routing.write_routed, router=router, parts=parts, half=half, workers=workers)
        folder, stem = layout.training_folder(run.generation), layout.group_stem("routed", block)
        rows, lists = write_lists_file(run.store, folder, stem, write)
        run.commit("route", block, ListsMarker(block, task_digest, rows, lists))


def assemble_index(run: Run) -> None:
    """Makes and commits the trained index, with the canary queries.

    Raises:
        PixdexError: what there is of the lists was trained in another way, or for another key.
    """
    settings, seed = run.request.index, run.request.seed
    (last,) = run.markers("move2", [0], TensorsMarker)
    task_digest = digest(last.tensors.checksum, last.digest)
    if run.marker("train", 0, TrainMarker, task_digest) is None:
        samples, encoder = files_of(run, "sample"), run.request.encoder
        key, count = key_of(run)
        run.marker("parents", 0, TensorsMarker, _parents_digest(run, key, samples))
        pilot_ids, pilot = sampling.read_parts(run.store, samples, _PILOT, encoder.dim, encoder.threads)
        held_out_ids, held_out = sampling.read_parts(run.store, samples, _HELD_OUT, encoder.dim, encoder.threads)
        router = Router.of(read_tensors(run, "parents"), spherical=settings.metric == "ip")
        lists = Moved.of(read_tensors(run, "move2"))
        assembled = assemble.assemble(router, lists.centroids, pilot, held_out, seed, encoder.threads)
        trained = save.save(
            run.store,
            assembled,
            lists,
            key,
            settings.metric,
            normalized=encoder.normalize,
            held_out=len(held_out),
            seed=seed,
        )
        # Thresholds of one hash: a smaller share of the rows is part of the pilot.
        share = min(sample_shares(key, count).pilot, CANARY_ROWS / max(count, 1))
        watched = sampling.in_sample(pilot_ids, seed, share)
        rows = VectorBatch(pilot_ids[watched], pilot[watched])
        queries = VectorBatch(held_out_ids, held_out) if len(held_out) else VectorBatch(pilot_ids, pilot)
        del assembled, lists, router, pilot  # what is opened next is as large once more
        run.commit("train", 0, TrainMarker(task_digest, trained, _canaries(run, trained, rows, queries, share)))


def take_over(run: Run) -> None:
    """The trained index of the base goes on being the one."""
    base = run.base
    assert base is not None
    task_digest = digest("base", base.trained.fingerprint)
    if run.marker("train", 0, TrainMarker, task_digest) is None:
        watch = base.canaries if inventory.is_idle(run) else run.drift.canaries
        run.commit("train", 0, TrainMarker(task_digest, base.trained, watch))


def _canaries(run: Run, trained: TrainedIndex, rows: VectorBatch, queries: VectorBatch, share: float) -> FileReference:
    """Makes and stores queries that later runs ask again.

    Args:
        run, trained: whose they are.
        rows: that they are answered with, a share of all.
        queries: that some are taken of: vectors that nothing was trained on, where there are any.
        share: of all rows, 0 to 1.
    """
    made = canaries.make(
        open_trained(run.store, trained),
        rows,
        queries,
        trained.metric,
        seed=run.request.seed,
        share=share,
        nprobe=trained.nprobe,
        workers=run.request.encoder.threads,
    )
    return canaries.save(run.store, trained.fingerprint, made)

"""The add stage: every block of shards becomes one shard index, lists only."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import apache_beam as beam
import numpy as np
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection
from apache_beam.utils.shared import Shared

from transforms.errors import PixdexError
from transforms.index.batches import batches_a_thread
from transforms.index.encode import Encoded, encode_batches
from transforms.index.lists.writer import write_lists
from transforms.index.open_trained import OpenTrained, open_trained
from transforms.index.threads import each_with_one_thread
from transforms.markers import ListsMarker, StageMarker
from transforms.records import Block, digest
from transforms.runs import inventory
from transforms.runs.inventory import BlockShards
from transforms.runs.run import Run
from transforms.shards.vectors import VectorBatch, read_batches
from transforms.stages.barrier import FinishStage
from transforms.storage import layout


@dataclass(eq=False)
class AddBlocks(beam.PTransform):
    """Assigns and encodes every block in parallel; the trained index is opened once a process and never copied.

    Cost: reads every shard once and writes its codes and ids. Memory of a worker is the trained index (its
    centroids are mapped where the root is a filesystem), the codes of one block and 32 bytes a row of it, and about
    200 MB of batches.
    """

    run: Run

    def expand(self, trained: PCollection[StageMarker]) -> PCollection[StageMarker]:
        """Takes the marker of the train stage."""
        return (
            trained
            | "BlocksToAdd" >> beam.ParDo(_BlocksToAdd(self.run))
            # Breaks the fusion with the one reader of the plan: blocks are added on all workers.
            | "SpreadBlocks" >> beam.Reshuffle()
            | "AddBlock" >> beam.ParDo(_AddBlock(self.run))
            | "AddDone" >> FinishStage(self.run, "add")
        )


class _BlocksToAdd(beam.DoFn):
    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, trained: StageMarker) -> Iterator[Block]:
        yield from inventory.blocks_to_add(self._run)


class _AddBlock(beam.DoFn):
    def __init__(self, run: Run) -> None:
        self._run = run
        self._shared = Shared()
        self._added = Metrics.counter("pixdex", "added_rows")

    def process(self, block: Block) -> Iterator[int]:
        run, trained = self._run, self._run.trained().trained
        found = inventory.shards_in(run, block)
        answered = digest(
            trained.fingerprint, [marker.ready or marker.embeddings for marker in found.shards], found.rows
        )
        if run.marker("add", block.number, ListsMarker, answered) is None:
            opened = self._shared.acquire(lambda: open_trained(run.store, trained), tag=trained.fingerprint)
            marker = add_block(run, block, found, opened, answered)
            self._added.inc(run.commit("add", block.number, marker).rows)
        yield block.number


def add_block(run: Run, block: Block, found: BlockShards, opened: OpenTrained, answered: str) -> ListsMarker:
    """Writes and uploads the shard index of a block's live rows. Returns its marker, which is not yet committed.

    Raises:
        PixdexError: a shard is missing or damaged, or has not the rows that its marker counts.
    """
    trained = run.trained().trained
    rows = found.rows
    entries = Encoded(
        np.empty(rows, np.int64),
        np.empty(rows, np.min_scalar_type(trained.nlist - 1)),
        np.empty((rows, trained.code_size), np.uint8),
    )
    first = 0
    for made in _encoded(run, found, opened):
        stop = first + len(made.ids)
        if stop <= rows:
            entries.ids[first:stop], entries.list_nos[first:stop] = made.ids, made.list_nos
            entries.codes[first:stop] = made.codes
        first = stop
    if first != rows:
        counted = ", ".join(str(marker.shard) for marker in found.shards)
        raise PixdexError(
            f"block {block.number} has not the {rows} rows that the markers of its shards ({counted}) count: "
            "put their files back, or build anew with --abandon-plan"
        )
    with run.store.scratch() as scratch:
        file = scratch / "block.ivf"
        with file.open("wb") as stream:
            seal = write_lists(
                stream,
                list_nos=entries.list_nos,
                codes=entries.codes,
                ids=entries.ids,
                nlist=trained.nlist,
                fingerprint=trained.fingerprint,
            )
        folder, stem = layout.lists_folder(trained.fingerprint), layout.block_stem(block.number)
        lists = run.store.upload(file, folder, stem, f"xxh3:{seal.checksum}")
    return ListsMarker(block.number, answered, rows, lists)


def _encoded(run: Run, found: BlockShards, opened: OpenTrained) -> Iterator[Encoded]:
    """Yields the entries of the shards' rows in order, made by all threads of the run, each on batches of its own."""
    workers = run.request.encoder.threads
    at_once = batches_a_thread(run.request.encoder.dim, workers)
    encoder, alive = run.request.encoder, found.alive
    batches = (batch for marker in found.shards for batch in read_batches(run.store, marker, encoder, alive))

    def encode(some: list[VectorBatch]) -> Encoded:
        return encode_batches(opened.index, some, opened.assign)

    waiting: deque[Future[Encoded]] = deque()
    # Closed here: an error keeps the frames that it came through, and they would keep the reading thread.
    with closing(batches), each_with_one_thread(workers) as pool:
        while some := list(islice(batches, at_once)):
            waiting.append(pool.submit(encode, some))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

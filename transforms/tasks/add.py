"""Adds one block: the live rows of its shards become one shard index, lists only."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from itertools import islice
from typing import BinaryIO

import numpy as np

from transforms.errors import PixdexError
from transforms.index.batches import batches_a_thread
from transforms.index.encode import Encoded, encode_batches
from transforms.index.lists.format import Seal
from transforms.index.lists.writer import write_lists, write_lists_file
from transforms.index.open_trained import OpenTrained
from transforms.index.threads import each_with_one_thread
from transforms.markers import ListsMarker
from transforms.records import Block, digest
from transforms.runs import inventory
from transforms.runs.inventory import BlockShards
from transforms.runs.run import Run
from transforms.shards.vectors import VectorBatch, read_batches
from transforms.storage import layout


def add_block(run: Run, block: Block, open_index: Callable[[], OpenTrained]) -> ListsMarker | None:
    """Makes and commits the shard index of a block; one that has its shard index is left alone, and None returned.

    `open_index` returns the trained index of the run; it is called only where a block is to be added.

    Raises:
        PixdexError: a shard is missing or damaged, or has not the rows that its marker counts.
    """
    members = inventory.shards_in(run, block)
    content = [marker.ready or marker.embeddings for marker in members.shards]
    task_digest = digest(run.trained().trained.fingerprint, content, members.rows)
    if run.marker("add", block.number, ListsMarker, task_digest) is not None:
        return None
    return run.commit("add", block.number, write_block(run, block, members, open_index(), task_digest))


def write_block(run: Run, block: Block, members: BlockShards, opened: OpenTrained, task_digest: str) -> ListsMarker:
    """Writes and uploads the shard index of a block's live rows. Returns its marker, which is not yet committed.

    Raises:
        PixdexError: a shard is missing or damaged, or has not the rows that its marker counts.
    """
    trained = run.trained().trained
    rows = members.rows
    entries = Encoded(
        np.empty(rows, np.int64),
        np.empty(rows, np.min_scalar_type(trained.nlist - 1)),
        np.empty((rows, trained.code_size), np.uint8),
    )
    first = 0
    for part in _encoded(run, members, opened):
        stop = first + len(part.ids)
        if stop <= rows:
            entries.ids[first:stop], entries.list_nos[first:stop] = part.ids, part.list_nos
            entries.codes[first:stop] = part.codes
        first = stop
    if first != rows:
        counted = ", ".join(str(marker.shard) for marker in members.shards)
        raise PixdexError(
            f"block {block.number} has not the {rows} rows that the markers of its shards ({counted}) count: "
            "put their files back, or build anew with --abandon-plan"
        )

    def write(out: BinaryIO) -> tuple[int, Seal]:
        return rows, write_lists(
            out,
            list_nos=entries.list_nos,
            codes=entries.codes,
            ids=entries.ids,
            nlist=trained.nlist,
            fingerprint=trained.fingerprint,
        )

    folder, stem = layout.lists_folder(trained.fingerprint), layout.block_stem(block.number)
    _, lists = write_lists_file(run.store, folder, stem, write)
    return ListsMarker(block.number, task_digest, rows, lists)


def _encoded(run: Run, members: BlockShards, opened: OpenTrained) -> Iterator[Encoded]:
    """Yields the entries of the shards' rows in order, made by all threads of the run, each on batches of its own."""
    workers = run.request.encoder.threads
    at_once = batches_a_thread(run.request.encoder.dim, workers)
    encoder, alive = run.request.encoder, members.alive
    batches = (batch for marker in members.shards for batch in read_batches(run.store, marker, encoder, alive))

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

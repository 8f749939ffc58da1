"""Adds one block: the live rows of its shards become one shard index, and beside it their vectors, where asked for."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, closing
from itertools import islice
from typing import BinaryIO, Final

import numpy as np

from transforms.digests import digest
from transforms.errors import PixdexError
from transforms.index.batches import batches_a_thread
from transforms.index.encode import Encoded, encode_batches
from transforms.index.lists.format import Seal
from transforms.index.lists.writer import write_lists, write_lists_file
from transforms.index.open_trained import OpenTrained, open_trained
from transforms.index.refine import stored_kind
from transforms.index.threads import each_with_one_thread
from transforms.markers import ListsMarker, ShardMarker
from transforms.records import ROW_BITS, ROWS_PER_SHARD, Block, FileReference
from transforms.runs import inventory
from transforms.runs.beacons import Told
from transforms.runs.inventory import BlockShards
from transforms.runs.run import Run
from transforms.shards.byte_vectors import ROUNDING
from transforms.shards.stored_vectors import GROUP_ROWS, Extent, Kind, Packed, VectorWriter, pack
from transforms.shards.vectors import VectorBatch, read_batches
from transforms.storage import layout

ADD_DEVICE: Final = "PIXDEX_ADD_DEVICE"
"""A variable of the environment of whoever adds: cuda, cuda:N, auto or cpu, by torch; without it numpy, on the CPU."""


def opened_to_add(run: Run) -> OpenTrained:
    """Opens the trained index of a run, on the device that the environment names.

    Raises:
        PixdexError: a file is missing or damaged.
        UsageError: this machine has no such device.
    """
    asked = os.environ.get(ADD_DEVICE)
    if not asked:
        return open_trained(run.store, run.trained().trained)
    from transforms.tasks.torch_products import torch_products  # noqa: PLC0415 - seconds, for those who asked only

    return open_trained(run.store, run.trained().trained, torch_products(asked))


def add_block(
    run: Run, block: Block, open_index: Callable[[], OpenTrained], told: Told | None = None
) -> ListsMarker | None:
    """Makes and commits the shard index of a block; one that has its shard index is left alone, and None returned.

    `open_index` returns the trained index of the run; it is called only where a block is to be added. `told` hears how
    many of its rows are done.

    Raises:
        PixdexError: a shard is missing or damaged, or has not the rows that its marker counts.
    """
    members = inventory.shards_in(run, block)
    content = [marker.ready or marker.embeddings for marker in members.shards]
    trained = run.trained().trained
    kind = stored_kind(run.request, trained.key)
    stored = [] if kind is None else [kind, ROUNDING] if kind == "sq8" else [kind]
    task_digest = digest(trained.fingerprint, content, members.rows, *stored)
    if run.marker("add", block.number, ListsMarker, task_digest) is not None:
        return None
    return run.commit("add", block.number, write_block(run, block, members, open_index(), task_digest, told))


def write_block(
    run: Run,
    block: Block,
    members: BlockShards,
    opened: OpenTrained,
    task_digest: str,
    told: Told | None = None,
) -> ListsMarker:
    """Writes and uploads shard index and vectors of a block's live rows. Returns their marker, not yet committed.

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
    with ExitStack() as stack:
        stored = _Stored(run, block, members, stack)
        for part, groups in _encoded(run, members, opened, stored):
            stop = first + len(part.ids)
            if stop <= rows:
                entries.ids[first:stop], entries.list_nos[first:stop] = part.ids, part.list_nos
                entries.codes[first:stop] = part.codes
            first = stop
            for group in groups:
                stored.write(group)
            if told is not None:
                told.of(first, rows)
        vectors = stored.finished() if first == rows else None
    if first != rows:
        raise _miscounted(block, members)

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
    return ListsMarker(block.number, task_digest, rows, lists, vectors=vectors)


def _miscounted(block: Block, members: BlockShards) -> PixdexError:
    counted = ", ".join(str(marker.shard) for marker in members.shards)
    return PixdexError(
        f"block {block.number} has not the {members.rows} rows that the markers of its shards ({counted}) count: put "
        "their files back, or build anew with --abandon-plan"
    )


class _Stored:
    """The file with the vectors of a block, while it is written; of a block that stores none, none.

    Of ready embeddings in `.npy` files the rows lie where a search can read them, and are not stored again.
    """

    def __init__(self, run: Run, block: Block, members: BlockShards, stack: ExitStack) -> None:
        """Begins the file; the stack closes and removes what is left of it."""
        kind = stored_kind(run.request, run.trained().trained.key)
        self._run, self._block, self._members = run, block, members
        self._rows = {marker.shard: marker.numbered_rows for marker in members.shards if not _is_npy(marker)}
        self._kind: Kind | None = kind if self._rows else None
        if self._kind is None:
            return
        self._file = stack.enter_context(run.store.scratch()) / f"vectors.{self._kind}"
        self._out = stack.enter_context(self._file.open("xb"))
        self._writer = VectorWriter(
            self._out, Extent.of(self._kind, run.request.encoder.dim, sorted(self._rows.items()))
        )

    def packed(self, batch: VectorBatch) -> "_Group | None":
        """Returns the group that a batch is, as it is stored; None: it is not. Any thread may ask.

        Raises:
            PixdexError: the shard has more rows than its marker counts.
        """
        shard = int(batch.ids[0]) >> ROW_BITS
        if self._kind is None or shard not in self._rows:
            return None
        places = batch.ids & (ROWS_PER_SHARD - 1)
        if places[-1] >= self._rows[shard]:
            raise _miscounted(self._block, self._members)
        first = int(places[0]) // GROUP_ROWS * GROUP_ROWS
        rows = min(GROUP_ROWS, self._rows[shard] - first)
        return shard, first, pack(self._kind, batch.vectors, places - first, rows)

    def write(self, group: "_Group") -> None:
        """Writes the next group."""
        self._writer.append(*group)

    def finished(self) -> FileReference | None:
        """Ends and uploads the file; None: there is none."""
        if self._kind is None:
            return None
        _, checksum = self._writer.finish()
        self._out.flush()
        return self._run.store.upload(
            self._file, layout.VECTORS, layout.block_stem(self._block.number), f"xxh3:{checksum}"
        )


_Group = tuple[int, int, Packed]
"""A shard, the row of it that the group begins with, and the group."""


def _is_npy(marker: ShardMarker) -> bool:
    return marker.ready is not None and marker.ready.format == "npy"


def _encoded(
    run: Run, members: BlockShards, opened: OpenTrained, stored: _Stored
) -> Iterator[tuple[Encoded, list[_Group]]]:
    """Yields entries and vectors of the shards' rows in order, made by all threads, each on batches of its own."""
    workers = run.request.encoder.threads
    at_once = batches_a_thread(run.request.encoder.dim, workers)
    encoder, alive = run.request.encoder, members.alive
    batches = (batch for marker in members.shards for batch in read_batches(run.store, marker, encoder, alive))

    def encode(some: list[VectorBatch]) -> tuple[Encoded, list[_Group]]:
        groups = [group for group in map(stored.packed, some) if group is not None]
        return encode_batches(opened.index, some, opened.assign, products=opened.products), groups

    waiting: deque[Future[tuple[Encoded, list[_Group]]]] = deque()
    # Closed here: an error keeps the frames that it came through, and they would keep the reading thread.
    with closing(batches), each_with_one_thread(workers) as pool:
        while some := list(islice(batches, at_once)):
            waiting.append(pool.submit(encode, some))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

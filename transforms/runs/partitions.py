"""Cuts listed items into partitions and blocks, and numbers them. Pure arithmetic over counts; no item is read."""

import itertools
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

import pyarrow as pa

from transforms.derivation import RootPart
from transforms.digests import digest
from transforms.errors import UsageError
from transforms.ready_range import VectorRange
from transforms.records import ROWS_PER_SHARD, Block, FileReference, ItemSlice, Partition, Plan
from transforms.storage import parquet_files
from transforms.storage.parquet_files import READY, with_ready
from transforms.storage.store import Store

MIN_PARTITION_ROWS = 4096
"""Below this, opening a shard would cost more than reading it."""

PARTITIONS_WANTED = 256
"""Partitions that a run is cut into while they stay between the smallest and the largest size."""

MAX_BLOCK_ROWS = 4 << 20
BLOCKS_WANTED = 32
BLOCK_BYTES = 512 << 20
"""Of a block's codes and ids, or of its sampled vectors, at most: a worker holds them while it sorts them by list."""

ROWS_PER_LIST_AND_BLOCK = 8
"""A block has at least this many planned rows a list, so that a list's bytes in a block are worth a read."""


@dataclass(frozen=True)
class Listing:
    """What one container holds: its item table, and (items, rows) of runs of about a thousand items.

    The container is named by the path of a folder, or the URL of a file of rows. Of items that are `carried` nothing is
    embedded: they come in shards of their own.
    """

    source: int
    container: str
    table: FileReference
    chunks: tuple[tuple[int, int], ...]
    carried: bool = False


def partition_rows(rows: int) -> int:
    """Returns how many planned rows a partition gets, for so many in all.

    >>> partition_rows(3_000), partition_rows(2_000_000), partition_rows(10**9)
    (4096, 7813, 65536)
    """
    return min(max(-(-rows // PARTITIONS_WANTED), MIN_PARTITION_ROWS), ROWS_PER_SHARD)


def block_rows(rows: int, nlist: int, row_bytes: int) -> int:
    """Returns how many planned rows a block gets at most.

    At least 8 a list and at most 4 Mi (but for that floor), and never more than 512 MiB of what a worker holds of a
    block: a row has `row_bytes` of it, code and id or its part of the sample; but one shard at least.

    >>> block_rows(3_000, 1, 72), block_rows(10**6, 4096, 72), block_rows(10**9, 262_144, 72)
    (65536, 65536, 4194304)
    >>> block_rows(10**9, 262_144, 2056)
    261123
    """
    wanted = max(-(-rows // BLOCKS_WANTED), ROWS_PER_SHARD)
    dense = max(min(wanted, MAX_BLOCK_ROWS), ROWS_PER_LIST_AND_BLOCK * nlist)
    return max(min(dense, BLOCK_BYTES // row_bytes), ROWS_PER_SHARD)


def partition_digest(plan: Plan, partition: Partition) -> str:
    """Returns what a shard's marker answers: the request and the partition."""
    return digest(plan.request_digest, partition)


def cut(listings: Sequence[Listing], first_shard: int, block_limit: int) -> list[Partition]:
    """Cuts everything that was listed into partitions, in plan order (source, container, position).

    Folders go in the order of a walk, `a`, `a/x`, `a b`, so that the plan does not depend on where a tree was divided.
    A partition may span containers; so small ones do not make small shards. Blocks end before they would have more
    than `block_limit` rows.
    """
    ordered = sorted(listings, key=lambda listing: (listing.source, listing.container.split("/")))
    limit = partition_rows(sum(rows for listing in ordered for _, rows in listing.chunks))
    partitions: list[Partition] = []
    blocks = _Blocks(block_limit)
    for carried in (False, True):
        for slices, items, rows in _fill([one for one in ordered if one.carried == carried], limit):
            shard = first_shard + len(partitions)
            partitions.append(Partition(shard, blocks.take(rows), tuple(slices), items, rows))
    return partitions


def cut_ready(files: Iterable[VectorRange], first_shard: int, block_limit: int) -> list[Partition]:
    """Cuts files of ready embeddings, each given as a range of all its items, into partitions, in the order given.

    A partition is as large as it can be: a range begins at a multiple of 65,536 rows of its file (of pairs, of which
    each has two, of 32,768), and ends with the next one or the file. It never spans files; so small files make small
    shards.
    """
    partitions: list[Partition] = []
    blocks = _Blocks(block_limit)
    for whole in files:
        step = ROWS_PER_SHARD // len(whole.of_each_file)
        for start in range(whole.start, whole.stop, step):
            piece = replace(whole, start=start, stop=min(start + step, whole.stop))
            block = blocks.take(piece.rows)
            shard = first_shard + len(partitions)
            partitions.append(Partition(shard, block, (), items=piece.items, rows=piece.rows, ready=piece))
    return partitions


def cut_root(shards: Iterable[tuple[RootPart, ...]], first_shard: int, block_limit: int) -> list[Partition]:
    """Makes a partition of each of some parts of another root, given as what a shard is made of."""
    partitions: list[Partition] = []
    blocks = _Blocks(block_limit)
    for parts in shards:
        rows = sum(sum(part.wanted) for part in parts)
        shard = first_shard + len(partitions)
        partitions.append(Partition(shard, blocks.take(rows), (), items=rows, rows=rows, root_parts=parts))
    return partitions


@dataclass
class _Blocks:
    """Numbers blocks while partitions come in."""

    limit: int
    number: int = 0
    rows: int = 0

    def take(self, rows: int) -> int:
        """Returns the block of the next partition, which has `rows` rows."""
        if self.rows and self.rows + rows > self.limit:
            self.number, self.rows = self.number + 1, 0
        self.rows += rows
        return self.number


def _fill(listings: Iterable[Listing], limit: int) -> Iterator[tuple[list[ItemSlice], int, int]]:
    slices: list[ItemSlice] = []
    items = rows = 0
    for listing in listings:
        start = stop = 0
        for chunk_items, chunk_rows in listing.chunks:
            if items and (rows + chunk_rows > limit or items + chunk_items > ROWS_PER_SHARD):
                if stop > start:
                    slices.append(ItemSlice(listing.table, start, stop))
                yield slices, items, rows
                slices, items, rows, start = [], 0, 0, stop
            stop += chunk_items
            items, rows = items + chunk_items, rows + chunk_rows
        if stop > start:
            slices.append(ItemSlice(listing.table, start, stop))
    if items:
        yield slices, items, rows


_SLICE = pa.struct(
    [
        ("path", pa.string()),
        ("bytes", pa.int64()),
        ("checksum", pa.string()),
        ("start", pa.int64()),
        ("stop", pa.int64()),
    ]
)
_ROOT_PARTS: Final = pa.list_(
    pa.struct(
        [
            *((name, pa.int64()) for name in ("shard", "first_list", "stop_list", "piece", "pieces")),
            *((name, pa.list_(pa.int64())) for name in ("rows", "wanted")),
        ]
    )
)
_PARTITIONS = pa.schema(
    [
        ("shard", pa.int64()),
        ("block", pa.int64()),
        ("items", pa.int64()),
        ("rows", pa.int64()),
        ("slices", pa.list_(_SLICE)),
        ("ready", READY),
    ]
)


def write_partitions(store: Store, folder: str, partitions: Sequence[Partition]) -> FileReference:
    """Writes the table of a plan's partitions."""
    rows = [
        {
            "shard": partition.shard,
            "block": partition.block,
            "items": partition.items,
            "rows": partition.rows,
            "slices": [
                {
                    "path": piece.table.path,
                    "bytes": piece.table.bytes,
                    "checksum": piece.table.checksum,
                    "start": piece.start,
                    "stop": piece.stop,
                }
                for piece in partition.slices
            ],
            "ready": partition.ready and asdict(partition.ready),
            "root_parts": [asdict(part) for part in partition.root_parts],
        }
        for partition in partitions
    ]
    schema = with_ready(_PARTITIONS, [partition.ready for partition in partitions])
    if any(partition.root_parts for partition in partitions):  # a table of others has no such column
        schema = schema.append(pa.field("root_parts", _ROOT_PARTS))
    with store.scratch() as scratch:
        file = scratch / "partitions.parquet"
        # Of no rows, pyarrow would import pandas where it is there, to make no table.
        parquet_files.write(pa.Table.from_pylist(rows, schema=schema) if rows else schema.empty_table(), file)
        return store.upload(file, folder, "partitions")


def read_partitions(store: Store, table: FileReference) -> Iterator[Partition]:
    """Reads a plan's partitions back, in order, a thousand at a time."""
    with parquet_files.opened(store, table) as file:
        for batch in file.iter_batches(batch_size=1000):
            for row in batch.to_pylist():
                slices = tuple(
                    ItemSlice(
                        FileReference(piece["path"], piece["bytes"], piece["checksum"]), piece["start"], piece["stop"]
                    )
                    for piece in row["slices"]
                )
                ready = row["ready"] and VectorRange(**row["ready"])
                parts = tuple(
                    RootPart(**{**part, "rows": tuple(part["rows"]), "wanted": tuple(part["wanted"])})
                    for part in row.get("root_parts") or ()
                )
                yield Partition(row["shard"], row["block"], slices, row["items"], row["rows"], ready, parts)


def cut_blocks(shards: Iterable[tuple[int, int]], limit: int) -> list[Block]:
    """Cuts shards, given by number and rows in ascending order, into blocks of at most `limit` rows."""
    members: dict[int, list[int]] = {}
    numbering = _Blocks(limit)
    for shard, rows in shards:
        members.setdefault(numbering.take(rows), []).append(shard)
    return [Block(number, shards_of[0], shards_of[-1] + 1) for number, shards_of in members.items()]


def read_blocks(store: Store, plan: Plan) -> Iterator[Block]:
    """Reads the blocks of a plan, in order."""
    partitions = read_partitions(store, plan.partitions)
    for number, members in itertools.groupby(partitions, key=operator.attrgetter("block")):
        shards = [partition.shard for partition in members]
        yield Block(number, shards[0], shards[-1] + 1)


def check_not_empty(items: int, *, ready: bool) -> None:
    """Refuses a plan without work: `items` is how many are planned, `ready` tells that they are ready embeddings.

    Raises:
        UsageError: there is none.
    """
    if not items and ready:
        raise UsageError("the files of --vectors hold no vector: name files with rows")
    if not items:
        raise UsageError("the sources hold no item: a CSV needs rows below its header, a folder needs pictures")

"""What a run is made of: the shards and blocks that it takes over from the generation before, and those it makes.

A first build makes everything. A reindex takes over the shards of its base and adds blocks of its own beside the
base's, which stay deltas; or it compacts, and merges all of them anew; or it retrains, and then every shard is added
anew, in blocks that are cut over all of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from transforms.generations import key_tables, tables, tombstones
from transforms.generations.tables import BlockMember
from transforms.generations.tombstones import Tombstones
from transforms.markers import KeysMarker, ListsMarker, ShardMarker, TombstonesMarker
from transforms.records import Block, FileReference, Reindex
from transforms.runs import partitions
from transforms.runs.run import Run
from transforms.shards.vectors import Choose
from transforms.storage import layout, parquet_files

_CUT = pa.schema([("block", pa.int64()), ("first_shard", pa.int64()), ("stop_shard", pa.int64())])


def is_idle(run: Run) -> bool:
    """Tells whether a reindex found nothing to do, or did nothing; its embed stage must be done."""
    plan, reindex, base = run.plan, run.request.reindex, run.base
    if reindex is None or base is None:
        return False
    if reindex.retrain == "always" or ((plan.items or plan.removed) and not tried_in_vain(run)):
        return False
    deltas = sum(not block.merged for block in tables.blocks_of(run.store, base))
    return not _is_overdue(reindex, deltas, base.totals.tombstones, base.totals.vectors)


def tried_in_vain(run: Run) -> bool:
    """Tells whether a reindex did nothing but try rejects, and pictures that were missing, again, and none came.

    What is known stays then.
    """
    plan, reindex = run.plan, run.request.reindex
    if reindex is None or reindex.repair or plan.changes is None or not plan.changes.retried:
        return False
    if plan.items > plan.changes.retried or plan.changes.gone:
        return False
    return all(marker.rejected == marker.items or marker.rows == marker.carried for marker in run.shards())


def retrains(run: Run) -> bool:
    """Tells whether a run trains an index and adds everything; of a reindex, its drift stage must be done."""
    return run.request.reindex is None or (not is_idle(run) and run.drift.why != "")


def blocks(run: Run) -> int:
    """Returns how many blocks a run adds; as `retrains`."""
    return run.drift.blocks if run.request.reindex is not None and retrains(run) else run.plan.blocks


def blocks_to_add(run: Run) -> Iterator[Block]:
    """Reads the blocks that a run adds, in order; as `retrains`."""
    if is_idle(run):
        return
    cut = run.drift.cut if run.request.reindex is not None and retrains(run) else None
    if cut is None:
        yield from partitions.read_blocks(run.store, run.plan)
        return
    for row in parquet_files.read(run.store, cut).to_pylist():
        yield Block(row["block"], row["first_shard"], row["stop_shard"])


def write_cut(run: Run, cut: Sequence[Block]) -> FileReference:
    """Writes the table of the blocks of a retrain."""
    rows = [{"block": block.number, "first_shard": block.first_shard, "stop_shard": block.stop_shard} for block in cut]
    return parquet_files.write_table(
        run.store, pa.Table.from_pylist(rows, schema=_CUT), folder=layout.plan_folder(run.generation)
    )


def all_shards(run: Run) -> list[ShardMarker]:
    """Returns every shard of the generation that the run makes, in order; the embed stage must be done."""
    return [*([] if run.base is None else tables.shards_of(run.store, run.base)), *run.shards()]


@dataclass(frozen=True)
class BlockShards:
    """The shards of a block that have a live row, in order, and which of their rows are dead."""

    shards: list[ShardMarker]
    dead: Tombstones

    @property
    def rows(self) -> int:
        """How many rows live."""
        counts = self.dead.count_by_shard
        return sum(marker.rows - counts.get(marker.shard, 0) for marker in self.shards)

    @property
    def alive(self) -> Choose | None:
        """Tells which rows live; None: all do."""
        return self.dead.are_alive if len(self.dead.shards) else None


def shards_in(run: Run, block: Block) -> BlockShards:
    """Returns what a block is made of; numbers may be missing between its shards."""
    first = run.plan.first_shard
    new = run.markers("embed", range(max(block.first_shard, first), block.stop_shard), ShardMarker)
    if block.first_shard >= first or run.base is None:
        return BlockShards([marker for marker in new if marker.rows], Tombstones())
    old = [marker for marker in tables.shards_of(run.store, run.base) if marker.shard in block.shards]
    dead = dead_rows(run, range(layout.folder_of(block.first_shard), layout.folder_of(block.stop_shard - 1) + 1))
    counts = dead.count_by_shard
    alive = [marker for marker in [*old, *new] if marker.numbered_rows > counts.get(marker.shard, 0)]
    return BlockShards(alive, dead)


def dead_rows(run: Run, folders: range | None = None) -> Tombstones:
    """Returns the dead rows of a run's shards, in some folders or in all; the tombstones stage must be done."""
    files = [file for folder, (_, file) in tombstone_files(run).items() if folders is None or folder in folders]
    return Tombstones.joined(tombstones.read(run.store, file) for file in files)


def tombstone_files(run: Run) -> dict[int, tuple[int, FileReference]]:
    """Returns how many rows are dead and the file that says which, by folder of shards."""
    files = {} if run.base is None else tables.tombstones_of(run.store, run.base)
    files.update((marker.number, (marker.rows, marker.file)) for marker in tombstone_markers(run))
    return dict(sorted(files.items()))


def tombstone_markers(run: Run) -> list[TombstonesMarker]:
    """Returns the markers of the folders whose tombstones the run changed."""
    return run.markers("tombstones", run.numbers("tombstones"), TombstonesMarker)


def key_bits(run: Run) -> int:
    """Returns how many bits of a hash number the buckets of a run; never fewer than those of the generation before."""
    base = run.base
    if base is None:
        return key_tables.bits_for(run.plan.items)
    known = [bucket.bits for bucket in tables.buckets_of(run.store, base)]
    return max([key_tables.bits_for(base.totals.items + run.plan.items), *known])


def key_markers(run: Run) -> list[KeysMarker]:
    """Returns the markers of the hash buckets of a run; none of ready embeddings."""
    return run.markers("keys", run.numbers("keys"), KeysMarker)


@dataclass(frozen=True)
class Lists:
    """The shard indexes of the generation that a run makes.

    Attributes:
        merged: those that the merge of this run reads; none: it merges nothing.
        kept: those of the base that stay as they are.
        added: those that stay beside the merged index as deltas.
    """

    merged: tuple[BlockMember, ...]
    kept: tuple[BlockMember, ...]
    added: tuple[BlockMember, ...]

    @property
    def all(self) -> tuple[BlockMember, ...]:
        """All of them; what was merged is marked so."""
        return (*self.kept, *self.merged, *self.added)


def lists(run: Run) -> Lists:
    """Returns the shard indexes of a run; its add stage must be done, and where it merges, its compact stage."""
    new = _added(run)
    if merges_all(run):
        return Lists((*_compacted(run), *(_merged(block) for block in new)), (), ())
    assert run.base is not None
    return Lists((), tuple(tables.blocks_of(run.store, run.base)), tuple(block for block in new if block.rows))


def merges_all(run: Run) -> bool:
    """Tells whether a run merges all shard indexes into one index anew; its add stage must be done."""
    reindex, base = run.request.reindex, run.base
    if reindex is None or base is None:
        return True
    if is_idle(run):
        return False
    if retrains(run):
        return True
    new = [block for block in _added(run) if block.rows]
    deltas = len(new) + sum(not block.merged for block in tables.blocks_of(run.store, base))
    scanned = base.totals.vectors + base.totals.tombstones + sum(block.rows for block in new)
    alive = live_rows(run)
    return _is_overdue(reindex, deltas, scanned - alive, alive)


def to_compact(run: Run) -> list[tuple[int, BlockMember]]:
    """Returns the shard indexes of the base that have dead rows, with their places, when all are merged anew."""
    if run.base is None or retrains(run) or not merges_all(run):
        return []
    dead = dead_rows(run).shards
    old = enumerate(tables.blocks_of(run.store, run.base))
    return [(place, block) for place, block in old if _touches(block, dead.tolist())]


def live_rows(run: Run) -> int:
    """Returns how many rows the generation that the run makes can find."""
    if run.request.is_ready:
        dead = set(_dead_shards(run))
        return sum(marker.rows for marker in all_shards(run) if marker.shard not in dead)
    return sum(marker.images + marker.texts + marker.keywords for marker in key_markers(run))


def live_shards(run: Run) -> list[ShardMarker]:
    """Returns the shards of a run that have a live row; of a run that merges all, those that the lists name."""
    dead = set(_dead_shards(run))
    return [marker for marker in all_shards(run) if marker.shard not in dead]


def cut_all(run: Run, limit: int) -> list[Block]:
    """Cuts all live shards of a run into blocks of at most `limit` rows, for a retrain."""
    return partitions.cut_blocks([(marker.shard, marker.rows) for marker in live_shards(run)], limit)


def _dead_shards(run: Run) -> list[int]:
    """The shards whose rows are all dead."""
    counts = dead_rows(run).count_by_shard
    if not counts:
        return []
    return [marker.shard for marker in all_shards(run) if counts.get(marker.shard, 0) >= marker.numbered_rows > 0]


def _added(run: Run) -> list[BlockMember]:
    """The shard indexes that the add stage made."""
    blocks = []
    cut = list(blocks_to_add(run))
    for block, marker in zip(cut, run.markers("add", range(len(cut)), ListsMarker), strict=True):
        first, last = block.first_shard, block.stop_shard - 1
        blocks.append(BlockMember(marker.lists, marker.rows, first, last, merged=False, vectors=marker.vectors))
    return blocks


def _compacted(run: Run) -> list[BlockMember]:
    """The shard indexes of the base, without dead rows."""
    if run.base is None or retrains(run):
        return []
    old = dict(enumerate(tables.blocks_of(run.store, run.base)))
    for place, _ in to_compact(run):
        (marker,) = run.markers("compact", [place], ListsMarker)
        old[place] = replace(old[place], lists=marker.lists, rows=marker.rows)
    return [_merged(block) for block in old.values() if block.rows]


def _merged(block: BlockMember) -> BlockMember:
    return replace(block, merged=True)


def _touches(block: BlockMember, shards: Sequence[int]) -> bool:
    return any(block.first_shard <= shard <= block.last_shard for shard in shards)


def _is_overdue(reindex: Reindex, deltas: int, dead: int, alive: int) -> bool:
    return deltas > reindex.max_deltas or dead > reindex.max_tombstones * (dead + alive)

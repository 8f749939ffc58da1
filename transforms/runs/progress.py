"""How far a run is, read from its markers: the same on every runner, and right after a restart. Knows no Beam.

What is done is weighed where a marker, or the plan, tells how large a task is: items of a shard, vectors of a block or
of a piece of the merged index. Of a task that is at work its beacon tells the part that is done (`runs.beacons`).
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from transforms.index.lists.format import ID_BYTES
from transforms.markers import PieceMarker, SegmentMarker, ShardMarker, StageMarker
from transforms.runs import beacons, inventory
from transforms.runs.run import STAGES, Run, Stage
from transforms.storage import parquet_files

Unit = Literal["items", "vectors", "tasks"]

MARKERS_A_LOOK: Final = 2048
"""New markers of shards that one look reads at most; a run that is watched from its middle on has many."""

_HEAD: Final = 0
"""Of the pieces of a merged file, the one that holds no vector."""


@dataclass(frozen=True)
class StageProgress:
    """How far a stage is.

    Attributes:
        done, planned: in `unit`, parts of tasks that are at work included; planned is None while nobody knows it.
        tasks: that have their markers.
        rejected: items that the tasks rejected, as far as their markers were read.
        finished: when all of it was done, in seconds since the epoch; None: it is not.
    """

    stage: Stage
    unit: Unit
    done: float
    planned: float | None
    tasks: int
    rejected: int = 0
    finished: float | None = None

    @property
    def share(self) -> float | None:
        """Of what is planned, 0 to 1; None while nobody knows."""
        if self.finished is not None:
            return 1.0
        return None if not self.planned else min(1.0, self.done / self.planned)

    @property
    def is_empty(self) -> bool:
        """Whether it was over without a task."""
        return self.finished is not None and not self.tasks


@dataclass(frozen=True)
class Embedded:
    """What the shards of a run tell that have their markers: counts of items and rows, and seconds of each part.

    Items of shards that keep their vectors are in `items`, and not among those that were `embedded`.
    """

    items: int = 0
    embedded: int = 0
    rejected: int = 0
    rows: int = 0
    spent: Mapping[str, float] = field(default_factory=dict)

    def with_shard(self, marker: ShardMarker) -> "Embedded":
        """Adds one."""
        spent = dict(self.spent)
        for part, seconds in marker.spent.seconds.items() if marker.spent is not None else ():
            spent[part] = spent.get(part, 0.0) + seconds
        return Embedded(
            items=self.items + marker.items,
            embedded=self.embedded + (0 if marker.is_carried else marker.items - marker.rejected),
            rejected=self.rejected + marker.rejected,
            rows=self.rows + marker.rows,
            spent=spent,
        )


@dataclass(frozen=True)
class RunLook:
    """How far a run was at one look.

    Attributes:
        stages: those that are done, in order, and at the end the one that is at work, if any.
        embedded: of the shards whose markers were read.
        sign: differs from that of the look before where a worker has given a sign of life.
    """

    generation: int
    stages: tuple[StageProgress, ...]
    embedded: Embedded
    sign: object

    @property
    def current(self) -> StageProgress | None:
        """The stage that is at work."""
        return self.stages[-1] if self.stages and self.stages[-1].finished is None else None


class RunProgress:
    """Looks at a run again and again; what was read once is kept.

    Cost of a look: a listing of the markers and one of the beacons of the stage that is at work, a small read for each
    beacon, and one for each new marker of a shard or of a piece. Memory: some numbers a task of the stage at work.
    """

    def __init__(self, run: Run, last: Stage = "publish") -> None:
        """Watches the stages of a run up to `last`."""
        self._run, self._stages = run, STAGES[: STAGES.index(last) + 1]
        self._over: dict[Stage, StageProgress] = {}
        self._embedded = Embedded()
        self._read: set[int] = set()
        self._rows_of_shards: dict[int, int] = {}
        self._rows_of_pieces: dict[int, int] = {}

    def look(self) -> RunLook:
        """Returns how far it is now."""
        seen: list[StageProgress] = []
        sign: object = None
        for stage in self._stages:
            known = self._over.get(stage)
            if known is None:
                marker = self._run.stage_marker(stage)
                if marker is not None:
                    known = self._over[stage] = self._finished(stage, marker)
            if known is None:
                now, sign = self._at_work(stage)
                seen.append(now)
                break
            seen.append(known)
        return RunLook(self._run.generation, tuple(seen), self._embedded, (len(seen), sign))

    def _finished(self, stage: Stage, marker: StageMarker) -> StageProgress:
        tasks, rejected, unit = marker.tasks, 0, unit_of(stage)
        done = float(tasks)
        if stage == "plan":
            done = self._run.plan.items if self._run.is_planned else 0
        elif stage == "embed" and tasks:
            self._read_shards(self._run.numbers("embed"), everything=True)
            done, rejected = self._embedded.items, self._embedded.rejected
        elif unit == "vectors" and tasks:
            numbers = self._run.numbers(stage)
            weights = self._weights(stage)
            done = sum(weights.get(number, 0) for number in numbers) if stage != "merge" else self._merged(numbers)
        return StageProgress(stage, unit, done, done, tasks, rejected, marker.finished)

    def _at_work(self, stage: Stage) -> tuple[StageProgress, object]:
        run, unit = self._run, unit_of(stage)
        if stage == "plan":
            return StageProgress(stage, unit, 0, None, 0), run.is_planned
        numbers = run.numbers(stage)
        lit = beacons.read(run, stage, set(numbers))
        if stage == "embed":
            self._read_shards(numbers)
        rejected = self._embedded.rejected if stage == "embed" else 0
        planned: float | None
        if stage == "merge":
            done, planned = float(self._merged(numbers)), float(self._to_merge)
        elif unit == "tasks":
            done = len(numbers) + sum(beacon.share for beacon in lit.values())
            planned = None if (tasks := self._tasks(stage)) is None else float(tasks)
        else:
            weights = self._weights(stage)
            done = sum(weights.get(number, 0) for number in numbers)
            done += sum(weights.get(number, 0) * beacon.share for number, beacon in lit.items())
            planned = float(sum(weights.values()))
        sign = (len(numbers), tuple(sorted((number, beacon.at) for number, beacon in lit.items())))
        return StageProgress(stage, unit, done, planned, len(numbers), rejected), sign

    def _read_shards(self, numbers: Sequence[int], *, everything: bool = False) -> None:
        new = [number for number in numbers if number not in self._read]
        some = new if everything else new[:MARKERS_A_LOOK]
        if not some:
            return
        for marker in self._run.markers("embed", some, ShardMarker):
            self._read.add(marker.shard)
            self._embedded = self._embedded.with_shard(marker)
            self._rows_of_shards[marker.shard] = marker.rows

    def _tasks(self, stage: Stage) -> int | None:
        """How many tasks a stage has, as far as the plan or an earlier stage says it."""
        run = self._run
        if stage == "keys":
            return None if run.request.is_ready else 1 << inventory.key_bits(run)
        if stage in ("parents", "move1", "move2"):
            return int(self._trains)
        if stage in ("pass1", "pass2"):
            cells = self._over.get("cells")
            return None if cells is None else cells.tasks
        if stage == "drift":
            return None if run.request.reindex is None else 1
        return run.tasks(stage)

    def _weights(self, stage: Stage) -> Mapping[int, int]:
        """How large the tasks of a stage are, by number."""
        if stage == "embed":
            return self._items
        return self._rows_of_blocks if stage == "add" or self._trains else {}

    @functools.cached_property
    def _trains(self) -> bool:
        """Whether an index is trained; the stages before must be done."""
        return inventory.retrains(self._run)

    @functools.cached_property
    def _items(self) -> dict[int, int]:
        """Items by shard, as planned."""
        return {shard: items for shard, items, _, _ in self._planned}

    @functools.cached_property
    def _planned(self) -> list[tuple[int, int, int, int]]:
        """Number, items, rows and block of every partition; of a plan of a million, some seconds."""
        columns = ["shard", "items", "rows", "block"]
        with parquet_files.opened(self._run.store, self._run.plan.partitions) as file:
            table = file.read(columns=columns)
        return list(zip(*(table[name].to_pylist() for name in columns), strict=True))

    @functools.cached_property
    def _rows_of_blocks(self) -> dict[int, int]:
        """Rows by block, of the blocks that the run samples and adds; the stages before must be done."""
        run, base = self._run, self._run.base
        rows = {shard: self._rows_of_shards.get(shard, rows) for shard, _, rows, _ in self._planned}
        if run.request.reindex is None or not self._trains:
            found: dict[int, int] = {}
            for shard, _, _, block in self._planned:
                found[block] = found.get(block, 0) + rows[shard]
            return found
        if base is not None:
            listed = parquet_files.read(run.base_store, base.tables.shards)
            rows |= dict(zip(listed["shard"].to_pylist(), listed["rows"].to_pylist(), strict=True))
        return {
            block.number: sum(rows.get(shard, 0) for shard in block.shards) for block in inventory.blocks_to_add(run)
        }

    @functools.cached_property
    def _to_merge(self) -> int:
        """Vectors that the merge brings together; the stages before must be done."""
        return sum(block.rows for block in inventory.lists(self._run).merged)

    def _merged(self, numbers: Sequence[int]) -> int:
        """Vectors in the pieces of the merged index that have their markers."""
        run, known = self._run, self._rows_of_pieces
        new = [number for number in numbers if number not in known]
        if run.store.local is None:
            known |= {marker.number: marker.rows for marker in run.markers("merge", new, SegmentMarker)}
        elif new:
            entry = run.trained().trained.code_size + ID_BYTES
            pieces = run.markers("merge", new, PieceMarker)
            known |= {piece.number: 0 if piece.number == _HEAD else piece.bytes // entry for piece in pieces}
        return sum(known[number] for number in numbers)


def unit_of(stage: Stage) -> Unit:
    """Returns what the progress of a stage is counted in."""
    if stage in ("plan", "embed"):
        return "items"
    return "vectors" if stage in ("sample", "route", "add", "merge") else "tasks"


def stage_seconds(run: Run, since: float) -> dict[str, float]:
    """Returns the seconds that each stage took in this run of the job; a stage that was done before is left out.

    Args:
        run: the run.
        since: when the job started, in seconds since the epoch.
    """
    seconds: dict[str, float] = {}
    before = since
    for stage in STAGES:
        marker = run.stage_marker(stage)
        if marker is not None and marker.finished > since:
            seconds[stage] = round(max(0.0, marker.finished - before), 3)
            before = max(before, marker.finished)
    return seconds

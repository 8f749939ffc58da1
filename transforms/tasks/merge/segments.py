"""Merges ranges of lists into `.ivf` files: segments of the index on an object store, and the tier before the merge.

Each file is one task: merged into `Store.scratch()`, so that the machine needs room for one file, and uploaded under a
name with its checksum. A file is a function of what is merged: whoever repeats a task makes the same bytes.
"""

import contextlib
import math
from dataclasses import dataclass
from typing import BinaryIO

from transforms.digests import digest
from transforms.index.lists.format import Seal
from transforms.index.lists.inputs import ListsReference, MergeInputs
from transforms.index.lists.merge import (
    FAN_IN,
    FILE_BYTES,
    READ_BYTES,
    STEP_BYTES,
    merge_segment,
    mergeable,
    plan_pieces,
)
from transforms.index.lists.writer import write_lists_file
from transforms.markers import ListsMarker, SegmentMarker
from transforms.runs.run import Run, Stage
from transforms.storage import layout
from transforms.tasks.merge.inputs import blocks, merge_digest, merge_inputs


@dataclass(frozen=True)
class RangeTask:
    """A range of lists of the merged index, or, in the tier, of the merge of some blocks, that becomes one file.

    `digest` is that of what is merged and of this range of it.
    """

    number: int
    first_block: int
    last_block: int
    first_list: int
    last_list: int
    digest: str


def plan_tier(run: Run, fan_in: int | None = None, file_bytes: int = FILE_BYTES) -> list[RangeTask]:
    """Cuts the shard indexes into groups of consecutive blocks, and the lists of each into files; none when few.

    Args:
        run: the run; its shard indexes are there.
        fan_in: most inputs of one merge. Default: 1,000, and on object stores so few that a step of 48 MiB reads 1 MiB
            from each. One tier serves fan_in² blocks well; of more, larger groups are merged.
        file_bytes: about the size of a file, at most one list more. Smaller ones spread over more workers.
    """
    merged_blocks, lists = blocks(run), range(run.trained().trained.nlist)
    most = fan_in or (FAN_IN if run.store.local is not None else STEP_BYTES // READ_BYTES)
    if len(merged_blocks) <= most:
        return []
    size = max(most, math.isqrt(len(merged_blocks) - 1) + 1)
    tasks: list[RangeTask] = []
    for first in range(0, len(merged_blocks), size):
        group = merged_blocks[first : first + size]
        with contextlib.closing(_inputs_of(run, group)) as inputs:
            ranges = plan_pieces(mergeable(inputs.over(lists), run.trained().trained.fingerprint), file_bytes)
        merged = merge_digest(run, group)
        for part in ranges:
            task_digest = digest("tier", merged, part.start, part.stop)
            tasks.append(RangeTask(len(tasks), first, first + len(group), part.start, part.stop, task_digest))
    return tasks


def merge_tier(run: Run, task: RangeTask) -> None:
    """Writes, uploads and commits one file of the tier; one that stands is left alone. Memory: two steps."""
    if run.marker("tier", task.number, SegmentMarker, task.digest) is None:
        group = blocks(run)[task.first_block : task.last_block]
        with contextlib.closing(_inputs_of(run, group)) as inputs:
            folder, stem = layout.tier_folder(run.generation), layout.tier_stem(task.number)
            _write(run, "tier", task, inputs, STEP_BYTES, folder, stem)


def plan_segments(run: Run, segment_bytes: int = FILE_BYTES) -> list[RangeTask]:
    """Cuts the lists of the merged index into segments of about this size (or one list).

    Smaller ones spread over more workers, need less room on the disk of each, and are more objects to open.
    """
    merged_blocks = blocks(run)
    if not merged_blocks:
        return []
    lists, merged = range(run.trained().trained.nlist), merge_digest(run, merged_blocks)
    with contextlib.closing(merge_inputs(run)) as inputs:
        ranges = plan_pieces(mergeable(inputs.over(lists), run.trained().trained.fingerprint), segment_bytes)
    return [
        RangeTask(
            number, 0, len(merged_blocks), part.start, part.stop, digest("segment", merged, part.start, part.stop)
        )
        for number, part in enumerate(ranges)
    ]


def merge_into_segment(run: Run, task: RangeTask, inputs: MergeInputs, step_bytes: int = STEP_BYTES) -> None:
    """Writes, uploads and commits one segment; one that stands is left alone. Memory: two steps.

    Needs room for the segment where the machine keeps temporary files (`TMPDIR`).
    """
    if run.marker("merge", task.number, SegmentMarker, task.digest) is None:
        folder, stem = layout.index_folder(run.generation), layout.segment_stem(task.number)
        _write(run, "merge", task, inputs, step_bytes, folder, stem)


def _write(
    run: Run, stage: Stage, task: RangeTask, inputs: MergeInputs, step_bytes: int, folder: str, stem: str
) -> None:
    lists, fingerprint = range(task.first_list, task.last_list), run.trained().trained.fingerprint

    def write(out: BinaryIO) -> tuple[int, Seal]:
        merged = merge_segment(
            inputs.over(lists), lists, out, fingerprint=fingerprint, step_bytes=step_bytes, buffers=inputs.buffers
        )
        return merged.rows, merged.seal

    rows, file = write_lists_file(run.store, folder, stem, write)
    marker = SegmentMarker(task.number, task.digest, task.first_list, task.last_list, rows, file)
    run.commit(stage, task.number, marker)


def _inputs_of(run: Run, group: list[ListsMarker]) -> MergeInputs:
    lists = range(run.trained().trained.nlist)
    return MergeInputs(run.store, [ListsReference(lists, marker.lists) for marker in group])

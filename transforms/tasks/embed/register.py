"""Registers a range of ready embeddings as a shard: checks every vector, and copies none."""

import time

import numpy as np

from transforms.markers import ShardMarker
from transforms.ready_range import VectorRange, row_key
from transforms.records import Partition
from transforms.runs.partitions import partition_digest
from transforms.runs.run import Run
from transforms.shards import files, ready_vectors
from transforms.shards.files import Reject
from transforms.shards.lengths import TOO_LONG


def register(run: Run, partition: Partition) -> ShardMarker:
    """Checks the vectors of a range and writes the rejects. Returns the marker, which is not yet committed.

    Of a pair, one bad vector rejects both: an item is found whole, or not at all.

    Cost: reads every vector once; a million of 512 float16 components in the page cache take about 0.2 s.

    Raises:
        PixdexError: the file is not the one that was planned with.
    """
    started = time.monotonic()
    ready, settings = partition.ready, run.request.encoder
    assert ready is not None
    rejects: list[Reject] = []
    first = 0
    for of_each in ready_vectors.soundness_of_items(ready, settings.dim, normalize=settings.normalize):
        all_sound = np.logical_and.reduce([sound for _, sound in of_each])
        for place in np.flatnonzero(~all_sound).tolist():
            bad = next(number for number, (_, sound) in enumerate(of_each) if not sound[place])
            finite = bool(of_each[bad][0][place])
            rejects.append(_reject(ready, first + place, bad, finite=finite, normalize=settings.normalize))
        first += len(all_sound)
    kinds = [part.modality for part in ready.of_each_file]
    sound_items = partition.items - len(rejects)
    return ShardMarker(
        shard=partition.shard,
        block=partition.block,
        digest=partition_digest(run.plan, partition),
        items=partition.items,
        rejected=len(rejects),
        rows=sound_items * len(kinds),
        images=sound_items * kinds.count("image"),
        texts=sound_items * kinds.count("text"),
        keywords=sound_items * kinds.count("keyword"),
        embeddings=None,
        rejects=files.write_rejects(run.store, partition.shard, rejects),
        seconds=round(time.monotonic() - started, 3),
        ready=ready,
    )


def _reject(ready: VectorRange, item: int, bad: int, *, finite: bool, normalize: bool) -> Reject:
    """The reject of an item, for its vector in the file of this number."""
    file = ready.of_each_file[bad]
    if finite:
        what = "the vector is zero: it has no direction" if normalize else TOO_LONG
    elif ready.format == "parquet":
        what = "the vector is missing, of another length, or holds NaN, null or infinity"
    else:
        what = "the vector holds NaN or infinity"
    return Reject(row_key(ready, item), file.uri, file.version, file.modality, 0, "read", "BadVector", what)

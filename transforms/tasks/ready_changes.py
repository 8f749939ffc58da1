"""What changed in files of ready embeddings since a generation: keys that came, stayed and left. For a reindex.

The key of a ready embedding is its file and its row, so that what became of each key follows from how many rows a file
has and had; no key is looked at. A file is the same as a whole, or all of its rows come anew; of pairs all rows of both
files do, whichever changed.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transforms.generations import tables, tombstones
from transforms.ready_range import VectorRange
from transforms.records import Changes, Source
from transforms.runs.run import Run
from transforms.sources.ready.vectors import ReadyFile
from transforms.tasks import losses
from transforms.tasks.losses import KnownItems


@dataclass(frozen=True)
class KnownRange:
    """A range of a file whose rows the generation has: its shard, and how many of its rows were rejected."""

    shard: int
    ready: VectorRange
    rejected: int = 0

    @property
    def keys(self) -> int:
        """How many keys it has, rejected ones too."""
        return self.ready.items


@dataclass(frozen=True)
class ReadyChanges:
    """What became of files of ready embeddings.

    Attributes:
        fresh: whole files that are new or changed, in the order of the files.
        removed: ranges whose rows are dead now, by shard.
        counts: of keys; those of a file that changed, changed with it.
        sources: what became of the keys that were known of each source.
    """

    fresh: tuple[VectorRange, ...]
    removed: tuple[KnownRange, ...]
    counts: Changes
    sources: KnownItems


def live_ranges(run: Run) -> dict[str, list[KnownRange]]:
    """Returns the ranges of each file whose rows live in the generation that a reindex goes on from, by URI."""
    base, store = run.base, run.base_store
    if base is None:
        return {}
    dead = tombstones.read_all(store, base.tables.tombstones).count_by_shard
    known: dict[str, list[KnownRange]] = {}
    for marker in tables.shards_of(store, base):
        if marker.ready and dead.get(marker.shard, 0) < marker.numbered_rows:
            known.setdefault(marker.ready.uri, []).append(KnownRange(marker.shard, marker.ready, marker.rejected))
    return known


def compare(
    known: Mapping[str, Sequence[KnownRange]], files: Sequence[ReadyFile], sources: Sequence[Source]
) -> ReadyChanges:
    """Compares files with those of a generation.

    Args:
        known: ranges of each file, by URI.
        files: those of the sources now; `vectors` of one that was not opened is one of the ranges known of it.
        sources: those of the request.
    """
    new = changed = gone = unchanged = rejected = 0
    fresh: list[VectorRange] = []
    removed: list[KnownRange] = []
    stayed_of, gone_of = [0] * len(sources), [0] * len(sources)
    for file in files:
        ranges = known.get(file.vectors.uri, ())
        before, now = sum(part.keys for part in ranges), file.vectors.stop
        if ranges and _is_same_file(ranges[0].ready, file.vectors):
            bad = sum(part.rejected for part in ranges)
            unchanged, rejected = unchanged + before - bad, rejected + bad
            stayed_of[file.source] += before
            continue
        stayed, left = min(before, now), max(0, before - now)
        new, changed, gone = new + now - stayed, changed + stayed, gone + left
        stayed_of[file.source] += stayed
        gone_of[file.source] += left
        removed += ranges
        fresh.append(file.vectors)
    listed = {file.vectors.uri for file in files}
    for uri, ranges in known.items():
        if uri not in listed:
            keys = sum(part.keys for part in ranges)
            gone += keys
            owner = losses.owner_of(uri, sources)
            if owner is not None:
                gone_of[owner] += keys
            removed += ranges
    return ReadyChanges(
        tuple(fresh),
        tuple(sorted(removed, key=lambda part: part.shard)),
        Changes(new, changed, gone, unchanged, rejected, 0),
        KnownItems(tuple(stayed_of), tuple(gone_of)),
    )


def _is_same_file(one: VectorRange, other: VectorRange) -> bool:
    """Tells whether two ranges are of one file in one version."""
    return dataclasses.replace(one, start=0, stop=0) == dataclasses.replace(other, start=0, stop=0)

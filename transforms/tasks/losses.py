"""How many of the items that were known of each source are gone, and whether that is too many to be believed.

A folder that was not mounted, or a CSV with nothing below its header, is a mistake more often than a wish: a night that
finds more than a share of a source's items gone is stopped before anything is written that lasts.

An entry of the key tables knows the hash of its key, and, of rows that name no pictures, their file. Which other source
a gone item was of is asked only where it matters: its key is read from the shard that its rows are in.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from transforms.errors import PixdexError
from transforms.generations import key_tables, tables
from transforms.generations.key_tables import Difference
from transforms.records import FileReference, Source
from transforms.runs.run import Run
from transforms.shards import files
from transforms.sources import listed
from transforms.storage import parquet_files, uris

if TYPE_CHECKING:
    from transforms.tasks.changes import BucketChanges

ASKED: Final = 1 << 22
"""Gone items whose keys are read, at most: of more, so many by hash, which stand for all. Each takes 24 bytes."""

_READERS: Final = 16


@dataclass(frozen=True)
class KnownItems:
    """What became of the items that a generation knows, by source; none where there is nothing to compare with.

    Attributes:
        stayed: those that are listed still, changed or not.
        gone: those that are listed no more, as far as it is known of which source they were.
    """

    stayed: tuple[int, ...] = ()
    gone: tuple[int, ...] = ()


def count(
    sources: Sequence[Source],
    known: NDArray[np.void],
    difference: Difference,
    listed_by: Sequence[tuple[int, int]],
    files_of: Sequence[Sequence[str]],
) -> KnownItems:
    """Counts by source what became of the entries of a hash bucket.

    Args:
        sources: those of the request.
        known: entries (`key_tables.ENTRY`) of the generation.
        difference: what the comparison found.
        listed_by: the source and the number of consecutive items among those that were compared.
        files_of: of each source the files that need not be opened, as they are now and were known.
    """
    stayed, gone = [0] * len(sources), [0] * len(sources)
    start = 0
    for source, items in listed_by:
        if not sources[source].is_skippable:
            stayed[source] += int(np.count_nonzero(difference.met[start : start + items]))
        start += items
    for number, source_of in enumerate(sources):
        if source_of.is_skippable:
            own = np.isin(known["origin"], np.array([*map(key_tables.origin_of, files_of[number])], np.uint64))
            gone[number] = int(np.count_nonzero(own & difference.gone))
            stayed[number] = int(np.count_nonzero(own)) - gone[number]
    return KnownItems(tuple(stayed), tuple(gone))


def of_buckets(run: Run, compared: Sequence["BucketChanges"], ratio: float) -> KnownItems:
    """Returns what became of the items of each source, of what was counted bucket by bucket.

    Where it is not known of which source some are that are gone, and `ratio` cannot be exceeded by any, nothing is
    asked, and they are counted with none.

    Cost: where it may be, the keys of the shards that they were in are read, sixteen files at a time.

    Raises:
        PixdexError: a shard, or a file of rejects, is missing or damaged.
    """
    sources = run.request.sources
    stayed, gone = [0] * len(sources), [0] * len(sources)
    for bucket in compared:
        for number, (some, left) in enumerate(zip(bucket.sources.stayed, bucket.sources.gone, strict=True)):
            stayed[number] += some
            gone[number] += left
    unclear = sum(bucket.changes.gone for bucket in compared) - sum(gone)
    others = [number for number, source in enumerate(sources) if not source.is_skippable]
    if len(others) == 1:
        gone[others[0]] += unclear
    elif any(_is_too_much(unclear, stayed[number], ratio) for number in others):
        for number, some in _asked_of_shards(run, compared, min(1.0, ASKED / unclear)).items():
            gone[number] += some
    return KnownItems(tuple(stayed), tuple(gone))


def refusal(run: Run, ratio: float, known: KnownItems) -> str | None:
    """Says why a night may not go on: of which source more than `ratio` (0 to 1) of the items are gone."""
    lost = [
        (gone, stayed + gone, source)
        for source, stayed, gone in zip(run.request.sources, known.stayed, known.gone, strict=True)
        if _is_too_much(gone, stayed, ratio)
    ]
    if not lost or run.base is None:
        return None
    gone, items, source = max(lost, key=lambda one: one[0] / one[1])
    more = f" (and of {len(lost) - 1} other sources too many)" if len(lost) > 1 else ""
    return (
        f"--{source.kind} {source.pattern} lost {gone:,} of the {items:,} items that generation {run.base.generation} "
        f"has of it{more}, more than --max-gone-ratio {ratio:g} allows; nothing is changed: mend the source (is it "
        "mounted, and whole?), or run again with a higher ratio, 1 for any loss, where it is meant"
    )


def owner_of(uri: str, sources: Sequence[Source]) -> int | None:
    """Returns the first source that a key, or the file of a ready embedding, is of by its name; None: of none."""
    return next((number for number, source in enumerate(sources) if _is_of(uri, source)), None)


def _is_too_much(gone: int, stayed: int, ratio: float) -> bool:
    return gone > ratio * (gone + stayed)


def _is_of(uri: str, source: Source) -> bool:
    if source.lists_rows:
        return listed.file_of(source, uri) is not None
    pattern = unicodedata.normalize("NFC", source.pattern)
    name = unicodedata.normalize("NFC", uri)
    if name == pattern or name.startswith(pattern.rstrip("/") + "/"):
        return True
    return uris.is_pattern(pattern) and uris.matches(pattern, name)


def _asked_of_shards(run: Run, compared: Sequence["BucketChanges"], share: float) -> Counter[int]:
    """Counts by source the gone items whose container is unknown, by the keys that their shards have of them."""
    entries = _gone_entries(run, compared, share)
    base, reindex = run.base, run.request.reindex
    assert base is not None and reindex is not None
    store = run.base_store
    embedded = {marker.shard: marker.embeddings for marker in tables.shards_of(store, base)}
    rejects = {shard: rejected.file for shard, rejected in tables.rejects_of(store, base).items()}

    def ask(some: NDArray[np.void]) -> Counter[int]:
        shard = int(some["shard"][0])
        try:
            keys = [
                *_embedded_keys(run, embedded.get(shard), some),
                *_rejected_keys(run, rejects.get(shard), some[some["reject"] != 0]),
            ]
        except PixdexError:
            if not reindex.repair:  # which is there for shards that cannot be read
                raise
            return Counter()
        owners = (owner_of(key, run.request.sources) for key in keys)
        return Counter(owner for owner in owners if owner is not None)

    counts: Counter[int] = Counter()
    with ThreadPoolExecutor(_READERS, "keys") as pool:
        for found in pool.map(ask, np.split(entries, np.flatnonzero(np.diff(entries["shard"])) + 1)):
            counts.update(found)
    return Counter({source: round(found / share) for source, found in counts.items()})


def _gone_entries(run: Run, compared: Sequence["BucketChanges"], share: float) -> NDArray[np.void]:
    """The entries of gone items whose container is unknown, by shard; a share of them is chosen by hash."""
    limit = int(share * (1 << 32))
    parts = []
    for bucket in compared:
        if bucket.removed is not None and bucket.changes.gone:
            gone = key_tables.read_entries(run.store, bucket.removed)[: bucket.changes.gone]
            parts.append(gone[(gone["origin"] == 0) & (gone["low"] >> np.uint64(32) < limit)])
    entries = key_tables.joined(parts)
    return entries[np.argsort(entries["shard"], kind="stable")]


def _embedded_keys(run: Run, file: FileReference | None, entries: NDArray[np.void]) -> Iterable[str]:
    """The keys of entries that have a row in a shard."""
    row = np.maximum(np.maximum(entries["image"], entries["text"]), entries["keyword"])
    rows = np.sort(row[row >= 0]).astype(np.int64)
    if file is None or not len(rows):
        return []
    groups = np.unique(rows // files.ROWS_PER_GROUP)
    with parquet_files.opened(run.base_store, file) as opened:
        keys = opened.read_row_groups(groups.tolist(), columns=["key"])["key"]
    place = np.searchsorted(groups, rows // files.ROWS_PER_GROUP) * files.ROWS_PER_GROUP + rows % files.ROWS_PER_GROUP
    found: list[str] = keys.take(place).to_pylist()
    return found


def _rejected_keys(run: Run, file: FileReference | None, entries: NDArray[np.void]) -> Iterable[str]:
    """The keys of entries that were rejected."""
    if file is None or not len(entries):
        return []
    keys = files.read_rejects(run.base_store, file)["key"].combine_chunks()
    known = np.zeros(len(keys), key_tables.ENTRY)
    known["high"], known["low"] = key_tables.hashes(keys).T
    return [key for key, wanted in zip(keys.to_pylist(), key_tables.is_among(known, entries), strict=True) if wanted]

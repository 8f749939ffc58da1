"""Key tables of a run: the entries of one shard, read back from the files that it became; and one bucket of all."""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from transforms.digests import digest
from transforms.generations import key_tables, tables
from transforms.markers import KeysMarker, ShardMarker
from transforms.records import Source
from transforms.runs import inventory
from transforms.runs.run import Run
from transforms.shards import files
from transforms.storage import parquet_files, uris
from transforms.storage.store import Store

_IN_FILE = r"#(\d+|bytes=\d+\+\d+)$"

_COLUMNS = ["key", "uri", "version", "modality", "part"]


def has_keys(run: Run) -> bool:
    """Tells whether the stage has anything to do."""
    # A run that went past the stage goes on with what that made.
    done = run.stage_marker("keys") is not None or inventory.is_idle(run)
    return not run.request.is_ready and not done


def entries_of(run: Run, shards: range) -> Iterator[tuple[int, bytes]]:
    """Yields the entries (`key_tables.ENTRY`) of some shards by bucket."""
    bits = inventory.key_bits(run)
    for marker in run.shards(shards):
        entries = shard_entries(run.store, marker, run.request.sources)
        for bucket, some in key_tables.by_bucket(entries, bits):
            yield bucket, some.tobytes()


def write_bucket(run: Run, number: int, parts: Iterable[bytes]) -> None:
    """Makes and commits a bucket: what the base has, without what is removed, with the entries of new shards."""
    bits = inventory.key_bits(run)
    known = [] if run.base is None else tables.buckets_of(run.store, run.base)
    removed = tables.removed_of(run.store, run.plan)
    task_digest = digest(bits, [one.file for one in known], [one.file for one in removed], run.plan.partitions)
    if run.marker("keys", number, KeysMarker, task_digest) is None:
        new = np.concatenate([np.frombuffer(part, key_tables.ENTRY) for part in parts])
        new = new[np.argsort(new["shard"], kind="stable")]  # a key may be in several shards, which come in any order
        before = key_tables.read_bucket(run.store, known, number, bits)
        gone = key_tables.read_bucket(run.store, removed, number, bits)
        kept = before[~key_tables.is_among(before, gone)] if len(gone) else before
        entries = key_tables.sort(np.concatenate([kept, new]))
        same = next((one.file for one in known if (one.number, one.bits) == (number, bits)), None)
        unchanged = same is not None and not len(new) and not len(gone)
        run.commit(
            "keys",
            number,
            KeysMarker(
                number=number,
                digest=task_digest,
                entries=len(entries),
                rejected=int(np.count_nonzero(entries["reject"])),
                images=int(np.count_nonzero(entries["image"] >= 0)),
                texts=int(np.count_nonzero(entries["text"] >= 0)),
                keywords=int(entries["keywords"].sum(dtype=np.int64)),
                file=same if same is not None and unchanged else key_tables.write_entries(run.store, entries),
            ),
        )


def shard_entries(store: Store, shard: ShardMarker, sources: Sequence[Source]) -> NDArray[np.void]:
    """Returns the entries (`key_tables.ENTRY`) of the items of a shard, sorted; rejected ones too.

    Cost: reads five columns; about 2 microseconds a row.
    """
    parts = []
    if shard.embeddings is not None:
        with parquet_files.opened(store, shard.embeddings) as file:
            parts.append(_embedded(file.read(columns=_COLUMNS), sources))
    if shard.rejects is not None:
        parts.append(_rejected(files.read_rejects(store, shard.rejects), sources))
    entries = key_tables.joined(parts)
    entries["shard"] = shard.shard
    return key_tables.sort(entries)


def _embedded(rows: pa.Table, sources: Sequence[Source]) -> NDArray[np.void]:
    """The items of a shard's rows: pictures stand first, then texts, then keywords, those of an item together."""
    modality = rows["modality"].combine_chunks()
    first = {}
    per_row = _entries(rows, sources)
    for kind in ("image", "text", "keyword"):
        wanted = pc.equal(modality, kind)
        if kind == "keyword":
            wanted = pc.and_(wanted, pc.equal(rows["part"], 0))
        places = np.flatnonzero(wanted.to_numpy(zero_copy_only=False))
        first[kind] = places, per_row[places]
    keyword_rows = np.flatnonzero(pc.equal(modality, "keyword").to_numpy(zero_copy_only=False))
    ends = np.append(first["keyword"][0], keyword_rows[-1] + 1 if len(keyword_rows) else 0)
    every = key_tables.sort(np.concatenate([some for _, some in first.values()]))
    items = every[~key_tables.same_as_before(every)]
    for kind, (places, some) in first.items():
        into = key_tables.place_among(items, some)
        there = into >= 0
        items[kind][there] = places[into[there]]
        if kind == "keyword":
            items["keywords"][there] = np.diff(ends)[into[there]]
    return items


def _rejected(rejects: pa.Table, sources: Sequence[Source]) -> NDArray[np.void]:
    entries = _entries(rejects, sources)
    entries["reject"] = [key_tables.reject_of(kind) for kind in rejects["type"].to_pylist()]
    return entries


def _entries(rows: pa.Table, sources: Sequence[Source]) -> NDArray[np.void]:
    """Entries of rows, of which nothing is known but which items they are of."""
    entries = np.zeros(len(rows), key_tables.ENTRY)
    keys = rows["key"].combine_chunks()
    entries["high"], entries["low"] = key_tables.hashes(keys).T
    key_tables.put_versions(entries, rows["version"].combine_chunks())
    entries["image"] = entries["text"] = entries["keyword"] = -1
    opened = rows["uri"].combine_chunks()
    for source in sources:
        if source.is_skippable:
            # The URI of a picture that is in a file ends in the number of its row, or in its place.
            names = pc.replace_substring_regex(opened, _IN_FILE, "") if source.image_bytes else opened
            for file in _files_of(source, names):
                # Both, for a picture may be called `rows.csv#1.png`, and a glob may take the CSV itself for one.
                of_file = pc.and_(pc.starts_with(keys, unicodedata.normalize("NFC", file) + "#"), pc.equal(names, file))
                entries["origin"][of_file.to_numpy(zero_copy_only=False)] = key_tables.origin_of(file)
    return entries


def _files_of(source: Source, names: pa.Array) -> Iterator[str]:
    """The files of a source that rows may be of."""
    yield source.pattern
    if uris.is_pattern(source.pattern):
        yield from (name for name in pc.unique(names).to_pylist() if uris.matches(source.pattern, name))

"""Lists one container of a source into an item table: what a plan is cut from.

Nothing of an item passes from worker to worker but a record of 48 bytes: hashes of its key and version, and where in
which item table it stands.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from transforms.derivation import RootPart
from transforms.generations import key_tables, tables
from transforms.generations.key_tables import KeyBatch
from transforms.ready_range import VectorRange
from transforms.records import Source
from transforms.runs.partitions import Listing
from transforms.runs.run import Run
from transforms.sources import items
from transforms.sources.left_out import Tally
from transforms.sources.ready import vectors
from transforms.sources.ready.vectors import ReadyFile, VectorFile
from transforms.sources.table_rows import RowListing
from transforms.storage import layout
from transforms.tasks import ready_changes
from transforms.tasks.derive import cut

if TYPE_CHECKING:
    from transforms.sources.pictures import PictureListing

FILES_AT_ONCE: Final = 64
"""Files of ready embeddings whose headers one element stands for: each takes a worker two small reads."""


@dataclass(frozen=True)
class Container:
    """A part of a source that one worker lists: a folder, with or without what lies below it, or a file of rows."""

    source: int
    name: str


@dataclass(frozen=True)
class VectorFiles:
    """Some files of ready embeddings, whose headers one worker reads."""

    files: tuple[VectorFile, ...]


@dataclass(frozen=True)
class Beside:
    """What a container has that is no item of the source.

    Attributes:
        source: number of the source.
        left_out: how many files of each kind are not taken.
        named, unnamed: pictures whose names `key_pattern` matches, and does not match.
    """

    source: int
    left_out: tuple[tuple[str, int], ...]
    named: int = 0
    unnamed: int = 0


@dataclass(frozen=True)
class SkippableFile:
    """A file whose items are all the same while its version is; `opened` tells that it was read this time."""

    uri: str
    version: str
    opened: bool


@dataclass(frozen=True)
class BucketRecords:
    """Records of listed items that fall into one hash bucket."""

    bucket: int
    batch: KeyBatch


Part = Container | VectorFiles | Beside | cut.RootShards | cut.RootLists
"""What one worker lists."""


def listing_of(source: Source) -> "PictureListing | RowListing":
    """Returns what lists a source of pictures or rows."""
    return _pictures_of(source) if source.kind == "images" else RowListing(source)


def containers_of(run: Run) -> Iterator[Part]:
    """Yields the containers of all sources, and what lies beside ready embeddings; none when the plan is there."""
    if run.is_planned:
        return
    if run.request.derivation is not None:
        yield from cut.containers_of(run)
        return
    sources = run.request.sources
    files: dict[str, None] = {}
    for number, source in enumerate(sources):
        if source.kind != "vectors":
            # A file of rows that two globs match is one file: the earlier glob has it.
            names = [name for name in listing_of(source).containers() if not source.lists_rows or name not in files]
            files |= dict.fromkeys(names if source.lists_rows else ())
            yield from (Container(number, name) for name in names)
    ready = vectors.files_of(sources)
    for number, source in enumerate(sources):
        if source.kind == "vectors" and (beside := vectors.left_out(source)):
            yield Beside(number, tuple(beside.items()))
    for start in range(0, len(ready), FILES_AT_ONCE):
        yield VectorFiles(tuple(ready[start : start + FILES_AT_ONCE]))


@dataclass(frozen=True)
class Lister:
    """Lists containers of a run, one after the other; `bits` number a bucket."""

    run: Run
    bits: int

    def list(self, part: Part) -> Iterator[Listing | ReadyFile | RootPart | BucketRecords | SkippableFile | Beside]:
        """Lists a container into an item table, or reads the headers of some files of ready embeddings.

        Yields a `Listing`, the records of its items by hash bucket, the version of a file of rows that names no
        picture, and what lies beside pictures; or `ReadyFile`s; or, of another root, its parts. A file of rows that has
        the version that the base knows is not opened: its items are as they were. (One that names pictures is read
        every time, for a picture may change while the row that names it does not.)
        """
        sources = self.run.request.sources
        if isinstance(part, Beside):
            yield part
            return
        if isinstance(part, cut.RootShards | cut.RootLists):
            yield from cut.parts_of(self.run, part)
            return
        if isinstance(part, VectorFiles):
            yield from vectors.read_heads(sources, part.files, self._known_ranges)
            return
        source = sources[part.source]
        if source.is_skippable:
            version = RowListing(source).version(part.name)
            opened = self._known_versions.get(part.name) != version
            yield SkippableFile(part.name, version, opened)
            if not opened:
                return
        yield from self._items(part)

    def _items(self, container: Container) -> Iterator[Listing | BucketRecords | Beside]:
        store, tally = self.run.store, Tally()
        with store.scratch() as scratch:
            file = scratch / "items.parquet"
            items.write(self._batches(container, tally), file)
            if tally != Tally():
                yield Beside(container.source, tuple(tally.left_out.items()), tally.named, tally.unnamed)
            if not file.exists():
                return
            table = store.upload(file, layout.items_folder(self.run.generation), layout.items_stem(container.source))
        chunks: list[tuple[int, int]] = []
        start = 0
        for batch in items.scan(store, table.path):
            chunks += items.chunks_of(batch[items.ROWS].to_numpy())
            listed = key_tables.listed(batch["key"], batch["version"], start)
            for bucket, entries in key_tables.by_bucket(listed, self.bits):
                yield BucketRecords(bucket, (table.path, entries.tobytes()))
            start += len(batch)
        yield Listing(container.source, container.name, table, tuple(chunks))

    def _batches(self, container: Container, tally: Tally) -> Iterator[pa.Table]:
        sources = self.run.request.sources
        source = sources[container.source]
        listing = listing_of(source)
        if isinstance(listing, RowListing):
            yield from listing.batches(container.name, tally)
            return
        # A file that two globs match is one object, not two with one key: the earlier glob has it.
        others = [
            (number, _pictures_of(other))
            for number, other in enumerate(sources)
            if number != container.source and other.kind == "images" and _protocol(other) == _protocol(source)
        ]
        earlier = [other for number, other in others if number < container.source]
        later = [other for number, other in others if number > container.source]
        yield from listing.batches(container.name, earlier, later, tally)

    @cached_property
    def _known_versions(self) -> dict[str, str]:
        """The versions of files that need not be opened; none where unchanged items are to be embedded again."""
        base, reindex = self.run.base, self.run.request.reindex
        again = reindex is not None and (reindex.retry is not None or reindex.repair)
        return {} if base is None or again else tables.containers_of(self.run.base_store, base)

    @cached_property
    def _known_ranges(self) -> dict[str, VectorRange]:
        """A range of each file of ready embeddings that the base has; one whose rows are dead is read again."""
        return {uri: ranges[0].ready for uri, ranges in ready_changes.live_ranges(self.run).items()}


def _pictures_of(source: Source) -> "PictureListing":
    from transforms.sources.pictures import PictureListing  # noqa: PLC0415 - ready embeddings need no Pillow

    return PictureListing(source)


def _protocol(source: Source) -> str:
    return source.pattern.partition("://")[0]

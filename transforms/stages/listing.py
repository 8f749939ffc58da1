"""Lists the containers of all sources on many workers, into item tables; what a plan is cut from.

Nothing of an item passes from worker to worker but a record of 32 bytes: hashes of its key and version, and where in
which item table it stands.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.pvalue import TaggedOutput
from numpy.typing import NDArray

from transforms.generations import key_tables, manifest, tables
from transforms.generations.manifest import Generation
from transforms.records import Source, VectorRange
from transforms.runs.partitions import Listing
from transforms.runs.run import Run
from transforms.sources import items, vectors
from transforms.sources.csv_rows import CsvListing
from transforms.sources.vectors import ReadyFile, VectorFile
from transforms.storage import layout
from transforms.storage.store import Store

if TYPE_CHECKING:
    from transforms.sources.pictures import PictureListing

FILES_AT_ONCE = 64
"""Files of ready embeddings whose headers one element stands for: each takes a worker two small reads."""

KEYS: Final = "keys"
CONTAINERS: Final = "containers"

KeyBatch = tuple[str, bytes]
"""The path of an item table, and for some of its items the records of `key_table.LISTED`."""


@dataclass(frozen=True)
class Container:
    """A part of a source that one worker lists: a folder, with or without what lies below it, or a CSV file."""

    source: int
    name: str


@dataclass(frozen=True)
class VectorFiles:
    """Some files of ready embeddings, whose headers one worker reads."""

    files: tuple[VectorFile, ...]


@dataclass(frozen=True)
class SkippableFile:
    """A file whose items are all the same while its version is; `opened` tells that it was read this time."""

    uri: str
    version: str
    opened: bool


def listing_of(source: Source) -> "PictureListing | CsvListing":
    """Returns what lists a source of pictures or rows."""
    return _pictures_of(source) if source.kind == "images" else CsvListing(source)


def base_of(run: Run, store: Store) -> Generation | None:
    """Returns the generation that a run goes on from, in the root where it lies."""
    reindex = run.request.reindex
    return None if reindex is None else manifest.read(store, reindex.base)


def _pictures_of(source: Source) -> "PictureListing":
    from transforms.sources.pictures import PictureListing  # noqa: PLC0415 - ready embeddings need no Pillow

    return PictureListing(source)


class ExpandSources(beam.DoFn):
    """Yields the containers of all sources; none when the plan is there."""

    def __init__(self, run: Run) -> None:
        """Takes the run."""
        self._run = run

    def process(self, generation: int) -> Iterator[Container | VectorFiles]:
        """Yields small records."""
        if self._run.store.exists(layout.plan(generation)):
            return
        sources = self._run.request.sources
        for number, source in enumerate(sources):
            if source.kind != "vectors":
                listing = listing_of(source)
                names = [source.pattern] if isinstance(listing, CsvListing) else listing.containers()
                yield from (Container(number, name) for name in names)
        files = vectors.files_of(sources)
        for start in range(0, len(files), FILES_AT_ONCE):
            yield VectorFiles(tuple(files[start : start + FILES_AT_ONCE]))


class ListContainer(beam.DoFn):
    """Lists a container into an item table, or reads the headers of some files of ready embeddings.

    Yields a `Listing` or `ReadyFile`s; at `KEYS` the records of its items, by hash bucket; at `CONTAINERS` the version
    of a CSV that names no picture. One that has the version that the base knows is not opened: its items are as they
    were. (A CSV with pictures is read every time, for a picture may change while the row that names it does not.)
    """

    def __init__(self, run: Run, base: Store, bits: int) -> None:
        """Takes the run, the root of the generation that it goes on from, and how many bits number a bucket."""
        self._run, self._store, self._bits = run, base, bits
        self._skippable: dict[str, str] | None = None
        self._ranges: dict[str, VectorRange] | None = None

    def process(
        self, part: Container | VectorFiles
    ) -> Iterator[
        Listing
        | ReadyFile
        | TaggedOutput[Literal["keys"], tuple[int, KeyBatch]]
        | TaggedOutput[Literal["containers"], SkippableFile]
    ]:
        """Lists one."""
        sources = self._run.request.sources
        if isinstance(part, VectorFiles):
            yield from vectors.read_heads(sources, part.files, self._known_ranges())
            return
        source = sources[part.source]
        if source.kind == "csv" and not source.image_column:
            version = CsvListing(source).version()
            opened = self._known_versions().get(source.pattern) != version
            found = SkippableFile(source.pattern, version, opened)
            yield TaggedOutput[Literal["containers"], SkippableFile](CONTAINERS, found)
            if not opened:
                return
        yield from self._items(part)

    def _items(self, container: Container) -> Iterator[Listing | TaggedOutput[Literal["keys"], tuple[int, KeyBatch]]]:
        store = self._run.store
        with store.scratch() as scratch:
            file = scratch / "items.parquet"
            items.write(self._batches(container), file)
            if not file.exists():
                return
            table = store.upload(file, layout.items_folder(self._run.generation), f"items-{container.source:04d}")
        chunks: list[tuple[int, int]] = []
        start = 0
        for batch in items.scan(store, table.path):
            chunks += items.chunks_of(batch[items.ROWS].to_numpy())
            listed = key_tables.listed(batch["key"], batch["version"], start)
            for bucket, entries in key_tables.by_bucket(listed, self._bits):
                yield TaggedOutput(KEYS, (bucket, (table.path, entries.tobytes())))
            start += len(batch)
        yield Listing(container.source, container.name, table, tuple(chunks))

    def _batches(self, container: Container) -> Iterator[pa.Table]:
        sources = self._run.request.sources
        source = sources[container.source]
        listing = listing_of(source)
        if isinstance(listing, CsvListing):
            yield from listing.batches()
            return
        # A file that two globs match is one object, not two with one key: the earlier glob has it.
        earlier = [
            _pictures_of(other)
            for other in sources[: container.source]
            if other.kind == "images" and _protocol(other) == _protocol(source)
        ]
        yield from listing.batches(container.name, earlier)

    def _known_versions(self) -> dict[str, str]:
        """The versions of files that need not be opened; none where unchanged items are to be embedded again."""
        if self._skippable is None:
            base, reindex = base_of(self._run, self._store), self._run.request.reindex
            again = reindex is not None and (reindex.retry is not None or reindex.repair)
            self._skippable = {} if base is None or again else tables.containers_of(self._store, base)
        return self._skippable

    def _known_ranges(self) -> dict[str, VectorRange]:
        """A range of each file of ready embeddings that the base has."""
        if self._ranges is None:
            base = base_of(self._run, self._store)
            shards = [] if base is None else tables.shards_of(self._store, base)
            self._ranges = {marker.ready.uri: marker.ready for marker in shards if marker.ready}
        return self._ranges


def records_of(data: bytes) -> NDArray[np.void]:
    """Reads the records of a batch back."""
    return np.frombuffer(data, key_tables.LISTED)


def _protocol(source: Source) -> str:
    return source.pattern.partition("://")[0]

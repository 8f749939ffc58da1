"""Begins an export, or goes on with one, and writes its files one after the other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from transforms.errors import UsageError
from transforms.export import autofaiss_layout, clip_layout, faiss_layout, parquet_layout
from transforms.export.destination import Destination, Done, Export
from transforms.export.layout import Layout
from transforms.export.origin import Origin
from transforms.generations import published
from transforms.generations.manifest import Generation
from transforms.generations.published import open_generation
from transforms.storage.store import Store

LAYOUTS: Final[Mapping[str, Callable[[Origin, Path, int], Layout]]] = MappingProxyType(
    {
        "faiss": faiss_layout.layout,
        "autofaiss": autofaiss_layout.layout,
        "clip-retrieval": clip_layout.layout,
        "parquet": parquet_layout.layout,
    }
)

MOST_ROWS: Final = 1 << 20
_FILE_BYTES: Final = 1 << 30


@dataclass
class Tally:
    """How far an export is: rows that are written, of how many; a row counts for each file that it is in."""

    done: int = 0
    total: int | None = None

    def tell(self, rows: int) -> None:
        """Counts rows."""
        self.done += rows


@dataclass(frozen=True)
class Asked:
    """What is asked for: a layout, where it goes, and what of the root is in it.

    `rows_per_file` is None where files are to be of about 1 GiB of vectors, and of 1,048,576 rows at most.
    """

    layout: str
    folder: Path
    with_hidden: bool = False
    rows_per_file: int | None = None
    trust_uris: bool = False
    tally: Tally = field(default_factory=Tally)


@dataclass(frozen=True)
class Exported:
    """What was exported; `was_there` where nothing had to be done, and `note` as of `Layout`."""

    generation: int
    rows: int
    files: int
    was_there: bool = False
    note: str = ""


def export(store: Store, asked: Asked) -> Exported:
    """Writes an export, or what is missing of one that was begun, of the generation that it was begun with.

    Cost: what is exported is read once for each kind of file. Memory does not grow with rows but for what a search has,
    too: 1 KB a shard, 10 KiB for each shard with dead rows.

    Raises:
        UsageError: the folder holds something else, or there is nothing to export.
        PixdexError: the root is damaged, or another process exports to the folder.
    """
    current = open_generation(store)
    if store.local is not None and asked.folder.resolve().is_relative_to(store.local.resolve()):
        raise UsageError(f"{asked.folder} is in the root: name a folder elsewhere")
    place = Destination(asked.folder)
    if (finished := _finished(place, _adopted(store, current, asked, place.asked()), current)) is not None:
        return finished
    with place.held():
        begun = place.asked()
        generation = _adopted(store, current, asked, begun)
        if (finished := _finished(place, generation, current)) is not None:  # by another process meanwhile
            return finished
        origin = Origin.open(store, generation, with_hidden=asked.with_hidden, trust_uris=asked.trust_uris)
        rows_per_file = asked.rows_per_file or default_rows(origin.dim)
        layout = LAYOUTS[asked.layout](origin, asked.folder, rows_per_file)
        if begun is None:
            place.begin(_record(asked, generation))
        asked.tally.total = sum(file.rows for file in layout.files)
        for file in layout.files:
            place.make(file, asked.tally.tell)
        place.finish(Done(layout.rows, len(layout.files)))
    return Exported(generation.generation, layout.rows, len(layout.files), note=layout.note)


def _finished(place: Destination, generation: Generation, current: Generation) -> Exported | None:
    """Returns what a folder holds whose export is finished: it need not be one to write to.

    Raises:
        UsageError: it is an export of another generation than the current one.
    """
    done = place.done()
    if done is None:
        return None
    if generation.generation != current.generation:
        raise UsageError(
            f"{place.folder} holds generation {generation.generation}, the root is at "
            f"{current.generation}: name a new or empty folder"
        )
    return Exported(generation.generation, done.rows, done.files, was_there=True)


def default_rows(dim: int) -> int:
    """Returns rows of a file, a power of two: about 1 GiB of vectors.

    >>> default_rows(512), default_rows(16)
    (524288, 1048576)
    """
    return 1 << (max(1, min(MOST_ROWS, _FILE_BYTES // (4 * dim))).bit_length() - 1)


def _record(asked: Asked, generation: Generation) -> Export:
    rows_per_file = asked.rows_per_file or default_rows(generation.trained.dim)
    return Export(asked.layout, generation.generation, generation.checksum, asked.with_hidden, rows_per_file)


def _adopted(store: Store, current: Generation, asked: Asked, begun: Export | None) -> Generation:
    """Returns the generation of the export that a folder holds, or the current one, where it holds none yet.

    Raises:
        UsageError: it is an export of something else.
    """
    if begun is None:
        return current
    way_out = "name a new or empty folder, or remove this one"
    wanted = _record(asked, current)
    for name, there, here in (
        ("--layout", begun.layout, wanted.layout),
        ("--with-hidden", begun.with_hidden, wanted.with_hidden),
        ("--rows-per-file", begun.rows_per_file, wanted.rows_per_file),
    ):
        if there != here:
            raise UsageError(f"{asked.folder} holds an export with {name} {there}, not {here}: {way_out}")
    if begun.generation not in published.numbers(store):
        raise UsageError(f"{asked.folder} holds generation {begun.generation}, which this root has not: {way_out}")
    generation = open_generation(store, begun.generation)
    if generation.checksum != begun.seal:
        raise UsageError(f"{asked.folder} holds an export of another root: {way_out}")
    return generation

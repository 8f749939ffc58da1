"""Going back: an earlier generation is published anew, under the next number."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

from transforms.errors import PixdexError
from transforms.generations import manifest, published
from transforms.generations.manifest import Generation
from transforms.records import FileReference, encode
from transforms.storage import layout, parquet_files
from transforms.storage.store import Store, missing

_LOOKERS: Final = 16


def roll_back(store: Store, earlier: Generation) -> Generation:
    """Publishes an earlier generation anew; what was added since is new again for the next reindex.

    Raises:
        PixdexError: a file that it needs is gone or cut short, or another generation was published meanwhile.
    """
    check_whole(store, earlier)
    number = published.next_number(store)
    again = manifest.seal(replace(earlier, generation=number, next_shard=published.next_shard(store)))
    if not store.create(layout.generation(number), encode(again)):
        raise PixdexError(f"{store.url}: generation {number} was published meanwhile: look at it, then run again")
    return again


def check_whole(store: Store, generation: Generation) -> None:
    """Checks that everything a generation needs is there with its size; contents are not read.

    Raises:
        PixdexError: names the first file that is not.
    """
    with ThreadPoolExecutor(_LOOKERS, "look") as pool:
        files = references(store, generation)
        for file, is_there in zip(files, pool.map(store.holds, files), strict=True):
            if not is_there:
                found = missing(store, file.path)
                raise PixdexError(f"generation {generation.generation} is not whole: {found}")


def references(store: Store, generation: Generation) -> list[FileReference]:
    """Returns every file below the root that a generation names, with its size and checksum."""
    trained = generation.trained
    named = [trained.index, trained.training, trained.assignment, generation.canaries, *generation.tables.all]
    if not generation.is_segmented:
        named.append(generation.index)
    found = [file for file in named if file is not None]
    for table in generation.tables.all:
        columns = parquet_files.read(store, table)
        if table == generation.tables.segments and not generation.is_segmented:
            continue  # its rows are ranges of one file
        if "path" in columns.column_names:
            rows = columns.select(["path", "bytes", "checksum"]).to_pylist()
            found += [FileReference(**row) for row in rows if row["path"]]
    return found

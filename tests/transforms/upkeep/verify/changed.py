"""Generations in which one thing does not agree with the rest."""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.generations import tables
from transforms.generations.manifest import Generation
from transforms.index.lists.opened import opened_lists
from transforms.index.lists.writer import write_lists
from transforms.records import FileReference
from transforms.storage import layout, parquet_files
from transforms.storage.store import Store
from transforms.upkeep.verify import verify


def named(store: Store, generation: Generation, *, quick: bool = False) -> set[str]:
    """The paths, relative to the root, of what is wrong."""
    return {finding.path.removeprefix(f"{store.url}/") for finding in verify(store, generation, quick=quick).findings}


def with_table(
    store: Store, generation: Generation, name: str, change: Callable[[list[dict[str, Any]]], object]
) -> Generation:
    """The generation with another table, whose rows were changed."""
    stands: FileReference = getattr(generation.tables, name)
    table = parquet_files.read(store, stands)
    rows = table.to_pylist()
    change(rows)
    written = parquet_files.write_table(store, pa.Table.from_pylist(rows, table.schema))
    return replace(generation, tables=replace(generation.tables, **{name: written}))


def with_total(generation: Generation, name: str, more: int = 1) -> Generation:
    totals = generation.totals
    return replace(generation, totals=replace(totals, **{name: getattr(totals, name) + more}))


def table_rows(store: Store, generation: Generation, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = parquet_files.read(store, getattr(generation.tables, name)).to_pylist()
    return found


def with_delta(store: Store, generation: Generation, change: Callable[[NDArray[np.int64]], None]) -> Generation:
    """The generation with another delta, as many rows long, whose ids were changed; it is the last block."""
    block = tables.blocks_of(store, generation)[-1]
    assert (block.merged, block.rows) == (False, 2)
    with opened_lists(store, block.lists) as lists:
        list_nos, codes, ids = lists.read(lists.lists).unpack()
    ids = ids.copy()
    change(ids)
    trained = generation.trained
    with store.scratch() as scratch:
        file = scratch / "block.ivf"
        with file.open("wb") as out:
            seal = write_lists(
                out, list_nos=list_nos, codes=codes, ids=ids, nlist=trained.nlist, fingerprint=trained.fingerprint
            )
        folder = layout.lists_folder(trained.fingerprint)
        written = store.upload(file, folder, layout.block_stem(1), f"xxh3:{seal.checksum}")

    def name_it(rows: list[dict[str, Any]]) -> None:
        rows[-1] |= asdict(written)

    return with_table(store, generation, "blocks", name_it)


def delta_of(store: Store, generation: Generation) -> str:
    return tables.blocks_of(store, generation)[-1].lists.path

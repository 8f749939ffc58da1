"""Compacts one shard index of the base: what lives of it, without its dead rows."""

from typing import BinaryIO

from transforms.digests import digest
from transforms.generations.tables import BlockMember
from transforms.index.lists.format import Seal
from transforms.index.lists.opened import opened_lists
from transforms.index.lists.reader import ListFile
from transforms.index.lists.writer import write_lists, write_lists_file
from transforms.markers import ListsMarker
from transforms.runs import inventory
from transforms.runs.run import Run
from transforms.shards.vectors import Choose
from transforms.storage import layout


def compact_block(run: Run, number: int, block: BlockMember) -> None:
    """Makes and commits a shard index of the live rows of a block; one that is compacted is left alone."""
    folders = range(layout.folder_of(block.first_shard), layout.folder_of(block.last_shard) + 1)
    files = [file for folder, file in inventory.tombstone_files(run).items() if folder in folders]
    task_digest = digest(block.lists, files)
    if run.marker("compact", number, ListsMarker, task_digest) is None:
        run.commit("compact", number, _compacted(run, number, block, task_digest, folders))


def write_living(file: ListFile, alive: Choose, out: BinaryIO) -> tuple[int, Seal]:
    """Writes what lives of a list file as another one: the bytes of writing these entries at once.

    Memory: all its entries, four times. Returns how many live, and the seal.
    """
    list_nos, codes, ids = file.read(file.lists).unpack()
    living = alive(ids)
    return int(living.sum()), write_lists(
        out,
        list_nos=list_nos[living],
        codes=codes[living],
        ids=ids[living],
        nlist=file.nlist,
        fingerprint=file.fingerprint,
        lists=file.lists,
    )


def _compacted(run: Run, number: int, block: BlockMember, task_digest: str, folders: range) -> ListsMarker:
    trained, alive = run.trained().trained, inventory.dead_rows(run, folders).are_alive

    def write(out: BinaryIO) -> tuple[int, Seal]:
        with opened_lists(run.store, block.lists) as file:
            return write_living(file, alive, out)

    folder, stem = layout.lists_folder(trained.fingerprint), layout.block_stem(number)
    rows, lists = write_lists_file(run.store, folder, stem, write)
    return ListsMarker(number, task_digest, rows, lists)

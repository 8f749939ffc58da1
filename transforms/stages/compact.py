"""Drops dead rows from shard indexes, before all of them are merged anew."""

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import PCollection

from transforms.generations.tables import BlockMember
from transforms.index.lists.opened import opened_lists
from transforms.index.lists.writer import write_lists
from transforms.markers import ListsMarker, StageMarker
from transforms.records import digest
from transforms.runs import inventory
from transforms.runs.run import Run
from transforms.stages.barrier import FinishStage
from transforms.storage import layout


@dataclass(eq=False)
class CompactBlocks(beam.PTransform):
    """Rewrites every shard index of the base that has dead rows, where the run merges all; each is a task.

    Cost: reads these shard indexes and writes what lives of them. Memory of a worker is one of them (at most 512 MiB),
    four times.
    """

    run: Run

    def expand(self, added: PCollection[StageMarker]) -> PCollection[StageMarker]:
        """Takes the marker of the add stage."""
        return (
            added
            | "BlocksToCompact" >> beam.ParDo(_BlocksToCompact(self.run))
            # Breaks the fusion with the one planner: blocks are compacted on all workers.
            | "SpreadBlocks" >> beam.Reshuffle()
            | "CompactBlock" >> beam.ParDo(_CompactBlock(self.run))
            | "CompactDone" >> FinishStage(self.run, "compact")
        )


class _BlocksToCompact(beam.DoFn):
    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, added: StageMarker) -> Iterator[tuple[int, BlockMember]]:
        yield from inventory.to_compact(self._run)


class _CompactBlock(beam.DoFn):
    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, place: tuple[int, BlockMember]) -> Iterator[int]:
        run, (number, block) = self._run, place
        folders = range(layout.folder_of(block.first_shard), layout.folder_of(block.last_shard) + 1)
        files = [file for folder, file in inventory.tombstone_files(run).items() if folder in folders]
        answered = digest(block.lists, files)
        if run.marker("compact", number, ListsMarker, answered) is None:
            run.commit("compact", number, self._compacted(number, block, answered, folders))
        yield number

    def _compacted(self, number: int, block: BlockMember, answered: str, folders: range) -> ListsMarker:
        run, trained = self._run, self._run.trained().trained
        with opened_lists(run.store, block.lists) as file:
            list_nos, codes, ids = file.read(range(trained.nlist)).unpack()
        alive = inventory.dead_rows(run, folders).are_alive(ids)
        with run.store.scratch() as scratch:
            compacted = scratch / "block.ivf"
            with compacted.open("wb") as stream:
                seal = write_lists(
                    stream,
                    list_nos=list_nos[alive],
                    codes=codes[alive],
                    ids=ids[alive],
                    nlist=trained.nlist,
                    fingerprint=trained.fingerprint,
                )
            folder, stem = layout.lists_folder(trained.fingerprint), layout.block_stem(number)
            lists = run.store.upload(compacted, folder, stem, f"xxh3:{seal.checksum}")
        return ListsMarker(number, answered, int(alive.sum()), lists)

"""The add stage: every block of shards becomes one shard index, lists only."""

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import PCollection
from apache_beam.utils.shared import Shared

from transforms import layout, planning
from transforms.index import training
from transforms.index.encode import encode_block
from transforms.index.list_writer import write_lists
from transforms.planning import Block
from transforms.records import ListsMarker, ShardMarker, StageMarker, TrainedIndex, digest, row_ids
from transforms.run import Run
from transforms.shards import read_vectors
from transforms.stage import FinishStage
from transforms.store import Store
from transforms.threads import threads


@dataclass(eq=False)
class AddBlocks(beam.PTransform):
    """Assigns and encodes every block in parallel; the trained index is opened once a process and never copied.

    Cost: reads every shard once and writes its codes and ids. Memory of a worker is the trained index, one shard's
    vectors, and the codes of one block.
    """

    run: Run

    def expand(self, trained: PCollection[StageMarker]) -> PCollection[StageMarker]:
        """Takes the marker of the train stage."""
        return (
            trained
            | "BlocksToAdd" >> beam.ParDo(_BlocksToAdd(self.run))
            # Breaks the fusion with the one reader of the plan: blocks are added on all workers.
            | "SpreadBlocks" >> beam.Reshuffle()
            | "AddBlock" >> beam.ParDo(_AddBlock(self.run))
            | "AddDone" >> FinishStage(self.run, "add")
        )


class _BlocksToAdd(beam.DoFn):
    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, trained: StageMarker) -> Iterator[Block]:
        yield from planning.read_blocks(self._run.store, self._run.plan)


class _AddBlock(beam.DoFn):
    def __init__(self, run: Run) -> None:
        self._run = run
        self._shared = Shared()

    def process(self, block: Block) -> Iterator[int]:
        run, trained = self._run, self._run.trained().trained
        shards = [marker for marker in run.markers("embed", block.shards, ShardMarker) if marker.embeddings]
        answered = digest(trained.fingerprint, [marker.embeddings for marker in shards])
        if run.marker("add", block.number, ListsMarker, answered) is None:
            opened = self._shared.acquire(lambda: OpenedIndex(run.store, trained), tag=trained.fingerprint)
            with threads(run):
                marker = add_block(run, block, shards, opened, answered)
            run.commit("add", block.number, marker)
        yield block.number


class OpenedIndex:
    """A trained index in memory; `Shared` needs an object that takes weak references, which faiss's do not."""

    def __init__(self, store: Store, trained: TrainedIndex) -> None:
        """Opens it."""
        self.trained = trained
        self.index = training.load(store, trained.index)


def add_block(run: Run, block: Block, shards: list[ShardMarker], opened: OpenedIndex, answered: str) -> ListsMarker:
    """Writes and uploads the shard index of a block. Returns its marker, which is not yet committed."""
    trained = opened.trained
    list_nos, codes, ids = [], [], []
    for marker in shards:
        assert marker.embeddings is not None
        vectors = read_vectors(run.store, marker.embeddings)
        found_ids = row_ids(marker.shard, len(vectors))
        found_lists, found_codes = encode_block(opened.index, vectors, found_ids)
        list_nos.append(found_lists)
        codes.append(found_codes)
        ids.append(found_ids)
    with run.store.scratch() as scratch:
        file = scratch / "block.ivf"
        with file.open("wb") as stream:
            seal = write_lists(
                stream,
                list_nos=np.concatenate([np.empty(0, np.int64), *list_nos]),
                codes=np.concatenate([np.empty((0, trained.code_size), np.uint8), *codes]),
                ids=np.concatenate([np.empty(0, np.int64), *ids]),
                nlist=trained.nlist,
                fingerprint=trained.fingerprint,
            )
        folder, stem = layout.lists_folder(trained.fingerprint), layout.block_stem(block.number)
        lists = run.store.upload(file, folder, stem, f"xxh3:{seal.checksum}")
    return ListsMarker(block.number, answered, sum(marker.rows for marker in shards), lists)

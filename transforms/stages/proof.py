"""Exact neighbours as a graph: shards are looked through by all workers, and what they found is joined."""

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import PBegin, PCollection
from apache_beam.transforms.combiners import Count

from transforms.proof.exact import find, join, tasks
from transforms.proof.request import Proof


@dataclass(eq=False)
class FindNeighbours(beam.PTransform):
    """Finds the exact neighbours of all queries of a proof, and keeps them in its folder.

    Cost: the number of each task travels, and nothing else; every vector of the generation is read once.
    """

    proof: Proof

    def expand(self, begin: PBegin) -> PCollection[int]:
        """Begins with nothing: request and queries are committed."""
        return (
            begin
            | "Begin" >> beam.Create([0])
            | "Tasks" >> beam.ParDo(_Tasks(self.proof))
            # Breaks the fusion with what lists them: shards are looked through on all workers.
            | "SpreadTasks" >> beam.Reshuffle()
            | "Find" >> beam.ParDo(_Find(self.proof))
            | "Count" >> Count.Globally()
            | "Join" >> beam.ParDo(_Join(self.proof))
        )


class _Task(beam.DoFn):
    """Holds a proof; what it does is the business of `transforms.proof`."""

    def __init__(self, proof: Proof) -> None:
        self._proof = proof


class _Tasks(_Task):
    def process(self, _: int) -> Iterator[int]:
        yield from range(tasks(self._proof))


class _Find(_Task):
    def process(self, number: int) -> Iterator[int]:
        find(self._proof, number)
        yield number


class _Join(_Task):
    def process(self, found: int) -> Iterator[int]:
        join(self._proof)
        yield found

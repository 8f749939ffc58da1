"""A batch search as a graph: its parts are planned, answered by all workers, and joined when all are in."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import apache_beam as beam
from apache_beam.pvalue import PBegin, PCollection
from apache_beam.transforms.combiners import Count

from transforms.batch.answer import answer_part
from transforms.batch.plan import plan
from transforms.batch.publish import is_published, publish
from transforms.batch.request import Batch
from transforms.batch.slices import PARTS_AT_ONCE, count_slice, prepare_part, scan_slice
from transforms.errors import PixdexError

T = TypeVar("T")


@dataclass(eq=False)
class AnswerQueries(beam.PTransform):
    """Answers all queries of a batch and publishes its output.

    Cost: the numbers of parts and slices travel, and nothing else. A worker opens the generation once a process.
    """

    batch: Batch

    def expand(self, begin: PBegin) -> PCollection[int]:
        """Begins with nothing: the request is committed."""
        planned = begin | "Begin" >> beam.Create([0]) | "Plan" >> beam.ParDo(_Plan(self.batch))
        if self.batch.slice_bytes is not None:
            planned = planned | "ScanSlices" >> _ScanSlices(self.batch)
        return (
            planned
            | "Parts" >> beam.ParDo(_Parts(self.batch))
            # Breaks the fusion with the one planner: parts are answered on all workers.
            | "SpreadParts" >> beam.Reshuffle()
            | "Answer" >> beam.ParDo(_Answer(self.batch))
            | "CountParts" >> Count.Globally()
            | "Publish" >> beam.ParDo(_Publish(self.batch))
        )


@dataclass(eq=False)
class _ScanSlices(beam.PTransform):
    """Scans every slice for the queries of every part, once their vectors are made and rows are counted.

    Cost: a number for each part and slice travels, and for each slice and 32 parts another.
    """

    batch: Batch

    def expand(self, planned: PCollection[int]) -> PCollection[int]:
        """Takes one element, and returns one when all is done."""
        return (
            planned
            | "Preparations" >> beam.ParDo(_Preparations(self.batch))
            # Breaks the fusion with the one planner: parts and slices are prepared on all workers.
            | "SpreadPreparations" >> beam.Reshuffle()
            | "Prepare" >> beam.ParDo(_Prepare(self.batch))
            | "CountPrepared" >> Count.Globally()
            | "Scans" >> beam.ParDo(_Scans(self.batch))
            # Breaks the fusion with what lists them: slices are scanned on all workers.
            | "SpreadScans" >> beam.Reshuffle()
            | "Scan" >> beam.ParDo(_Scan(self.batch))
            | "CountScans" >> Count.Globally()
        )


class _Task(beam.DoFn):
    """Holds a batch; what it does is the business of `transforms.batch`."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def _done(self, task: Callable[[], T]) -> T | None:
        """Does a task, unless another launcher of the same command has come to its end, and has cleaned up."""
        try:
            return None if is_published(self._batch) else task()
        except (PixdexError, OSError) as error:
            if is_published(self._batch):
                return None
            work = self._batch.work
            if isinstance(error, PixdexError) and work.full("") in str(error):
                raise PixdexError(f"{error}; remove {work.url}, and run the same command again") from error
            raise


class _Plan(_Task):
    def process(self, begun: int) -> Iterator[int]:
        self._done(lambda: plan(self._batch))
        yield begun


class _Parts(_Task):
    def process(self, _: int) -> Iterator[int]:
        yield from self._done(lambda: range(len(self._batch.plan.parts))) or ()


class _Preparations(_Task):
    """Lists parts, and slices, by their numbers."""

    def process(self, _: int) -> Iterator[tuple[str, int]]:
        counts = self._done(lambda: {"part": len(self._batch.plan.parts), "slice": len(self._batch.slices)})
        for what, count in (counts or {}).items():
            yield from ((what, number) for number in range(count))


class _Prepare(_Task):
    def process(self, task: tuple[str, int]) -> Iterator[int]:
        what, number = task
        prepare = count_slice if what == "slice" else prepare_part
        self._done(lambda: prepare(self._batch, number))
        yield number


class _Scans(_Task):
    def process(self, _: int) -> Iterator[tuple[int, int]]:
        counts = self._done(lambda: (len(self._batch.slices), len(self._batch.plan.parts)))
        slices, parts = counts or (0, 0)
        for number in range(slices):
            yield from ((number, first) for first in range(0, parts, PARTS_AT_ONCE))


class _Scan(_Task):
    def process(self, task: tuple[int, int]) -> Iterator[int]:
        number, first = task

        def scan() -> None:
            parts = range(first, min(first + PARTS_AT_ONCE, len(self._batch.plan.parts)))
            scan_slice(self._batch, number, parts)

        self._done(scan)
        yield number


class _Answer(_Task):
    def process(self, number: int) -> Iterator[int]:
        self._done(lambda: answer_part(self._batch, number))
        yield number


class _Publish(_Task):
    def process(self, parts: int) -> Iterator[int]:
        self._done(lambda: publish(self._batch))
        yield parts

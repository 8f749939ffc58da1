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
from transforms.errors import PixdexError

T = TypeVar("T")


@dataclass(eq=False)
class AnswerQueries(beam.PTransform):
    """Answers all queries of a batch and publishes its output.

    Cost: the number of each part travels, and nothing else. A worker opens the generation once a process.
    """

    batch: Batch

    def expand(self, begin: PBegin) -> PCollection[int]:
        """Begins with nothing: the request is committed."""
        return (
            begin
            | "Begin" >> beam.Create([0])
            | "Plan" >> beam.ParDo(_Plan(self.batch))
            # Breaks the fusion with the one planner: parts are answered on all workers.
            | "SpreadParts" >> beam.Reshuffle()
            | "Answer" >> beam.ParDo(_Answer(self.batch))
            | "Count" >> Count.Globally()
            | "Publish" >> beam.ParDo(_Publish(self.batch))
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
    def process(self, _: int) -> Iterator[int]:
        made = self._done(lambda: plan(self._batch))
        yield from range(len(made.parts) if made is not None else 0)


class _Answer(_Task):
    def process(self, number: int) -> Iterator[int]:
        self._done(lambda: answer_part(self._batch, number))
        yield number


class _Publish(_Task):
    def process(self, parts: int) -> Iterator[int]:
        self._done(lambda: publish(self._batch))
        yield parts

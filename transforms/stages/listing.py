"""Lists the containers of all sources on many workers, into item tables; what a plan is cut from."""

from collections.abc import Iterator
from typing import Final, Literal

from apache_beam.pvalue import TaggedOutput

from transforms.derivation import RootPart
from transforms.generations.key_tables import KeyBatch
from transforms.runs.partitions import Listing
from transforms.runs.run import Run
from transforms.sources.ready.vectors import ReadyFile
from transforms.stages import lineage
from transforms.stages.run_task import RunTask
from transforms.tasks.listing import (
    Beside,
    BucketRecords,
    Lister,
    Part,
    SkippableFile,
    containers_of,
)

KEYS: Final = "keys"
CONTAINERS: Final = "containers"
BESIDE: Final = "beside"


class ExpandSources(RunTask):
    """Yields the containers of all sources; none when the plan is there."""

    def process(self, generation: int) -> Iterator[Part]:
        """Yields small records."""
        lineage.report_sources(self._run)
        yield from containers_of(self._run)


class ListContainer(RunTask):
    """Lists a container into an item table, or reads the headers of some files of ready embeddings.

    Yields a `Listing`, `ReadyFile`s, or the parts of another root; at `KEYS` the records of its items, by hash bucket;
    at `CONTAINERS` the version of a CSV that names no picture; at `BESIDE` what is not taken of its folders.
    """

    def __init__(self, run: Run, bits: int) -> None:
        """Takes the run, and how many bits number a bucket."""
        super().__init__(run)
        self._lister = Lister(run, bits)

    def process(
        self, part: Part
    ) -> Iterator[
        Listing
        | ReadyFile
        | RootPart
        | TaggedOutput[Literal["keys"], tuple[int, KeyBatch]]
        | TaggedOutput[Literal["containers"], SkippableFile]
        | TaggedOutput[Literal["beside"], Beside]
    ]:
        """Lists one."""
        for listed in self._lister.list(part):
            if isinstance(listed, BucketRecords):
                yield TaggedOutput[Literal["keys"], tuple[int, KeyBatch]](KEYS, (listed.bucket, listed.batch))
            elif isinstance(listed, SkippableFile):
                yield TaggedOutput[Literal["containers"], SkippableFile](CONTAINERS, listed)
            elif isinstance(listed, Beside):
                yield TaggedOutput[Literal["beside"], Beside](BESIDE, listed)
            else:
                yield listed

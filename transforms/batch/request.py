"""What a batch search is asked, as records; and where what it has done so far lies."""

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, Literal, TypeVar

from transforms.digests import digest
from transforms.errors import PixdexError
from transforms.queries.answer import Wanted
from transforms.ready_range import VectorRange
from transforms.records import STORED_VERSION, FileReference, Modality
from transforms.storage import layout
from transforms.storage.store import Store

T = TypeVar("T")

Kind = Literal["npy", "parquet", "csv", "txt"]

UNFINISHED: Final = ".unfinished"
"""Ends the name of the folder beside the output, which has digits of what is asked before it."""

_DIGITS: Final = 12

REQUEST: Final = "request.json"
_PLAN: Final = "plan.json"


@dataclass(frozen=True)
class Queries:
    """The file of queries.

    Attributes:
        uri: absolute URL.
        version: listed size and etag or mtime; another one is another file.
        kind: `npy` and `parquet` hold vectors, `csv` texts or URIs of pictures, `txt` a text a line.
        column: of a parquet file or a CSV.
        are_pictures: the column of a CSV names pictures.
    """

    uri: str
    version: str
    kind: Kind
    column: str | None = None
    are_pictures: bool = False

    @property
    def are_vectors(self) -> bool:
        """Whether nothing need be encoded."""
        return self.kind in ("npy", "parquet")

    @property
    def modality(self) -> Modality | None:
        """What they are; None: vectors."""
        return None if self.are_vectors else "image" if self.are_pictures else "text"


@dataclass(frozen=True)
class BatchRequest:
    """What is asked: which queries, of which generation of which root, for which results.

    Attributes:
        root: absolute URL.
        generation: the number that was current when the job was begun first.
        seal: the sha256 of its manifest: a root that was made anew has another generation of that number.
        queries: the file.
        wanted: what is wanted of each answer.
        columns: of the rows that are found, beside `key`.
    """

    root: str
    generation: int
    seal: str
    queries: Queries
    wanted: Wanted = field(default_factory=Wanted)
    columns: tuple[str, ...] = ()
    format_version: int = STORED_VERSION

    @property
    def digest(self) -> str:
        """Tells this request from all others."""
        return digest(self)

    @property
    def asked(self) -> str:
        """Tells what is asked of whatever generation there is."""
        return digest(replace(self, generation=0, seal=""))


@dataclass(frozen=True)
class Part:
    """Queries that are answered together.

    Attributes:
        first: the number of the first.
        count: how many.
        vectors: where their vectors are; None: they are encoded.
        texts: a parquet file with a column of texts or URIs, of the work folder.
    """

    first: int
    count: int
    vectors: VectorRange | None = None
    texts: FileReference | None = None


@dataclass(frozen=True)
class ListRange:
    """Lists `first_list` to `last_list` (exclusive) of the merged index."""

    first_list: int
    last_list: int


@dataclass(frozen=True)
class BatchPlan:
    """The parts, by their numbers."""

    queries: int
    parts: tuple[Part, ...]
    format_version: int = STORED_VERSION


@dataclass(frozen=True)
class SlicePlan:
    """The slices of an index, by their numbers: of about so many bytes, together all its lists."""

    slices: tuple[ListRange, ...]
    format_version: int = STORED_VERSION


@dataclass(frozen=True)
class Unanswered:
    """Queries that cannot be answered, and why: that of the first of them."""

    count: int
    first: int
    why: str


@dataclass(frozen=True)
class PartMarker:
    """A part is answered: what could not be answered, and the file of the results."""

    digest: str
    unanswered: Unanswered | None
    file: FileReference
    format_version: int = STORED_VERSION


@dataclass(frozen=True)
class Batch:
    """A batch search on its way to its output.

    Attributes:
        work: the folder beside the output, whose name begins with that of the output: each request has its own.
        digest: of the request.
        device: where texts and pictures are encoded.
        named: the encoder that whoever asks has named, if it is a class of somebody's own.
        trust_uris: ready embeddings of the root may lie at private addresses, and pictures that are compared anywhere.
        threads: of a worker; None: as many as there are cores.
        slice_bytes: an index is scanned in slices of about so many bytes; None: at once.
    """

    work: Store
    digest: str
    device: str = "auto"
    named: str | None = None
    trust_uris: bool = False
    threads: int | None = None
    slice_bytes: int | None = None

    def __getstate__(self) -> dict[str, object]:
        """What has been read does not travel to workers."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def folder_of(cls, output: str, request: BatchRequest) -> str:
        """Returns the URL of the folder beside an output in which a request is answered."""
        return f"{output}.{request.asked[:_DIGITS]}{UNFINISHED}"

    @property
    def output(self) -> tuple[Store, str]:
        """The folder that the output is in, and its name."""
        return output_of(self.work.url[: -len(UNFINISHED) - _DIGITS - 1])

    @cached_property
    def request(self) -> BatchRequest:
        """What is asked, which is there before the first worker is.

        Raises:
            PixdexError: it is not.
        """
        return request_in(self.work, BatchRequest, "an --output")

    @cached_property
    def plan(self) -> BatchPlan:
        """Its parts, which must be planned."""
        return self.work.read_record(_PLAN, BatchPlan)

    @cached_property
    def slices(self) -> tuple[ListRange, ...]:
        """Its slices, which must be planned; none: the index is scanned at once."""
        return () if self.slice_bytes is None else self.work.read_record(self.slice_plan, SlicePlan).slices

    @property
    def slice_plan(self) -> str:
        """The path of the record of slices, of other sizes another."""
        return f"{self.slice_folder}/plan.json"

    @property
    def slice_folder(self) -> str:
        """Where what slices of this size found lies."""
        return f"slices-{self.slice_bytes}"

    def planned(self) -> BatchPlan | None:
        """Returns the plan, or None: there is none yet."""
        return self.work.find_record(_PLAN, BatchPlan)

    def commit_plan(self, plan: BatchPlan) -> BatchPlan:
        """Commits a plan, or adopts the one that is there."""
        return self.work.commit(_PLAN, plan)

    def marker(self, number: int) -> PartMarker | None:
        """Returns the marker of a part whose file is there.

        Raises:
            PixdexError: it is one of another request.
        """
        marker = self.work.find_record(_marker(number), PartMarker)
        if marker is not None and marker.digest != self.part_digest(number):
            raise PixdexError(f"{self.work.full(_marker(number))} is of another request: remove {self.work.url}")
        return marker if marker is not None and self.work.holds(marker.file) else None

    def commit_part(self, number: int, marker: PartMarker) -> None:
        """Commits a part; whoever comes second leaves the first."""
        if self.marker(number) is None and self.work.exists(_marker(number)):
            self.work.remove(_marker(number))  # its file is gone
        self.work.commit(_marker(number), marker)

    def part_digest(self, number: int) -> str:
        """Tells what a part was asked."""
        return digest(self.request, self.plan.parts[number])

    def done(self) -> int:
        """Returns how many parts are answered."""
        return len(self.work.names("parts"))


def begun(work: Store, request: BatchRequest) -> BatchRequest:
    """Commits the request of a job, or adopts that with which the same job was begun before."""
    return work.commit(REQUEST, request)


def request_in(work: Store, kind: type[T], flag: str) -> T:
    """Returns the request of a job, which its launcher committed before any worker was there.

    Args:
        work: the folder of the job.
        kind: of the request.
        flag: what names the folder to a person, with its article.

    Raises:
        PixdexError: there is none.
    """
    found = work.find_record(REQUEST, kind)
    if found is None:
        raise PixdexError(
            f"{work.url} has no request: a worker sees another folder under that name, or it was removed; give {flag} "
            "that every worker reaches"
        )
    return found


def output_of(url: str) -> tuple[Store, str]:
    """Returns the folder that a file is in, and its name."""
    parent, _, name = url.rpartition("/")
    return Store.at(parent), name


def seal_of(store: Store, generation: int) -> str:
    """Returns the sha256 of the manifest of a generation."""
    return hashlib.sha256(store.read(layout.generation(generation))).hexdigest()


def _marker(number: int) -> str:
    return f"parts/{number:08}.json"

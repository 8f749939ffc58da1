"""Samples of a tar archive, as WebDataset has them: members that follow one another and have one stem.

The stem of `cats/01.left.jpg` is `cats/01`, its ending `left.jpg`: the first dot of the name divides them. A picture is
a member whose last ending is that of one; small texts are what describes the sample.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import IO, Final

import xxhash

from transforms.pictures.decode import PICTURE_ENDINGS
from transforms.sources import left_out
from transforms.sources.json_objects import BadObjectError, Fields, ObjectReader
from transforms.sources.left_out import Tally
from transforms.sources.tars.members import Member, members, whole

TEXT_BYTES: Final = 1 << 20
"""Of the texts of a sample; one with more is rejected, and larger members are no texts."""

PICTURES: Final = 1000
"""Of a sample; where more have one stem, each thousand is a sample."""

TEXTS: Final = 1000
"""Of a sample."""

REPEATED_BYTES: Final = 64 << 20
"""Of the texts of a sample times its pictures, each of which has them in its columns."""

CAPTION: Final = "txt"
METADATA: Final = "json"

_PIECE_BYTES: Final = 1 << 20
_READER: Final = ObjectReader("member")
_KINDS: Final = {
    "link": "Link: the member {} is a link: write the archive with tar --dereference --hard-dereference",
    "sparse": "Sparse: the member {} is a sparse file: write the archive without tar --sparse",
    "special": "NoFile: the member {} is no file",
}


@dataclass(frozen=True)
class Picture:
    """A picture of a sample.

    Attributes:
        name: of the member.
        ending: what stands behind the first dot of its name.
        start, size: where it is in the archive.
        digest: of its bytes, in hexadecimal; None: it is empty, or cannot be read.
        problem: why it cannot be embedded, as `Type: message`.
    """

    name: str
    ending: str
    start: int
    size: int
    digest: str | None
    problem: str | None = None


@dataclass
class Sample:
    """What members with one stem are together.

    Attributes:
        stem: of their names.
        names: of those that are no pictures, by ending.
        pictures: in their order.
        cells: texts of members by ending; of JSON only where it is no object.
        fields: of JSON that is one.
        text_bytes: of all of these.
        problem: why nothing of it can be embedded.
    """

    stem: str
    names: dict[str, str] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)
    cells: dict[str, str] = field(default_factory=dict)
    fields: Fields = field(default_factory=dict)
    text_bytes: int = 0
    problem: str | None = None

    def columns(self) -> Fields:
        """Returns value and cell of every column; a field with the name of a member has `json.` before its own."""
        found: Fields = {name: (text, text) for name, text in self.cells.items()}
        for name, value in self.fields.items():
            free = name
            while free in found or (free != name and free in self.fields):
                free = f"{METADATA}.{free}"
            found[free] = value
        return found

    def refusal(self, ending: str, shown: str) -> str | None:
        """Returns why it has no room for another text, whose member is shown as this; None: it has."""
        if ending in self.names:
            return f"DoubleName: the member {shown} is there twice"
        return f"TooManyTexts: the sample has more than {TEXTS} texts" if len(self.names) == TEXTS else None

    def set_problem(self, problem: str) -> None:
        """Says why nothing of it can be embedded; the first reason stays."""
        self.problem = self.problem or problem


def samples(
    stream: IO[bytes], size: int, uri: str, wanted: Collection[str], tally: Tally, *, only_texts: bool = False
) -> Iterator[Sample]:
    """Yields the samples of an archive, as `members` reads it.

    Args:
        stream, size, uri: as of `members`.
        wanted: endings that must be texts; others may be anything.
        tally: counts members that are neither pictures nor texts.
        only_texts: pictures are not read.

    Cost: every picture and every small member is read once; what is held is one sample.
    """
    sample: Sample | None = None
    for member in members(stream, size, uri):
        if member.kind == "folder":
            continue
        stem, ending = parts_of(member.name)
        if not ending:
            tally.left_out[left_out.HIDDEN if is_hidden(member.name) else left_out.NO_ENDING] += 1
            continue
        if sample is None or sample.stem != stem or len(sample.pictures) == PICTURES:
            if sample is not None:
                yield _whole(sample)
            sample = Sample(stem)
        if is_picture(ending):
            sample.pictures.append(_picture(stream, member, ending, only_texts=only_texts))
        elif not _take_text(stream, member, ending, sample, wanted):
            tally.left_out[left_out.kind_of_file(member.name)] += 1
    if sample is not None:
        yield _whole(sample)


def is_hidden(name: str) -> bool:
    """Tells whether a name, or that of a folder in it, begins with a dot.

    >>> is_hidden("./a.jpg"), is_hidden("../a.jpg"), is_hidden("a/._b.jpg"), is_hidden(".cache/b.jpg")
    (False, False, True, True)
    """
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))


def parts_of(name: str) -> tuple[str, str]:
    """Returns the stem and the ending, in lower case, of a name; a hidden one has no ending.

    >>> parts_of("a.b/01.left.JPG"), parts_of("README"), parts_of("a/.x.jpg")
    (('a.b/01', 'left.jpg'), ('README', ''), ('a/.x.jpg', ''))
    """
    if is_hidden(name):
        return name, ""
    folder, slash, base = name.rpartition("/")
    first, _, ending = base.partition(".")
    return f"{folder}{slash}{first}", ending.lower()


def is_picture(ending: str) -> bool:
    """Tells whether members with this ending are pictures: its last part counts.

    >>> is_picture("left.jpg"), is_picture("jpg.txt")
    (True, False)
    """
    return f".{ending.rpartition('.')[2]}" in PICTURE_ENDINGS


def _picture(stream: IO[bytes], member: Member, ending: str, *, only_texts: bool) -> Picture:
    problem = _KINDS.get(member.kind)
    if problem is None and not member.is_sized:
        problem = "OddHeader: only pax records say how long the member {} is: write the archive anew"
    if problem is None and member.size == 0:
        problem = "Empty: the member {} has no bytes"
    digest = None
    if problem is None and not only_texts:
        digest = _digest(stream, member)
    problem = None if problem is None else problem.format(repr(member.name[:200]))
    return Picture(member.name, ending, member.start, member.size, digest, problem)


def _digest(stream: IO[bytes], member: Member) -> str:
    stream.seek(member.start)
    digest, left = xxhash.xxh3_128(), member.size
    while left and (piece := stream.read(min(left, _PIECE_BYTES))):
        digest.update(piece)
        left -= len(piece)
    if left:
        raise OSError(f"the archive ended in {member.name!r} while it was read")
    return digest.hexdigest()


def _take_text(stream: IO[bytes], member: Member, ending: str, sample: Sample, wanted: Collection[str]) -> bool:
    """Adds a member to what describes a sample; False: it is no text, and nobody wants it to be one."""
    shown = repr(member.name[:200])
    if (problem := sample.refusal(ending, shown)) is not None:
        sample.set_problem(problem)
        return True
    is_wanted = ending in (CAPTION, METADATA) or ending in wanted or member.kind != "file"
    if is_wanted:
        sample.names[ending] = member.name  # also where it cannot be read, so that its sample is a reject
    if member.kind != "file":
        sample.set_problem(_KINDS[member.kind].format(shown))
        return True
    if sample.text_bytes + member.size > TEXT_BYTES:
        if is_wanted:
            sample.set_problem(f"TooLong: with the member {shown}, the sample has more than {TEXT_BYTES} bytes of text")
        return is_wanted
    stream.seek(member.start)
    data = whole(stream, member.size)
    if len(data) < member.size:
        raise OSError(f"the archive ended in {member.name!r} while it was read")
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        if is_wanted:
            sample.set_problem(f"NotUtf8: byte {error.start + 1} of the member {shown} is not UTF-8")
        return is_wanted
    if "\0" in text and not is_wanted:
        return False
    sample.names[ending] = member.name
    sample.text_bytes += member.size
    if ending == METADATA:
        _take_json(text, shown, sample)
    else:
        sample.cells[ending] = text
    return True


def _take_json(text: str, shown: str, sample: Sample) -> None:
    try:
        sample.fields = _READER.read(text.encode())
    except BadObjectError as error:
        kind, _, why = str(error).partition(": ")
        if kind == "NoObject":
            sample.cells[METADATA] = text
        else:
            sample.set_problem(f"{kind}: {why}, in {shown}")


def _whole(sample: Sample) -> Sample:
    """Refuses a sample that would take too much memory when each of its pictures has its texts."""
    if sample.text_bytes * len(sample.pictures) > REPEATED_BYTES:
        sample.set_problem(
            f"TooLong: the sample has {sample.text_bytes} bytes of text for each of {len(sample.pictures)} pictures, "
            f"{REPEATED_BYTES} in all at most"
        )
    return sample

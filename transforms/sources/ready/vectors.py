"""Ready embeddings by folder or glob: each row of each file is an item, embedded already and left where it is.

A glob means exactly the files it matches; a folder means every `.npy` and `.parquet` file below it, hidden ones left
out. Only headers and footers are read, but for metadata that are a CSV, whose rows are counted.

Where a source also has vectors of texts, each of its files has one of those beside it, row for row: an item is a pair.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Literal

from transforms.errors import PixdexError, UsageError
from transforms.nearest import no_column
from transforms.ready_range import VectorRange
from transforms.records import Source
from transforms.shards import ready_files
from transforms.shards.ready_files import NpyHead, ParquetHead
from transforms.sources import listed
from transforms.sources.left_out import HIDDEN, kind_of_file, kind_of_special, most
from transforms.sources.ready import csv_copy
from transforms.storage import uris

DEFAULT_COLUMN: Final = "embedding"
"""Column of a parquet file that holds the vectors, unless another is named."""

_FORMATS: Final[dict[str, Literal["npy", "parquet"]]] = {".npy": "npy", ".parquet": "parquet"}

_SHOWN: Final = 8

_HEADS_AT_ONCE = 16
"""Headers are small and often far away: read this many at a time."""


@dataclass(frozen=True)
class VectorFile:
    """A file of ready embeddings, in its place among those of its source, with the metadata and the texts beside it."""

    source: int
    place: int
    uri: str
    metadata: str | None = None
    texts: str | None = None


@dataclass(frozen=True)
class ReadyFile:
    """A file whose header was read: all of its items, and how many components a vector has (None: it has none)."""

    source: int
    place: int
    vectors: VectorRange
    dim: int | None


def files_of(sources: Sequence[Source]) -> list[VectorFile]:
    """Lists the files of all sources of ready embeddings, each file once, in order of sources and paths.

    Cost: one listing call for each source, and one for its metadata.

    Raises:
        UsageError: nothing matches, a file is neither `.npy` nor parquet, or metadata or texts are not as many files
            whose names belong to those of the vectors.
    """
    files: dict[str, VectorFile] = {}
    for number, source in enumerate(sources):
        if source.kind != "vectors":
            continue
        names = listed.files("--vectors", source.pattern, tuple(_FORMATS))
        metadata, texts = _metadata_of(source, names), _texts_of(source, names)
        for place, (uri, beside, text) in enumerate(zip(names, metadata, texts, strict=True)):
            # A file that two globs match is one file: the earlier glob has it.
            files.setdefault(uri, VectorFile(number, place, uri, beside, text))
    return list(files.values())


def left_out(source: Source) -> dict[str, int]:
    """Counts what lies in the folder of a source, or is matched by its glob, and is no file of ready embeddings.

    Cost: one listing call.
    """
    counts: Counter[str] = Counter()
    for pattern in filter(None, (source.pattern, source.text_vectors)):
        counts += _left_out(pattern)
    return most(counts)


def _left_out(pattern: str) -> Counter[str]:
    filesystem, path = uris.filesystem_of(pattern)
    is_glob = bool(uris.MAGIC.search(path)) and not filesystem.exists(path)
    if not is_glob and not filesystem.isdir(path):
        return Counter()
    entries = filesystem.glob(path, detail=True) if is_glob else filesystem.find(path, detail=True)
    counts: Counter[str] = Counter()
    for name, found in entries.items():
        entry = listed.followed(filesystem, found)
        if not is_glob and any(part.startswith(".") for part in name[len(path) :].split("/")):
            counts[HIDDEN] += 1
        elif entry["type"] not in ("file", "directory"):
            counts[kind_of_special(entry)] += 1
        elif entry["type"] == "file" and not is_glob and not listed.is_wanted(name[len(path) :], tuple(_FORMATS)):
            counts[kind_of_file(name)] += 1
    return counts


def read_heads(
    sources: Sequence[Source], files: Sequence[VectorFile], known: Mapping[str, VectorRange] | None = None
) -> Iterator[ReadyFile]:
    """Reads what the files say of themselves, many at a time, in the order of the files.

    Args:
        sources: those of the request.
        files: of these sources.
        known: ranges of files that were read before, by URI. One whose versions are the same is not opened: its
            `vectors` are the known range, and what it has beside them is not said.

    Raises:
        UsageError: a file cannot be read, holds no vectors, or its metadata have another number of rows.
    """
    known = known or {}

    def read(file: VectorFile) -> ReadyFile:
        before = known.get(file.uri)
        if before is not None and _is_same(before, file, sources[file.source]):
            return ReadyFile(file.source, file.place, before, None)
        return _read_head(sources[file.source], file)

    with ThreadPoolExecutor(_HEADS_AT_ONCE, thread_name_prefix="heads") as pool:
        yield from pool.map(read, files)


def _is_same(before: VectorRange, file: VectorFile, source: Source) -> bool:
    """Tells whether a file, and what is beside it, are those that were read before."""
    column = (source.vector_column or DEFAULT_COLUMN) if before.format == "parquet" else None
    told = file.metadata, file.texts, column, source.modality
    if (before.metadata, before.text_uri, before.column, before.modality) != told:
        return False
    versions = {
        file.uri: before.version,
        file.metadata: before.metadata_version,
        file.texts: before.text_version,
    }
    try:
        return all(uri is None or ready_files.stat(uri)[1] == version for uri, version in versions.items())
    except OSError:
        return False  # reading it says what is wrong


def dimension(sources: Sequence[Source]) -> int:
    """Returns the components of the vectors, as the first file says that has any: enough to begin with.

    Cost: sources are listed up to that file's, and no further.

    Raises:
        UsageError: there is no file, or none with a vector, or the first ones cannot be read.
    """
    for source in sources:
        for file in files_of([source]):
            (head,) = read_heads([source], [file])
            if head.dim is not None:
                return head.dim
    raise UsageError(f"--vectors {sources[0].pattern}: its files hold no vector")


def check_dimension(files: Sequence[ReadyFile], dim: int) -> None:
    """Refuses files that do not agree.

    Raises:
        UsageError: a file has vectors of another dimension than `dim`.
    """
    for file in files:
        if file.dim not in (None, dim):
            raise UsageError(
                f"{file.vectors.uri} has vectors of {file.dim} components, the first file of {dim}: an index takes "
                "vectors of one encoder only, leave the others out"
            )


def _read_head(source: Source, file: VectorFile) -> ReadyFile:
    column = source.vector_column or DEFAULT_COLUMN
    form = _FORMATS[PurePosixPath(file.uri).suffix.lower()]
    head, version = _head(file.uri, form, source)
    metadata_version = text_version = None
    if file.metadata is not None:
        metadata_version = _metadata_version(file.uri, file.metadata, head.rows, source)
    if file.texts is not None:
        text_version = _text_version(file.uri, head, file.texts, source)
    vectors = VectorRange(
        uri=file.uri,
        format=form,
        start=0,
        stop=head.rows,
        version=version,
        column=column if form == "parquet" else None,
        metadata=file.metadata,
        modality=source.modality,
        metadata_version=metadata_version,
        text_uri=file.texts,
        text_version=text_version,
        uri_column=source.uri_column,
        image_base=source.image_base,
        image_was=source.image_was,
    )
    return ReadyFile(file.source, file.place, vectors, head.dim)


def _head(uri: str, form: Literal["npy", "parquet"], source: Source) -> tuple[NpyHead | ParquetHead, str]:
    """Returns what a file says of itself, and its version."""
    try:
        size, version = ready_files.stat(uri)
        if form == "npy":
            return ready_files.npy_head(uri, size), version
        head = ready_files.parquet_head(uri, source.vector_column or DEFAULT_COLUMN)
    except OSError as error:
        raise UsageError(f"{uri} cannot be read ({error.strerror or error}): mend it, or leave it out") from error
    _check_column(source, uri, head.names)
    return head, version


def _text_version(uri: str, head: NpyHead | ParquetHead, texts: str, source: Source) -> str:
    other, version = _head(texts, "npy", source)
    if other.rows != head.rows:
        raise UsageError(
            f"{texts} has {other.rows} vectors of texts, {uri} has {head.rows} of pictures: "
            "they must be as many, row for row"
        )
    if other.dim != head.dim:
        raise UsageError(
            f"{texts} has vectors of {other.dim} components, {uri} of {head.dim}: pairs are vectors of one encoder"
        )
    return version


def _check_column(source: Source, file: str, names: Sequence[str]) -> None:
    if source.uri_column is not None and source.uri_column not in names:
        raise UsageError(f"--uri-column {source.uri_column}: {file} {no_column(source.uri_column, names)}")


def _metadata_version(uri: str, metadata: str, rows: int, source: Source) -> str:
    try:
        _, version = ready_files.stat(metadata)
        if csv_copy.is_csv(metadata):
            metadata_rows, names = csv_copy.read_head(metadata)
        else:
            with ready_files.opened(metadata) as table:
                ready_files.check_names(metadata, table.schema_arrow)
                metadata_rows, names = table.metadata.num_rows, table.schema_arrow.names
    except OSError as error:
        raise UsageError(f"--metadata {metadata} cannot be read ({error.strerror or error}): mend it") from error
    except PixdexError as error:
        raise UsageError(str(error) if csv_copy.is_csv(metadata) else f"--metadata {error}") from error
    if metadata_rows != rows:
        raise UsageError(
            f"--metadata {metadata} has {metadata_rows} rows, {uri} has {rows} vectors: "
            "they must be as many, row for row"
        )
    _check_column(source, metadata, names)
    return version


def _texts_of(source: Source, names: Sequence[str]) -> Sequence[str | None]:
    """Returns the vectors of texts beside each file of vectors of pictures."""
    if source.text_vectors is None:
        return [None] * len(names)
    texts = listed.files("--vectors", source.text_vectors, (".npy",))
    if (parquet := next((name for name in names if not name.lower().endswith(".npy")), None)) is not None:
        raise UsageError(f"{parquet}: pairs of pictures and texts are .npy files, and this is none; save it as one")
    return _partners("--vectors", source.text_vectors, texts, source.pattern, names)


def _metadata_of(source: Source, names: Sequence[str]) -> Sequence[str | None]:
    """Returns the metadata beside each file: those whose names differ from each other in the same part."""
    if source.metadata is None:
        return [None] * len(names)
    parquet = next((name for name in names if not name.lower().endswith(".npy")), None)
    if parquet is not None:
        raise UsageError(
            f"--metadata {source.metadata} goes with .npy files, {parquet} is none: a parquet file has its own columns"
        )
    endings = csv_copy.ENDINGS if csv_copy.is_csv(source.metadata) else (".parquet",)
    metadata = listed.files("--metadata", source.metadata, endings)
    return _partners("--metadata", source.metadata, metadata, source.pattern, names)


def _partners(flag: str, pattern: str, others: Sequence[str], vectors: str, names: Sequence[str]) -> Sequence[str]:
    """Returns the one of some other files that belongs to each file of vectors."""
    if len(others) != len(names):
        raise UsageError(
            f"{flag} {pattern} matches {len(others)} files, --vectors {vectors} {len(names)}: "
            "they must be as many, one for each"
        )
    if len(names) == 1:
        return others
    beside = dict(zip(_distinguishing(others), others, strict=True))
    parts = _distinguishing(names)
    if len(beside) < len(others) or set(parts) != set(beside):
        what, such = ("Metadata", "m_1.parquet") if flag == "--metadata" else ("Texts", "t_1.npy")
        raise UsageError(
            f"{flag} {pattern} and --vectors {vectors} have no names that belong together, such as "
            f"v_1.npy and {such}: rename them. Vectors: {_shown(names)}. {what}: {_shown(others)}"
        )
    return [beside[part] for part in parts]


def _distinguishing(names: Sequence[str]) -> list[str]:
    """Returns what tells each name from the others, without leading zeros: `v_01.npy` and `v_10.npy` are 1 and 10."""
    stems = [str(PurePosixPath(name).with_suffix("")) for name in names]
    before = _alike(stems)
    rest = [stem[before:] for stem in stems]
    behind = _alike([stem[::-1] for stem in rest])
    return [re.sub(r"0*(\d+)", r"\1", stem[: len(stem) - behind]) for stem in rest]


def _alike(words: Sequence[str]) -> int:
    """Returns how many characters all words begin with, but that a number is not cut."""
    alike = itertools.takewhile(lambda characters: len(set(characters)) == 1, zip(*words, strict=False))
    return len("".join(characters[0] for characters in alike).rstrip("0123456789"))


def _shown(names: Sequence[str]) -> str:
    shown = [PurePosixPath(name).name for name in names[:_SHOWN]]
    return ", ".join(shown) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")

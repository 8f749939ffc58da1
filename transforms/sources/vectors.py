"""Ready embeddings by folder or glob: each row of each file is an item, embedded already and left where it is.

A glob means exactly the files it matches; a folder means every `.npy` and `.parquet` file below it, hidden ones left
out. Only headers and footers are read.
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
from transforms.records import Source, VectorRange
from transforms.shards import ready_files
from transforms.sources import listed
from transforms.sources.left_out import HIDDEN, kind_of_file, kind_of_special, most
from transforms.storage import uris

DEFAULT_COLUMN: Final = "embedding"
"""Column of a parquet file that holds the vectors, unless another is named."""

_FORMATS: Final[dict[str, Literal["npy", "parquet"]]] = {".npy": "npy", ".parquet": "parquet"}

_SHOWN: Final = 8

_HEADS_AT_ONCE = 16
"""Headers are small and often far away: read this many at a time."""


@dataclass(frozen=True)
class VectorFile:
    """A file of ready embeddings, in its place among those of its source, and the metadata beside it."""

    source: int
    place: int
    uri: str
    metadata: str | None = None


@dataclass(frozen=True)
class ReadyFile:
    """A file whose header was read: all of its rows, and how many components a vector has (None: it has none)."""

    source: int
    place: int
    vectors: VectorRange
    dim: int | None


def files_of(sources: Sequence[Source]) -> list[VectorFile]:
    """Lists the files of all sources of ready embeddings, each file once, in order of sources and paths.

    Cost: one listing call for each source, and one for its metadata.

    Raises:
        UsageError: nothing matches, a file is neither `.npy` nor parquet, or the metadata are not as many files whose
            names belong to those of the vectors.
    """
    files: dict[str, VectorFile] = {}
    for number, source in enumerate(sources):
        if source.kind != "vectors":
            continue
        names = listed.files("--vectors", source.pattern, tuple(_FORMATS))
        metadata = _metadata_of(source, names)
        for place, (uri, beside) in enumerate(zip(names, metadata, strict=True)):
            # A file that two globs match is one file: the earlier glob has it.
            files.setdefault(uri, VectorFile(number, place, uri, beside))
    return list(files.values())


def left_out(source: Source) -> dict[str, int]:
    """Counts what lies in the folder of a source, or is matched by its glob, and is no file of ready embeddings.

    Cost: one listing call.
    """
    filesystem, path = uris.filesystem_of(source.pattern)
    is_glob = bool(uris.MAGIC.search(path)) and not filesystem.exists(path)
    if not is_glob and not filesystem.isdir(path):
        return {}
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
    return most(counts)


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
    """Tells whether a file, and the metadata beside it, are those that were read before."""
    column = (source.vector_column or DEFAULT_COLUMN) if before.format == "parquet" else None
    if (before.metadata, before.column, before.modality) != (file.metadata, column, source.modality):
        return False
    try:
        if ready_files.stat(file.uri)[1] != before.version:
            return False
        return file.metadata is None or ready_files.stat(file.metadata)[1] == before.metadata_version
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
    try:
        size, version = ready_files.stat(file.uri)
        head = ready_files.npy_head(file.uri, size) if form == "npy" else ready_files.parquet_head(file.uri, column)
    except OSError as error:
        raise UsageError(f"{file.uri} cannot be read ({error.strerror or error}): mend it, or leave it out") from error
    vectors = VectorRange(
        uri=file.uri,
        format=form,
        start=0,
        stop=head.rows,
        version=version,
        column=column if form == "parquet" else None,
        metadata=file.metadata,
        modality=source.modality,
        metadata_version=None if file.metadata is None else _metadata_version(file.uri, file.metadata, head.rows),
    )
    return ReadyFile(file.source, file.place, vectors, head.dim)


def _metadata_version(uri: str, metadata: str, rows: int) -> str:
    try:
        _, version = ready_files.stat(metadata)
        with ready_files.opened(metadata) as table:
            ready_files.check_names(metadata, table.schema_arrow)
            metadata_rows = table.metadata.num_rows
    except OSError as error:
        raise UsageError(f"--metadata {metadata} cannot be read ({error.strerror or error}): mend it") from error
    except (PixdexError, UsageError) as error:
        raise UsageError(f"--metadata {error}") from error
    if metadata_rows != rows:
        raise UsageError(
            f"--metadata {metadata} has {metadata_rows} rows, {uri} has {rows} vectors: "
            "they must be as many, row for row"
        )
    return version


def _metadata_of(source: Source, names: Sequence[str]) -> Sequence[str | None]:
    """Returns the metadata beside each file: those whose names differ from each other in the same part."""
    if source.metadata is None:
        return [None] * len(names)
    parquet = next((name for name in names if not name.lower().endswith(".npy")), None)
    if parquet is not None:
        raise UsageError(
            f"--metadata {source.metadata} goes with .npy files, {parquet} is none: a parquet file has its own columns"
        )
    metadata = listed.files("--metadata", source.metadata, (".parquet",))
    if len(metadata) != len(names):
        raise UsageError(
            f"--metadata {source.metadata} matches {len(metadata)} files, --vectors {source.pattern} {len(names)}: "
            "they must be as many, one for each"
        )
    if len(names) == 1:
        return metadata
    beside = dict(zip(_distinguishing(metadata), metadata, strict=True))
    parts = _distinguishing(names)
    if len(beside) < len(metadata) or set(parts) != set(beside):
        raise UsageError(
            f"--metadata {source.metadata} and --vectors {source.pattern} have no names that belong together, such as "
            f"v_1.npy and m_1.parquet: rename them. Vectors: {_shown(names)}. Metadata: {_shown(metadata)}"
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

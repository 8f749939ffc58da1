"""Reads ranges of ready embeddings, tells which vectors cannot be indexed, and makes float32 of the others.

A vector is *sound* when all its components are numbers and, where the root normalises, one of them is not zero; where
it does not, when it is not too long (`shards.lengths`). This is seen in its bits, without any conversion: the largest
magnitude of a row, taken as an integer, is below that of infinity, and above zero.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.errors import PixdexError, UsageError
from transforms.ready_range import VectorRange
from transforms.shards import ready_files
from transforms.shards.lengths import LARGEST_SQUARE, TOO_LONG, too_long

PIECE_ROWS: Final = 4096
"""Rows that are read, checked and converted at once."""

_ROWS_IN_CACHE = 1024
_REMOTE_PIECES = 4
"""Pieces that one request to an object store brings."""

_SMALLEST_SQUARE, _LARGEST_SQUARE = 1e-30, 1e36
"""Between these, a sum of squares in float32 has neither lost its small terms nor run over."""

_LONG_COMPONENT = 0.9 * LARGEST_SQUARE**0.5
"""A vector of smaller components, times the root of their number, is not too long, however that is rounded."""

Vectors = NDArray[Any]
"""float16 or float32 `(n, d)`, as stored."""


def pieces(ready: VectorRange, dim: int) -> Iterator[Vectors]:
    """Yields the vectors of a range in order, 4,096 rows at a time, the last ones of each file fewer.

    A vector that a parquet file does not have, or that has another length, comes as one of NaN.

    Cost: one read. A local `.npy` file is mapped, so that its rows take page cache and no memory of the process. Of a
    parquet file, row groups that reach beyond the range are decoded from their first row: those of at most 65,536 rows
    are best. Memory: one piece, and a buffer of the parquet reader; of an object store, four pieces.

    Raises:
        PixdexError: the file is not there, or is not the one that was planned with.
    """
    for part in ready.of_each_file:
        size = _check_version(part)
        if part.format == "npy":
            head = ready_files.npy_head(part.uri, size)
            path = ready_files.local_path(part.uri)
            yield from _remote_pieces(part, head) if path is None else _mapped_pieces(part, head, path)
        else:
            yield from _parquet_pieces(part, dim)


def soundness_of_items(
    ready: VectorRange, dim: int, *, normalize: bool
) -> Iterator[list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]]:
    """Yields, of each 4,096 items in order, what `soundness` says of their vectors in each of their files.

    Raises:
        PixdexError: as `pieces`.
    """
    for some in zip(*(pieces(part, dim) for part in ready.of_each_file), strict=True):
        yield [soundness(vectors, normalize=normalize) for vectors in some]


def sound_rows(ready: VectorRange, dim: int, *, normalize: bool) -> NDArray[np.bool_]:
    """Returns which rows are of items whose vectors are all sound, bool `(rows,)`.

    Cost: of pairs one read of both files, since a bad vector rejects its item as a whole.
    """
    parts = soundness_of_items(ready, dim, normalize=normalize)
    sound = [np.logical_and.reduce([good for _, good in files]) for files in parts]
    return np.tile(np.concatenate([np.empty(0, np.bool_), *sound]), len(ready.of_each_file))


def opened_rows(ready: VectorRange, dim: int) -> Callable[[NDArray[np.int64]], Vectors]:
    """Opens a range: what is returned takes row numbers and returns these rows, `(n, d)` as stored, in one type.

    No file is kept open or mapped: it is not pixdex's own, and whoever has it may write it anew, which is seen.

    Cost of a call: the file is opened, looked at and closed, and read once a row, of an object store 32 at a time; of a
    parquet file, the range from its start to the last of the rows.

    Raises:
        PixdexError: the file is not there, or is not the one that was planned with; also when rows are read.
    """
    if ready.format == "parquet":
        return lambda wanted: _rows_of_pieces(ready, dim, wanted)
    if ready.text_uri is not None:
        of_each = [opened_rows(part, dim) for part in ready.of_each_file]
        return lambda wanted: _rows_of_each(of_each, ready.items, wanted)
    head = ready_files.npy_head(ready.uri, _check_version(ready))
    if head.dim != dim or not 0 <= ready.start <= ready.stop <= head.rows:
        raise PixdexError(f"{ready.uri} has not the rows that were planned with: put it back, or build into a new root")
    path, size = ready_files.local_path(ready.uri), head.row_bytes

    def read(wanted: NDArray[np.int64]) -> Vectors:
        starts = (head.offset + (ready.start + wanted) * size).tolist()
        if path is None:
            parts = ready_files.read_ranges(ready.uri, [(start, start + size) for start in starts])
        else:
            with _is_there(ready):
                version, parts = ready_files.read_local(path, starts, size)
            _is_planned(ready, version)
        data = b"".join(parts)
        if len(data) != len(starts) * size:
            raise PixdexError(f"{ready.uri} was cut short while it was read: put it back, then search again")
        return np.frombuffer(data, head.dtype).reshape(-1, head.dim)

    return read


def _rows_of_each(
    of_each: Sequence[Callable[[NDArray[np.int64]], Vectors]], items: int, wanted: NDArray[np.int64]
) -> Vectors:
    places = [np.flatnonzero(wanted // items == number) for number in range(len(of_each))]
    parts = [read(wanted[mine] % items) for read, mine in zip(of_each, places, strict=True)]
    return np.concatenate(parts)[np.argsort(np.concatenate(places))]


def _rows_of_pieces(ready: VectorRange, dim: int, wanted: NDArray[np.int64]) -> Vectors:
    some = replace(ready, stop=ready.start + int(wanted.max(initial=-1)) + 1)
    found, first = np.zeros((len(wanted), dim), np.float32), 0
    for piece in pieces(some, dim):
        here = np.flatnonzero((wanted >= first) & (wanted < first + len(piece)))
        found[here] = piece[wanted[here] - first]
        first += len(piece)
    return found


def soundness(vectors: Vectors, *, normalize: bool) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Tells which vectors are finite, and which of all are sound: bool `(n,)` each.

    Args:
        vectors: float16 or float32 `(n, d)`.
        normalize: whether they are to be normalised: a vector of zeros is not sound then, and a long one is.
    """
    bits = np.dtype(f"u{vectors.dtype.itemsize}")
    magnitude = bits.type(np.iinfo(bits).max >> 1)
    infinity = np.array(np.inf, vectors.dtype).view(bits)
    largest = np.empty(len(vectors), bits)
    for start in range(0, len(vectors), _ROWS_IN_CACHE):
        some = vectors[start : start + _ROWS_IN_CACHE].view(bits)
        np.bitwise_and(some, magnitude).max(axis=1, out=largest[start : start + _ROWS_IN_CACHE])
    finite: NDArray[np.bool_] = largest < infinity
    if normalize:
        return finite, finite & (largest > 0)
    if vectors.dtype == np.float16:
        return finite, finite
    sound = finite.copy()
    # Of most sets no vector is looked at once more.
    some = np.flatnonzero(finite & (largest.view(vectors.dtype) > _LONG_COMPONENT / np.sqrt(max(vectors.shape[1], 1))))
    sound[some] = ~too_long(vectors[some])
    return finite, sound


def as_indexed(vectors: Vectors, *, normalize: bool) -> NDArray[np.float32]:
    """Returns sound vectors as they are indexed: float32 `(n, d)`, of length 1 when they are to be normalised.

    A vector's bits do not depend on the others.
    """
    converted = _widened(vectors) if vectors.dtype == np.float16 else np.array(vectors, np.float32, order="C")
    if normalize:
        with np.errstate(over="ignore", under="ignore"):
            squares = np.einsum("ij,ij->i", converted, converted)
        extreme = ~((squares > _SMALLEST_SQUARE) & (squares < _LARGEST_SQUARE))
        if extreme.any():
            some = converted[extreme].astype(np.float64)
            with np.errstate(invalid="ignore"):  # of what is not sound nothing becomes a vector
                converted[extreme] = some / np.linalg.norm(some, axis=1, keepdims=True)
            squares[extreme] = 1
        converted /= np.sqrt(squares)[:, None]
    return converted


def as_queries(vectors: NDArray[np.float32], dim: int, *, normalize: bool) -> NDArray[np.float32]:
    """Returns vectors as an index is asked with them, float32 `(q, d)`: 1 long where its own are.

    Raises:
        UsageError: they have another dimension, are not finite, or have no direction.
    """
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise UsageError(
            f"query vectors have shape {vectors.shape}, this root takes (queries, {dim}): "
            "make them with the encoder that built it"
        )
    with np.errstate(over="ignore"):
        queries = np.ascontiguousarray(vectors, np.float32)
    if not np.isfinite(queries).all():
        raise UsageError("a query vector is not finite: it holds NaN or infinity")
    if not normalize:
        if too_long(queries).any():
            raise UsageError(f"a query cannot be searched: {TOO_LONG}")
        return queries
    if not queries.any(axis=1).all():
        raise UsageError("a query vector is zero: it has no direction that could be searched")
    return as_indexed(queries, normalize=True)


def _widened(vectors: NDArray[np.float16]) -> NDArray[np.float32]:
    """Returns finite float16 values as float32, exactly; three times as fast as `astype`.

    The bits of a float16, moved up by 13, are those of a float32 that is 2^112 times too small, subnormal ones too.
    """
    wide = np.empty(vectors.shape, np.float32)
    for start in range(0, len(vectors), _ROWS_IN_CACHE):
        part = wide[start : start + _ROWS_IN_CACHE]
        bits = part.view(np.int32)
        np.left_shift(vectors[start : start + _ROWS_IN_CACHE].view(np.int16), 13, out=bits, dtype=np.int32)
        # The sign was carried into every bit above it: keep the topmost, and the 15 bits moved.
        bits &= np.int32(-0x80000000 | 0x7FFF << 13)
        part *= np.float32(2.0**112)
    return wide


def _check_version(ready: VectorRange) -> int:
    with _is_there(ready):
        size, version = ready_files.stat(ready.uri)
    _is_planned(ready, version)
    return size


@contextlib.contextmanager
def _is_there(ready: VectorRange) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PixdexError(
            f"{ready.uri} cannot be read ({error.strerror or error}): ready embeddings are not copied, put it back"
        ) from error


def _is_planned(ready: VectorRange, version: str) -> None:
    if version != ready.version:
        raise PixdexError(
            f"{ready.uri} has changed ({version}, planned with {ready.version}): ready embeddings are not copied, "
            "put it back, or build anew with --abandon-plan or into a new root"
        )


def _mapped(ready: VectorRange, head: ready_files.NpyHead, path: str) -> Vectors:
    offset, shape = head.offset + ready.start * head.row_bytes, (ready.stop - ready.start, head.dim)
    return np.memmap(path, head.dtype, "r", offset, shape).view(np.ndarray)


def _mapped_pieces(ready: VectorRange, head: ready_files.NpyHead, path: str) -> Iterator[Vectors]:
    vectors = _mapped(ready, head, path)
    for start in range(0, len(vectors), PIECE_ROWS):
        yield vectors[start : start + PIECE_ROWS]


def _remote_pieces(ready: VectorRange, head: ready_files.NpyHead) -> Iterator[Vectors]:
    for first in range(ready.start, ready.stop, _REMOTE_PIECES * PIECE_ROWS):
        rows = min(_REMOTE_PIECES * PIECE_ROWS, ready.stop - first)
        start = head.offset + first * head.row_bytes
        data = ready_files.read_range(ready.uri, start, start + rows * head.row_bytes)
        if len(data) != rows * head.row_bytes:
            raise PixdexError(f"{ready.uri} was cut short while it was read: put it back, then run again")
        vectors = np.frombuffer(data, head.dtype).reshape(rows, head.dim)
        for begin in range(0, rows, PIECE_ROWS):
            yield vectors[begin : begin + PIECE_ROWS]


def _parquet_pieces(ready: VectorRange, dim: int) -> Iterator[Vectors]:
    held: list[Vectors] = []
    count = 0
    for vectors in _parquet_vectors(ready, dim):
        rest = vectors
        while count + len(rest) >= PIECE_ROWS:
            held.append(rest[: PIECE_ROWS - count])
            rest = rest[PIECE_ROWS - count :]
            yield held[0] if len(held) == 1 else np.concatenate(held)
            held, count = [], 0
        if len(rest):
            held.append(rest)
            count += len(rest)
    if held:
        yield np.concatenate(held)


def _parquet_vectors(ready: VectorRange, dim: int) -> Iterator[Vectors]:
    """Yields the vectors of a range as the batches of the reader hold them."""
    assert ready.column is not None
    first = 0
    with ready_files.opened(ready.uri) as file:
        for group in range(file.num_row_groups):
            stop = first + file.metadata.row_group(group).num_rows
            if first < ready.stop and stop > ready.start:
                for batch in file.iter_batches(PIECE_ROWS, row_groups=[group], columns=[ready.column]):
                    begin, end = max(ready.start - first, 0), min(ready.stop - first, len(batch))
                    if begin < end:
                        yield _from_lists(batch.column(0).slice(begin, end - begin), dim)
                    first += len(batch)
                    if first >= ready.stop:
                        return
            first = stop


def _from_lists(column: pa.Array, dim: int) -> Vectors:
    """Returns lists of numbers as an array; what is no list of `dim` numbers becomes NaN."""
    import pyarrow.compute as pc  # noqa: PLC0415 - a tenth of a second, which those who only name vectors need not wait

    fits = pc.fill_null(pc.equal(pc.list_value_length(column), dim), False).to_numpy(zero_copy_only=False)
    whole = column if fits.all() else column.filter(pa.array(fits))
    values: Vectors = whole.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
    if fits.all():
        return values
    vectors = np.full((len(column), dim), np.nan, values.dtype)
    vectors[fits] = values
    return vectors

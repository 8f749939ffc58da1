"""Merges the shard indexes of a run into one `index.faiss`, piece by piece and in place. Knows neither Beam nor faiss.

Every piece, a range of lists, is written at its final offset of one temporary file, on any worker; a hard link gives
the whole file its name. Pieces are functions of what is merged, so that a piece written twice is the same bytes twice.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from xxhash import xxh3_64

from transforms.digests import digest
from transforms.errors import PixdexError
from transforms.index.faiss_file import TrainedLayout, body_offset, write_head
from transforms.index.lists.format import ID_BYTES
from transforms.index.lists.inputs import MergeInputs
from transforms.index.lists.merge import PIECE_BYTES, STEP_BYTES, merge_range, merged_sizes, plan_pieces
from transforms.index.trained import read_training
from transforms.markers import PieceMarker
from transforms.runs.run import Run
from transforms.storage import atomic, inside, layout
from transforms.tasks.merge.inputs import blocks, merge_digest, merge_inputs

_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Piece:
    """A range of lists of the merged index and where it goes; number 0 is the head of the file.

    `digest` is that of what is merged and of this range of it.
    """

    number: int
    first_list: int
    last_list: int
    offset: int
    bytes: int
    digest: str


def plan_merge(run: Run, piece_bytes: int = PIECE_BYTES) -> list[Piece]:
    """Makes room for the merged index and cuts its lists into pieces; none when it is, or nothing is to be, merged.

    Memory: 8 bytes a list, and the fences of every shard index.
    """
    merged_blocks = blocks(run)
    if not merged_blocks or _final(run).exists():
        return []
    described = _layout(run)
    with contextlib.closing(merge_inputs(run)) as inputs:
        files = inputs.over(range(described.nlist))
        sizes = merged_sizes(files)
        ranges = plan_pieces(files, piece_bytes)
    _make_room(run, body_offset(described, sizes, described.nlist))
    before = np.concatenate(([0], np.cumsum(sizes))) * (described.code_size + ID_BYTES)
    start = body_offset(described, sizes)
    merged = merge_digest(run, merged_blocks)
    pieces = []
    for number, lists in enumerate(ranges, start=1):
        offset, size = start + int(before[lists.start]), int(before[lists.stop] - before[lists.start])
        piece_digest = digest(merged, lists.start, lists.stop, offset)
        pieces.append(Piece(number, lists.start, lists.stop, offset, size, piece_digest))
    return pieces


def merge_piece(run: Run, piece: Piece, inputs: MergeInputs, step_bytes: int = STEP_BYTES) -> None:
    """Writes one piece and commits its marker; a piece that already stands in the file is left alone.

    Memory: two steps, and their part of every shard index's sizes. Resuming reads what is done once, to be sure that
    the file still holds it.
    """
    with _opened_temporary(run) as out:
        if out is None:
            return
        done = run.marker("merge", piece.number, PieceMarker, piece.digest)
        if done is not None and done.checksum == f"xxh3:{_checksum(out, piece.offset, piece.bytes)}":
            return
        out.seek(piece.offset)
        lists = range(piece.first_list, piece.last_list)
        files, trained = inputs.over(lists), run.trained().trained.fingerprint
        merged = merge_range(files, lists, out, fingerprint=trained, step_bytes=step_bytes, buffers=inputs.buffers)
        atomic.flush(out)
    if merged.bytes != piece.bytes:
        raise PixdexError(
            f"piece {piece.number} of the merged index has {merged.bytes} bytes, {piece.bytes} were planned"
        )
    _commit(run, piece.number, piece.digest, lists, piece.offset, piece.bytes, merged.checksum)


def finish_merge(run: Run) -> None:
    """Writes the head of the file, which no piece has, and gives the whole file its name."""
    merged_blocks = blocks(run)
    if not merged_blocks:
        return
    final, temporary, described = _final(run), _temporary(run), _layout(run)
    if not final.exists():
        with contextlib.closing(merge_inputs(run)) as inputs:
            sizes = merged_sizes(inputs.over(range(described.nlist)))
        with _opened_temporary(run) as out:
            if out is not None:
                run.store.check(run.trained().trained.index)  # what is copied now is sealed, right or wrong
                with run.store.local_path(run.trained().trained.index.path).open("rb") as trained:
                    size = write_head(trained, out, described, sizes)
                atomic.flush(out)
                head_digest = digest(merge_digest(run, merged_blocks), 0, 0, 0)
                _commit(run, 0, head_digest, range(0), 0, size, _checksum(out, 0, size))
                # Whoever came first linked the same bytes, and may have taken the temporary name away.
                with contextlib.suppress(FileExistsError, FileNotFoundError):
                    atomic.link(temporary, final)
                atomic.sync(final.parent)
    temporary.unlink(missing_ok=True)


def _commit(run: Run, number: int, piece_digest: str, lists: range, offset: int, size: int, checksum: str) -> None:
    marker = PieceMarker(number, piece_digest, lists.start, lists.stop, offset, size, f"xxh3:{checksum}")
    committed = run.commit("merge", number, marker)
    if committed != marker:
        raise PixdexError(
            f"piece {number} of the merged index came out as {checksum}, the first time as {committed.checksum}: "
            "a shard index changed in between; start again with --abandon-plan"
        )


def _layout(run: Run) -> TrainedLayout:
    return read_training(run.store, run.trained().trained).layout


def _final(run: Run) -> Path:
    return run.store.local_path(layout.merged_index(run.generation))


def _temporary(run: Run) -> Path:
    final = _final(run)
    return final.with_name(f".{final.name}.partial")


def _make_room(run: Run, size: int) -> None:
    temporary = _temporary(run)
    temporary.parent.mkdir(parents=True, exist_ok=True)
    with inside.open_shared(temporary, create=True) as out:
        if out.seek(0, os.SEEK_END) != size:
            out.truncate(size)
    atomic.sync(temporary.parent)


def _checksum(file: BinaryIO, start: int, size: int) -> str:
    hasher = xxh3_64()
    file.seek(start)
    while size and (part := file.read(min(size, _READ_BYTES))):
        hasher.update(part)
        size -= len(part)
    return hasher.hexdigest()


@contextlib.contextmanager
def _opened_temporary(run: Run) -> Iterator[BinaryIO | None]:
    """Opens the file to write into; None when the merged index stands already, made by another worker."""
    try:
        out = inside.open_shared(_temporary(run))
    except FileNotFoundError:
        if not _final(run).exists():
            raise PixdexError(f"{_temporary(run)} was removed during the merge: run the same command again") from None
        yield None
        return
    with out:
        yield out

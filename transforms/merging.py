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

from transforms import layout
from transforms.errors import PixdexError
from transforms.index.faiss_file import TrainedLayout, body_offset, write_head
from transforms.index.list_file import ListFile
from transforms.index.list_format import ID_BYTES, Seal
from transforms.index.range_merge import PIECE_BYTES, merge_range, merged_sizes, plan_pieces
from transforms.index.trained import read_training
from transforms.records import ListsMarker, PieceMarker, digest
from transforms.run import Run

_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Piece:
    """A range of lists of the merged index and where it goes; number 0 is the head of the file."""

    number: int
    first_list: int
    last_list: int
    offset: int
    bytes: int
    answers: str
    redo: bool


def plan_merge(run: Run, piece_bytes: int = PIECE_BYTES) -> list[Piece]:
    """Makes room for the merged index and cuts its lists into pieces; none when it is already merged.

    Memory: 8 bytes a list, and the fences of every shard index.
    """
    if _final(run).exists():
        return []
    with _opened_blocks(run) as inputs:
        sizes = merged_sizes(inputs)
        ranges = plan_pieces(inputs, piece_bytes)
    described = _layout(run)
    redo = _make_room(run, body_offset(described, sizes, described.nlist))
    before = np.concatenate(([0], np.cumsum(sizes))) * (described.code_size + ID_BYTES)
    start = body_offset(described, sizes)
    blocks = _answers(run)
    pieces = []
    for number, lists in enumerate(ranges, start=1):
        offset, size = start + int(before[lists.start]), int(before[lists.stop] - before[lists.start])
        answers = digest(blocks, lists.start, lists.stop, offset)
        pieces.append(Piece(number, lists.start, lists.stop, offset, size, answers, redo))
    return pieces


def merge_piece(run: Run, piece: Piece) -> None:
    """Writes one piece and commits its marker. Memory: the piece once, and its part of every shard index's sizes."""
    done = run.marker("merge", piece.number, PieceMarker, piece.answers)
    if done is not None and not piece.redo:
        return
    with _opened_temporary(run) as out, _opened_blocks(run) as inputs:
        if out is None:
            return
        out.seek(piece.offset)
        merged = merge_range(inputs, range(piece.first_list, piece.last_list), out)
        out.flush()
        os.fsync(out.fileno())
    if merged.bytes != piece.bytes:
        raise PixdexError(
            f"piece {piece.number} of the merged index has {merged.bytes} bytes, {piece.bytes} were planned"
        )
    _commit(
        run,
        piece.number,
        piece.answers,
        (piece.first_list, piece.last_list),
        piece.offset,
        piece.bytes,
        merged.checksum,
    )


def finish_merge(run: Run) -> None:
    """Writes the head of the file, which no piece has, and gives the whole file its name."""
    final, temporary, described = _final(run), _temporary(run), _layout(run)
    if not final.exists():
        with _opened_blocks(run) as inputs:
            sizes = merged_sizes(inputs)
        with _opened_temporary(run) as out:
            if out is not None:
                with run.store.local_path(run.trained().trained.index.path).open("rb") as trained:
                    size = write_head(trained, out, described, sizes)
                out.flush()
                os.fsync(out.fileno())
                _commit(run, 0, digest(_answers(run), 0, 0, 0), (0, 0), 0, size, _checksum_of_start(out, size))
                # Whoever came first linked the same bytes, and may have taken the temporary name away.
                with contextlib.suppress(FileExistsError, FileNotFoundError):
                    os.link(temporary, final)
                _sync_folder(final.parent)
    temporary.unlink(missing_ok=True)


def _commit(run: Run, number: int, answers: str, lists: tuple[int, int], offset: int, size: int, checksum: str) -> None:
    marker = PieceMarker(number, answers, lists[0], lists[1], offset, size, f"xxh3:{checksum}")
    stands = run.commit("merge", number, marker)
    if stands != marker:
        raise PixdexError(
            f"piece {number} of the merged index came out as {checksum}, the first time as {stands.checksum}: "
            "a shard index changed in between; start again with --abandon-plan"
        )


def _answers(run: Run) -> str:
    """What a merge answers: the trained index and the shard indexes, in order."""
    return digest(run.trained().trained.fingerprint, [marker.lists for marker in _blocks(run)])


def _blocks(run: Run) -> list[ListsMarker]:
    return run.markers("add", range(run.plan.blocks), ListsMarker)


def _layout(run: Run) -> TrainedLayout:
    return read_training(run.store, run.trained().trained).layout


@contextlib.contextmanager
def _opened_blocks(run: Run) -> Iterator[list[ListFile]]:
    with contextlib.ExitStack() as stack:
        yield [
            ListFile(
                stack.enter_context(run.store.open(marker.lists.path)),
                marker.lists.path,
                Seal(marker.lists.bytes, marker.lists.checksum.removeprefix("xxh3:")),
            )
            for marker in _blocks(run)
        ]


def _final(run: Run) -> Path:
    return run.store.local_path(layout.merged_index(run.generation))


def _temporary(run: Run) -> Path:
    final = _final(run)
    return final.with_name(f".{final.name}.partial")


def _make_room(run: Run, size: int) -> bool:
    """Makes the temporary file. Returns whether it is new, so that nothing which markers speak of can be in it."""
    temporary = _temporary(run)
    temporary.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("xb") as out:
            out.truncate(size)
        return True
    except FileExistsError:
        if temporary.stat().st_size == size:
            return False
    os.truncate(temporary, size)
    return True


def _checksum_of_start(file: BinaryIO, size: int) -> str:
    hasher = xxh3_64()
    file.seek(0)
    while size:
        part = file.read(min(size, _READ_BYTES))
        hasher.update(part)
        size -= len(part)
    return hasher.hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _opened_temporary(run: Run) -> Iterator[BinaryIO | None]:
    """Opens the file to write into; None when the merged index stands already, made by another worker."""
    try:
        with _temporary(run).open("r+b") as out:
            yield out
    except FileNotFoundError:
        if not _final(run).exists():
            raise PixdexError(f"{_temporary(run)} was removed during the merge: run the same command again") from None
        yield None

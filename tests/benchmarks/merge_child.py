"""One merge in a process of its own, which imports neither torch nor faiss: what `merge_speed.py` times.

python -m tests.benchmarks.merge_child TARGET INPUT...
"""

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from transforms.index.lists.merge import PIECE_BYTES, StepBuffers, merge_range, plan_pieces
from transforms.index.lists.reader import ListFile


def merge(inputs: Sequence[Path], target: Path) -> None:
    """What a worker does with every piece of a merge, all pieces one after the other."""
    with contextlib.ExitStack() as stack:
        files = [ListFile(stack.enter_context(path.open("rb", buffering=0)), path.name) for path in inputs]
        buffers = StepBuffers()
        with target.open("wb") as out:
            for piece in plan_pieces(files, PIECE_BYTES):
                merge_range(files, piece, out, buffers=buffers)
                out.flush()
                os.fsync(out.fileno())
    found = {"torch", "faiss"} & set(sys.modules)
    assert not found, f"the merge imported {found}"


if __name__ == "__main__":
    merge([Path(name) for name in sys.argv[2:]], Path(sys.argv[1]))

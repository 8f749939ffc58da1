"""An encoder that notes which process encoded how many rows, and takes its time when told to.

Workers find what it is told in the folder that `PIXDEX_TEST_ENCODED` names in their environment: a file `slow` holds
the seconds that a batch shall take. What it makes is what `TinyEncoder` makes.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.encoders import TinyEncoder

FOLDER = "PIXDEX_TEST_ENCODED"


class RecordingEncoder(TinyEncoder):
    """A TinyEncoder that leaves a line for each batch in a file named for its process."""

    def encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        _note(len(pixels))
        return super().encode_images(pixels)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        _note(len(texts))
        return super().encode_texts(texts)


def rows_by_process(folder: Path) -> dict[int, int]:
    """Returns how many rows, with those that fill up a batch, each process has encoded."""
    return {int(file.stem): sum(map(int, file.read_text().split())) for file in folder.glob("*.rows")}


def _note(rows: int) -> None:
    folder = Path(os.environ.get(FOLDER, ""))
    if FOLDER not in os.environ or not folder.is_dir():
        return
    with (folder / f"{os.getpid()}.rows").open("a") as stream:
        stream.write(f"{rows}\n")
    if (folder / "slow").exists():
        time.sleep(float((folder / "slow").read_text()))

"""Folders as clip-retrieval leaves them, drawn: vectors of pictures and of texts, and metadata, each in its folder."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

DIM = 16


def unit_vectors(rows: int, seed: int) -> NDArray[np.float16]:
    """Vectors of length one."""
    drawn = np.random.default_rng(seed).standard_normal((rows, DIM))
    vectors: NDArray[np.float16] = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float16)
    return vectors


def text_seed(number: int) -> int:
    """The seed of the vectors of the texts of a part."""
    return 1000 + number


def write_part(
    folder: Path, number: int, rows: int, *, texts: bool = True, metadata: bool = True, bad: Sequence[str] = ()
) -> None:
    """Writes one part: `img_emb_N.npy`, `text_emb_N.npy` and `metadata_N.parquet`, with one time for all.

    Args:
        folder: of all parts.
        number: of the part, which its vectors follow from.
        rows: items.
        texts, metadata: whether it has those files.
        bad: `image:3` is an item whose picture has no sound vector, `text:3` one whose text has none.
    """
    made = {"image": unit_vectors(rows, number), "text": unit_vectors(rows, text_seed(number))}
    for kind, _, row in (one.partition(":") for one in bad):
        made[kind][int(row)] = np.nan
    for kind, name in (("image", "img_emb"), ("text", "text_emb")):
        if kind == "image" or texts:
            (folder / name).mkdir(parents=True, exist_ok=True)
            np.save(folder / name / f"{name}_{number}.npy", made[kind])
    if metadata:
        (folder / "metadata").mkdir(parents=True, exist_ok=True)
        columns = {
            "image_path": [f"/far/{number}/{row}.png" for row in range(rows)],
            "caption": [f"thing {number}.{row}" for row in range(rows)],
        }
        pq.write_table(pa.table(columns), folder / "metadata" / f"metadata_{number}.parquet")
    (folder / "stats").mkdir(exist_ok=True)
    (folder / "stats" / f"{number}.json").write_text("{}")
    for file in folder.rglob(f"*_{number}.*"):
        os.utime(file, (number + 1, number + 1))

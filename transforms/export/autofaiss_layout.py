"""`autofaiss`: what `autofaiss build_index` leaves: an index, figures of it, and tables with the id columns.

| file | holds |
|---|---|
| `knn.index` | all living rows, with ids 0 to n - 1 in the order of pixdex's ids |
| `index_infos.json` | key, parameters, size and figures, under autofaiss's names |
| `ids/part-*.parquet` | `i`, the id in the index; `pixdex_id`, key, URI and the rest of a row |
"""

import json
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray

from transforms.export.columns import columns_of
from transforms.export.destination import ExportFile, Tell, write_bytes
from transforms.export.id_table import PIXDEX_ID, id_tables
from transforms.export.index_file import index_key, nprobe_of, write_index
from transforms.export.layout import Layout
from transforms.export.origin import Origin
from transforms.export.rows import vectors_between
from transforms.index.reconstruction import reconstruction_error

NUMBER: Final = "i"
"""The column with the ids of the index, as autofaiss calls it."""

_INDEX: Final = "knn.index"

_SAMPLE: Final = 1000
"""Vectors whose error is taken, the first ones, as autofaiss does."""

_RESULTS, _SECONDS = 40, 1.0
"""Of the searches that are timed: neighbours, and for how long; autofaiss takes ten seconds."""


def layout(origin: Origin, folder: Path, rows_per_file: int) -> Layout:
    """Returns the files of an export for autofaiss; figures are those of the index that is in the folder by then."""
    rows = origin.all_rows
    columns = columns_of(origin, (NUMBER, PIXDEX_ID))
    index = ExportFile(_INDEX, rows.count, partial(write_index, origin, [rows]))
    infos = ExportFile("index_infos.json", 0, partial(_write_infos, origin, folder / _INDEX))
    return Layout(rows.count, (index, infos, *id_tables(origin, columns, NUMBER, rows_per_file)))


def _write_infos(origin: Origin, index_file: Path, file: Path, _tell: Tell) -> None:
    index: Any = faiss.read_index(str(index_file), faiss.IO_FLAG_MMAP)
    key, size = index_key(origin, [origin.all_rows]), index_file.stat().st_size
    vectors = _first_vectors(origin)
    infos = {
        "index_key": key,
        "index_param": "" if key == "Flat" else f"nprobe={nprobe_of(origin)}",
        "index_path": _INDEX,
        "size in bytes": size,
        **_speeds(index, vectors),
        "reconstruction error %": reconstruction_error(index, vectors),
        "nb vectors": int(index.ntotal),
        "vectors dimension": int(index.d),
        "compression ratio": 4.0 * index.ntotal * index.d / size,
    }
    write_bytes(file, (json.dumps(infos, indent=1) + "\n").encode())


def _first_vectors(origin: Origin) -> NDArray[np.float32]:
    rows = origin.all_rows
    parts = [part.vectors for part in vectors_between(origin, rows, 0, min(_SAMPLE, rows.count))]
    return np.concatenate([np.empty((0, origin.dim), np.float32), *(part for part in parts if part is not None)])


def _speeds(index: Any, vectors: NDArray[np.float32]) -> dict[str, float | None]:
    """Milliseconds of a search for one vector, on this machine, the index mapped."""
    taken: list[float] = []
    begun = time.perf_counter()
    for row in range(len(vectors)):
        before = time.perf_counter()
        index.search(vectors[row : row + 1], _RESULTS)
        taken.append(1000 * (time.perf_counter() - before))
        if time.perf_counter() - begun > _SECONDS:
            break
    average, slow = (float(np.mean(taken)), float(np.quantile(taken, 0.99))) if taken else (None, None)
    return {"avg_search_speed_ms": average, "99p_search_speed_ms": slow}

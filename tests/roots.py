"""Makes small roots by hand, without Beam and torch: what searching reads, and nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from transforms import layout, shards
from transforms.records import (
    EncoderSettings,
    FileReference,
    Generation,
    IndexSettings,
    Metric,
    Modality,
    Request,
    Source,
    Tables,
    Totals,
    TrainedIndex,
    row_ids,
)
from transforms.shards import Reject
from transforms.store import Store, sha256_of

METRICS = {"ip": faiss.METRIC_INNER_PRODUCT, "l2": faiss.METRIC_L2, "l1": faiss.METRIC_L1}


@dataclass(frozen=True)
class Row:
    """One row to be found: its key and vector, and what it is."""

    key: str
    vector: Sequence[float]
    modality: Modality = "image"
    part: int = 0
    caption: str | None = None
    uri: str | None = None
    columns: Mapping[str, str | None] = field(default_factory=dict)


def unit(degrees: float) -> tuple[float, float]:
    """A direction in the plane: nearness is the difference of degrees."""
    return float(np.cos(np.deg2rad(degrees))), float(np.sin(np.deg2rad(degrees)))


def make_root(
    folder: Path,
    *shard_rows: Sequence[Row],
    key: str = "IVF1,Flat",
    metric: Metric = "ip",
    nprobe: int = 1,
    normalize: bool = True,
    spec: str = "tests:None",
    fingerprint: str = "f" * 64,
    modalities: tuple[str, ...] = ("image", "text"),
    rejects: Sequence[Reject] = (),
    train_on: NDArray[np.float32] | None = None,
    number: int = 1,
) -> Store:
    """Publishes generation `number` with these shards; rows of a shard must be pictures, then texts, then keywords."""
    store = Store.at(str(folder))
    everything = [row for rows in shard_rows for row in rows]
    vectors = np.array([row.vector for row in everything], np.float32)
    index = faiss.index_factory(vectors.shape[1], key, METRICS[metric])
    index.train(vectors if train_on is None else train_on)
    ivf = faiss.extract_index_ivf(index)
    trained = _trained(store, index, key, metric, nprobe)
    table = []
    for shard, rows in enumerate(shard_rows):
        counts = [sum(row.modality == kind for row in rows) for kind in ("image", "text", "keyword")]
        entry: dict[str, Any] = {
            "shard": shard, "block": 0, "items": len({row.key for row in rows}), "rejected": 0, "rows": len(rows),
            "images": counts[0], "texts": counts[1], "keywords": counts[2],
            "path": None, "bytes": None, "checksum": None,
        }  # fmt: skip
        if rows:
            own = np.array([row.vector for row in rows], np.float32)
            entry |= asdict(shards.write_embeddings(store, shard, _metadata(rows), own))
            index.add_with_ids(own, row_ids(shard, len(rows)))
        table.append(entry)
    path = layout.merged_index(number)
    file = folder / path
    file.parent.mkdir(parents=True)
    faiss.write_index(index, str(file))
    rejected = shards.write_rejects(store, 0, rejects)
    keys = len({row.key for row in everything})
    generation = Generation(
        generation=number,
        request=Request(
            sources=(Source("images", f"file://{folder}/pictures"),),
            encoder=EncoderSettings(spec, fingerprint, vectors.shape[1], modalities, normalize=normalize),
            index=IndexSettings(key, metric),
        ),
        request_digest="0" * 64,
        totals=Totals(
            items=keys + len(rejects),
            embedded=keys,
            rejected=len(rejects),
            vectors=len(everything),
            tombstones=0,
            **{f"{kind}s": sum(row.modality == kind for row in everything) for kind in ("image", "text", "keyword")},
            shards=len(shard_rows),
            blocks=1,
        ),
        trained=TrainedIndex(
            "9" * 64, key, metric, vectors.shape[1], ivf.nlist, ivf.code_size, nprobe, trained, trained
        ),
        index=FileReference(path, file.stat().st_size, "none:"),
        tables=Tables(
            shards=_table(store, table, []),
            blocks=_table(store, [], ["path", "bytes"]),
            segments=_table(store, [], ["path"]),
            rejects=_table(
                store,
                [{"shard": 0, "rejected": len(rejects), **asdict(rejected)}] if rejected else [],
                ["path", "bytes"],
            ),
        ),
        next_shard=len(shard_rows),
    )
    store.commit(layout.generation(number), generation)
    return store


def _trained(store: Store, index: Any, key: str, metric: str, nprobe: int) -> FileReference:
    with store.scratch() as scratch:
        file = scratch / "index.faiss"
        faiss.write_index(index, str(file))
        return store.upload_as(file, f"{layout.trained_folder('9' * 64)}/index.faiss", f"sha256:{sha256_of(file)}")


def _metadata(rows: Sequence[Row]) -> pa.Table:
    names = sorted({name for row in rows for name in row.columns})
    return pa.table(
        {
            "key": [row.key for row in rows],
            "uri": [row.uri or f"file:///pictures/{row.key}.png" for row in rows],
            "modality": [row.modality for row in rows],
            "part": pa.array([row.part for row in rows], pa.int32()),
            "caption": pa.array([row.caption for row in rows], pa.string()),
            "version": ["stat:1"] * len(rows),
            "width": pa.array([8] * len(rows), pa.int32()),
            "height": pa.array([8] * len(rows), pa.int32()),
            **{name: pa.array([row.columns.get(name) for row in rows], pa.string()) for name in names},
        }
    )


def _table(store: Store, rows: list[dict[str, Any]], columns: Sequence[str]) -> FileReference:
    table = pa.Table.from_pylist(rows) if rows else pa.table({name: pa.array([], pa.string()) for name in columns})
    with store.scratch() as scratch:
        file = scratch / "table.parquet"
        pq.write_table(table, file)
        return store.upload(file, layout.TABLES, "table")

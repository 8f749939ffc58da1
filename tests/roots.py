"""Makes small roots by hand, without Beam and torch: what searching reads, and nothing else."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from xxhash import xxh3_64_hexdigest

from transforms.digests import digest
from transforms.generations import manifest, tables, tombstones
from transforms.generations.manifest import Generation, Tables, Totals
from transforms.generations.tombstones import Tombstones
from transforms.index.lists.writer import write_lists
from transforms.markers import TrainedIndex
from transforms.records import (
    NO_ENCODER,
    EncoderSettings,
    FileReference,
    IndexSettings,
    Metric,
    Modality,
    Request,
    Source,
    row_ids,
)
from transforms.shards import files
from transforms.shards.files import Reject
from transforms.storage import layout
from transforms.storage.store import Store, sha256_of

FINGERPRINT = "9" * 64
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
    deltas: Sequence[Collection[int]] = (),
    dead: Collection[int] = (),
) -> Store:
    """Publishes generation `number` with these shards; rows of a shard must be pictures, then texts, then keywords.

    `deltas` has the numbers of the shards of each delta, `dead` the ids of dead rows, which are in lists all the same.
    """
    store = Store.at(str(folder))
    everything = [row for rows in shard_rows for row in rows]
    living = [
        row for shard, rows in enumerate(shard_rows) for n, row in enumerate(rows) if (shard << 16) + n not in dead
    ]
    vectors = np.array([row.vector for row in everything], np.float32)
    index = faiss.index_factory(vectors.shape[1], key, METRICS[metric])
    index.train(vectors if train_on is None else train_on)
    ivf = faiss.extract_index_ivf(index)
    trained = _trained(store, index, key, metric, nprobe)
    added = [faiss.clone_index(index) for _ in deltas]
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
            entry |= asdict(files.write_embeddings(store, shard, _metadata(rows), own))
            holder = next((one for one, numbers in zip(added, deltas, strict=True) if shard in numbers), index)
            holder.add_with_ids(own, row_ids(shard, len(rows)))
        table.append(entry)
    merged, segments = write_merged(store, index, number)
    rejected = files.write_rejects(store, 0, rejects)
    keys = len({row.key for row in living})
    blocks = [
        _delta(store, block, one, numbers) for block, (one, numbers) in enumerate(zip(added, deltas, strict=True))
    ]
    generation = Generation(
        generation=number,
        request=Request(
            sources=(Source("vectors" if spec == NO_ENCODER else "images", f"file://{folder}/pictures"),),
            encoder=EncoderSettings(spec, fingerprint, vectors.shape[1], modalities, normalize=normalize),
            index=IndexSettings(key, metric),
        ),
        request_digest="0" * 64,
        totals=Totals(
            items=keys + len(rejects),
            embedded=keys,
            rejected=len(rejects),
            vectors=len(living),
            tombstones=len(dead),
            **{f"{kind}s": sum(row.modality == kind for row in living) for kind in ("image", "text", "keyword")},
            shards=len(shard_rows),
            blocks=1,
        ),
        trained=TrainedIndex(
            FINGERPRINT, key, metric, vectors.shape[1], ivf.nlist, ivf.code_size, nprobe, trained, trained
        ),
        index=merged,
        tables=Tables(
            shards=_table(store, table, []),
            blocks=_table(store, blocks, ["block", "rows", "first_shard", "last_shard", "path", "bytes", "checksum"]),
            segments=segments,
            rejects=_table(
                store,
                [{"shard": 0, "rejected": len(rejects), **asdict(rejected)}] if rejected else [],
                ["shard", "rejected", "path", "bytes", "checksum"],
            ),
            tombstones=_tombstones(store, dead) if dead else None,
        ),
        next_shard=len(shard_rows),
    )
    store.commit(layout.generation(number), manifest.seal(generation))
    return store


def write_merged(store: Store, index: Any, number: int = 1) -> tuple[FileReference, FileReference]:
    """Writes an index as the merged one of a generation; returns what names it, and the table of its ranges.

    Its lists are cut into two ranges, where there are as many.
    """
    path = layout.merged_index(number)
    file = store.local_path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    faiss.write_index(index, str(file))
    ivf = faiss.extract_index_ivf(index)
    entry, lists = ivf.code_size + 8, [ivf.invlists.list_size(number) for number in range(ivf.nlist)]
    head, half = file.stat().st_size - sum(lists) * entry, ivf.nlist // 2
    cuts = sorted({0, half, ivf.nlist})
    places = [(0, 0, 0, head)] + [
        (first, last, head + sum(lists[:first]) * entry, sum(lists[first:last]) * entry)
        for first, last in itertools.pairwise(cuts)
    ]
    content = file.read_bytes()
    rows = [
        {
            "first_list": first, "last_list": last, "offset": offset, "path": path, "bytes": size,
            "checksum": f"xxh3:{xxh3_64_hexdigest(content[offset : offset + size])}",
        }
        for first, last, offset, size in places
    ]  # fmt: skip
    return FileReference(path, len(content), f"pieces:{digest(rows)}"), tables.write_segments(store, rows)


def _trained(store: Store, index: Any, key: str, metric: str, nprobe: int) -> FileReference:
    with store.scratch() as scratch:
        file = scratch / "index.faiss"
        faiss.write_index(index, str(file))
        return store.upload_as(file, f"{layout.trained_folder(FINGERPRINT)}/index.faiss", f"sha256:{sha256_of(file)}")


def _delta(store: Store, block: int, index: Any, numbers: Collection[int]) -> dict[str, Any]:
    """Writes the lists of an index as a delta; returns its row of the table of blocks."""
    ivf = faiss.extract_index_ivf(index)
    sizes = [ivf.invlists.list_size(number) for number in range(ivf.nlist)]
    full = [(number, size) for number, size in enumerate(sizes) if size]
    codes = [faiss.rev_swig_ptr(ivf.invlists.get_codes(number), size * ivf.code_size) for number, size in full]
    ids = [faiss.rev_swig_ptr(ivf.invlists.get_ids(number), size) for number, size in full]
    with store.scratch() as scratch:
        file = scratch / "block.ivf"
        with file.open("wb") as out:
            seal = write_lists(
                out,
                list_nos=np.repeat(np.arange(ivf.nlist), sizes),
                codes=np.concatenate([*codes, np.empty(0, np.uint8)]).reshape(-1, ivf.code_size),
                ids=np.concatenate([*ids, np.empty(0, np.int64)]),
                nlist=ivf.nlist,
                fingerprint=FINGERPRINT,
            )
        reference = store.upload(
            file, layout.lists_folder(FINGERPRINT), layout.block_stem(block), f"xxh3:{seal.checksum}"
        )
    assert reference.bytes == seal.bytes
    places = {"first_shard": min(numbers), "last_shard": max(numbers), "merged": False}
    return {"block": block, "rows": int(index.ntotal), **places, **asdict(reference)}


def _tombstones(store: Store, dead: Collection[int]) -> FileReference:
    file = tombstones.write(store, Tombstones.of(np.array(sorted(dead), np.int64)))
    return _table(store, [{"folder": 0, "rows": len(dead), **asdict(file)}], [])


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

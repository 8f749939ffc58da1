"""Plans sources as one partition and embeds it, without Beam."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tests.encoders import TinyEncoder
from transforms.markers import ShardMarker
from transforms.records import EncoderSettings, IndexSettings, Plan, Request, Source
from transforms.runs import beginning
from transforms.runs import partitions as planning
from transforms.runs.partitions import Listing
from transforms.runs.run import Run
from transforms.shards import files
from transforms.shards.files import Reject
from transforms.sources import items
from transforms.sources.pictures import PictureListing
from transforms.sources.table_rows import RowListing
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.tasks.embed.open_encoder import fingerprint_of
from transforms.tasks.embed.shard import embed_partition

SETTINGS = EncoderSettings(
    "tests.encoders:TinyEncoder", fingerprint_of(TinyEncoder(), "crop"), TinyEncoder.dim, ("image", "text"), batch=4
)


def planned(root: Path, *sources: Source, settings: EncoderSettings = SETTINGS) -> Run:
    """Plans all sources as one partition."""
    store = Store.at(str(root))
    run = beginning.begin(store, Request(sources, settings, IndexSettings()))
    listings = []
    for number, source in enumerate(sources):
        if source.lists_rows:
            rows = RowListing(source)
            containers = [rows.batches(container) for container in rows.containers()]
        else:
            pictures = PictureListing(source)
            containers = [pictures.batches(container) for container in pictures.containers()]
        for place, batches in enumerate(containers):
            with store.scratch() as scratch:
                file = scratch / "items.parquet"
                items.write(batches, file)
                if not file.exists():
                    continue
                rows = pq.read_table(file)[items.ROWS].to_numpy()
                table = store.upload(file, layout.items_folder(run.generation), "items")
            listings.append(Listing(number, str(place), table, tuple(items.chunks_of(rows))))
    partitions = planning.cut(listings, 0, 65_536)
    table = planning.write_partitions(store, layout.plan_folder(run.generation), partitions)
    whole, total = sum(part.items for part in partitions), sum(part.rows for part in partitions)
    store.commit(layout.plan(run.generation), Plan(1, "r", table, 0, len(partitions), 1, whole, total, "IVF1,Flat"))
    return run


@dataclasses.dataclass(frozen=True)
class Embedded:
    run: Run
    marker: ShardMarker
    table: pa.Table
    rejects: list[Reject]

    def vectors(self) -> dict[tuple[str, str, int], bytes]:
        names = zip(*(self.table[name].to_pylist() for name in ("key", "modality", "part")), strict=True)
        values = self.table["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, SETTINGS.dim)
        return {name: row.tobytes() for name, row in zip(names, values, strict=True)}

    def norms(self) -> NDArray[np.float32]:
        values = self.table["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, SETTINGS.dim)
        return np.asarray(np.linalg.norm(values, axis=1), np.float32)


def embed(run: Run, encoder: Any = None) -> Embedded:
    (partition,) = planning.read_partitions(run.store, run.plan.partitions)
    marker = embed_partition(run, partition, encoder or TinyEncoder())
    run.commit("embed", partition.shard, marker)
    table = pq.read_table(run.store.local_path(marker.embeddings.path)) if marker.embeddings else pa.table({})
    found = files.read_rejects(run.store, marker.rejects).to_pylist() if marker.rejects else []
    return Embedded(run, marker, table, [Reject(**row) for row in found])

"""Runs that are only records: their plan and markers, and files of the right size; nothing was ever embedded."""

import dataclasses

from transforms.generations.manifest import Generation
from transforms.markers import KeysMarker, ListsMarker, PieceMarker, ShardMarker, TrainedIndex, TrainMarker
from transforms.records import (
    EncoderSettings,
    FileReference,
    IndexSettings,
    Partition,
    Plan,
    Request,
    Source,
)
from transforms.runs import beginning
from transforms.runs.partitions import write_partitions
from transforms.runs.run import Run
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.tasks import publish

REQUEST = Request(
    (Source("images", "file:///pictures"),), EncoderSettings("demo", "f", 16, ("image",)), IndexSettings()
)
OTHER = dataclasses.replace(REQUEST, seed=1)


def reference(name: str, size: int = 1) -> FileReference:
    return FileReference(f"files/{name}", size, f"sha256:{0:064}")


def plan(run: Run, first_shard: int = 0, shards: int = 2) -> None:
    partitions = [Partition(first_shard + number, 0, (), 3, 3) for number in range(shards)]
    table = write_partitions(run.store, layout.plan_folder(run.generation), partitions)
    planned = Plan(run.generation, "r", table, first_shard, shards, 1, 6, 5, "IVF1,Flat")
    run.store.commit(layout.plan(run.generation), planned)


def lay(store: Store, path: str, size: int) -> None:
    """Puts a file of this size there: markers are not believed without their files."""
    file = store.local_path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(bytes(size))


def finish(run: Run, listed: int = 5, merged: int = 5) -> None:
    """Commits the markers of a run of two shards: five rows, and one item that was rejected."""
    first = run.plan.first_shard
    for name in ("index", "training", "lists", "keys", f"e{first}", f"r{first + 1}"):
        lay(run.store, f"files/{name}", 1)
    lay(run.store, layout.merged_index(run.generation), 100 + merged * 72)
    trained = TrainedIndex("t", "IVF1,Flat", "ip", 16, 1, 64, 1, reference("index"), reference("training"))
    for shard, rows, rejected in ((first, 5, 0), (first + 1, 0, 1)):
        marker = ShardMarker(
            shard, 0, "d", rows + rejected, rejected, rows, rows, 0, 0,
            reference(f"e{shard}") if rows else None, reference(f"r{shard}") if rejected else None, 0.0,
        )  # fmt: skip
        run.commit("embed", shard, marker)
    run.commit("keys", 0, KeysMarker(0, "d", 6, 1, 5, 0, 0, reference("keys")))
    run.commit("train", 0, TrainMarker("d", trained))
    run.commit("add", 0, ListsMarker(0, "d", listed, reference("lists")))
    run.commit("merge", 0, PieceMarker(0, "d", 0, 0, 0, 100, f"xxh3:{0:016}"))
    run.commit("merge", 1, PieceMarker(1, "d", 0, 1, 100, merged * 72, f"xxh3:{1:016}"))


def publish_run(store: Store, request: Request = REQUEST) -> Generation:
    run = beginning.begin(store, request)
    plan(run, beginning.next_shard(store))
    finish(run)
    return publish.publish(run)

"""Roots that a stranger made, each of which would have something run, read, written, removed or asked that is not its.

Each is a small root that is whole, with one thing in it changed; its manifest is sealed again, as a stranger would.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from xxhash import xxh3_64

from tests.roots import Row, make_root, unit
from transforms.digests import digest
from transforms.ready_range import VectorRange
from transforms.records import NO_ENCODER
from transforms.shards.files import Reject
from transforms.shards.ready_files import stat

READS: Final = ("search", "page", "inspect", "files", "verify")
"""Commands that change nothing."""

MODULE: Final = "evil_module_of_a_stranger"


@dataclass(frozen=True)
class Ground:
    """Where a hostile root stands: beside a folder that nobody may touch, and a server that nobody may ask."""

    root: Path
    canary: Path
    door: int

    @property
    def up(self) -> str:
        """The canary's folder as the root would name it."""
        return os.path.relpath(self.canary, self.root)


@dataclass(frozen=True)
class Hostile:
    """A hostile root.

    Attributes:
        name: what it tries.
        make: changes a root that is whole.
        refused: commands that refuse it in one line; the others do what they can without it.
        also: commands beside those that every root is tried with: `text`, `same`, `reindex`.
        rows, spec: what the root is made with.
        variant: another of its kind is tried before every change.
    """

    name: str
    make: Callable[[Ground], None]
    refused: Sequence[str] = ()
    also: Sequence[str] = ()
    rows: Callable[[Ground], Sequence[Row]] | None = None
    spec: str = "demo"
    variant: bool = False


def make(hostile: Hostile, ground: Ground) -> None:
    """Makes it."""
    plain = [Row("a", unit(1), caption="a"), Row("b", unit(2)), Row("c", unit(3))]
    rejected = Reject("r", "file:///pictures/r.png", "stat:1", "image", 0, "decode", "ValueError", "no picture")
    make_root(
        ground.root,
        hostile.rows(ground) if hostile.rows else plain,
        [Row("d", unit(4))],
        deltas=[{1}],
        dead=[2],
        rejects=[rejected],
        spec=hostile.spec,
    )
    hostile.make(ground)


# --- tools of a stranger ---


def manifest(root: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((root / "generations/000001.json").read_text())
    return record


def publish(root: Path, record: dict[str, Any]) -> None:
    """Writes a manifest with its seal."""
    record["checksum"] = digest(record | {"checksum": ""})
    (root / "generations/000001.json").write_text(json.dumps(record))


def said(*keys: str, value: Any) -> Callable[[Ground], None]:
    """Has the manifest say something else; of text, `UP` is the way to the canary and `CANARY` its whole path."""

    def change(ground: Ground) -> None:
        record = manifest(ground.root)
        place = record
        for key in keys[:-1]:
            place[key] = place[key] or {"bytes": 8, "checksum": "sha256:" + "0" * 64}
            place = place[key]
        place[keys[-1]] = named(ground, value)
        publish(ground.root, record)

    return change


def named(ground: Ground, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return value.replace("UP", ground.up).replace("CANARY", str(ground.canary)).replace("DOOR", str(ground.door))


def listed(table: str, **values: Any) -> Callable[[Ground], None]:
    """Has the first row of a table say something else."""

    def change(ground: Ground) -> None:
        record = manifest(ground.root)
        rows = pq.read_table(ground.root / record["tables"][table]["path"]).to_pylist()
        rows = rows or [{"first_list": 0, "last_list": 1, "offset": 0, "bytes": 8, "checksum": "xxh3:" + "0" * 16}]
        rows[0] |= {name: named(ground, value) for name, value in values.items()}
        file = ground.root / "tables" / "forged.parquet"
        pq.write_table(pa.Table.from_pylist(rows), file)
        data = file.read_bytes()
        checksum = hashlib.sha256(data).hexdigest()
        file.rename(file.with_name(f"{checksum}.parquet"))
        record["tables"][table] = {
            "path": f"tables/{checksum}.parquet",
            "bytes": len(data),
            "checksum": f"sha256:{checksum}",
        }
        publish(ground.root, record)

    return change


def both(*changes: Callable[[Ground], None]) -> Callable[[Ground], None]:
    def change(ground: Ground) -> None:
        for each in changes:
            each(ground)

    return change


def linked(path: str, target: str = "") -> Callable[[Ground], None]:
    """Puts a link to the canary where something of the root is; what was there is in the canary, too."""

    def change(ground: Ground) -> None:
        place, goal = ground.root / path, ground.canary / (target or path.rpartition("/")[2])
        if place.is_dir():
            shutil.copytree(place, goal, dirs_exist_ok=True)
            shutil.rmtree(place)
        elif place.exists():
            shutil.move(place, goal)
        elif not goal.exists():
            goal.mkdir()
            (goal / "block-theirs.ivf").write_bytes(b"theirs")
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(goal)

    return change


def table_linked(ground: Ground) -> None:
    linked(manifest(ground.root)["tables"]["shards"]["path"])(ground)


def shard_linked(ground: Ground) -> None:
    (shard,) = (ground.root / "embeddings/0000").glob("shard-0000000000-*")
    linked(str(shard.relative_to(ground.root)))(ground)


def lists_elsewhere(ground: Ground) -> None:
    """An index whose lists are in a file of its own, as faiss knows them."""
    record = manifest(ground.root)
    index = faiss.index_factory(2, "IVF1,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(np.eye(2, dtype=np.float32))
    lists = faiss.OnDiskInvertedLists(1, index.code_size, str(ground.canary / "lists"))
    index.replace_invlists(lists)
    index.add_with_ids(np.eye(2, dtype=np.float32), np.arange(2))
    file = ground.root / record["index"]["path"]
    faiss.write_index(index, str(file))
    size, checksum = file.stat().st_size, f"xxh3:{xxh3_64(file.read_bytes()).hexdigest()}"
    row = {"first_list": 0, "last_list": 1, "offset": 0, "bytes": size, "path": record["index"]["path"]}
    listed("segments", **row, checksum=checksum)(ground)
    record = manifest(ground.root)
    record["index"] |= {"bytes": size, "checksum": f"pieces:{digest([row | {'checksum': checksum}])}"}
    publish(ground.root, record)


def ready(**values: Any) -> Callable[[Ground], None]:
    """Has the first shard stand for ready embeddings; `sources` is where the request says that they are."""

    def change(ground: Ground) -> None:
        file = ground.canary / "vectors.parquet"
        pq.write_table(pa.table({"caption": ["secret"] * 3, "embedding": [[1.0, 0.0]] * 3}), file)
        told: dict[str, Any] = {
            "uri": f"file://{file}",
            "format": "parquet",
            "column": "embedding",
            "version": stat(f"file://{file}")[1],
        }
        told |= {name: named(ground, value) for name, value in values.items() if name != "sources"}
        row = asdict(VectorRange(start=0, stop=3, **told))
        listed("shards", path=None, bytes=None, checksum=None, ready=row)(ground)
        record = manifest(ground.root)
        record["request"]["sources"][0]["pattern"] = named(ground, values.get("sources", "file:///v/*.parquet"))
        publish(ground.root, record)

    return change


def nothing(ground: Ground) -> None:
    """Its rows are what is hostile."""


def pictured(*uris: str) -> Callable[[Ground], Sequence[Row]]:
    """Rows whose pictures are elsewhere than the sources, with equal vectors, as one that is among them has."""
    return lambda ground: [
        Row(f"k{number}", unit(1), uri=named(ground, uri).replace("ROOT", str(ground.root)))
        for number, uri in enumerate(("file://ROOT/pictures/own.png", *uris, "file:///p/c.png"))
    ]


def own_picture(ground: Ground) -> None:
    """Puts a picture among the sources that is the same as that of the canary."""
    (ground.root / "pictures").mkdir()
    shutil.copy(ground.canary / "picture.png", ground.root / "pictures" / "own.png")


# --- what they try ---

_PATHS: Final = {
    "up": "UP/file",
    "up in the middle": "tables/../UP/file",
    "absolute": "CANARY/file",
    "a URL": "file://CANARY/file",
    "backslashes": "..\\canary\\file",
    "a zero byte": "tables/x\0/file",
    "no name": "",
    "the root itself": ".",
    "two slashes": "tables//file",
    "a line end": "tables/x\nfile",
}

_PICTURES: Final = {
    "loopback": "http://127.0.0.1:DOOR/x.png",
    "a canary": "file://CANARY/picture.png",
    "up": "file://ROOT/pictures/../../canary/picture.png",
    "localhost": "http://localhost:DOOR/x.png",
    "loopback of IPv6": "http://[::1]:DOOR/x.png",
    "IPv4 in IPv6": "http://[::ffff:127.0.0.1]:DOOR/x.png",
    "no address": "http://0.0.0.0:DOOR/x.png",
    "a number": "http://2130706433:DOOR/x.png",
    "few numbers": "http://127.1:DOOR/x.png",
    "behind a name": "http://example.org@127.0.0.1:DOOR/x.png",
    "encrypted": "https://127.0.0.1:DOOR/x.png",
    "FTP": "ftp://127.0.0.1:DOOR/x.png",
    "a chain": "simplecache::http://127.0.0.1:DOOR/x.png",
    "up in percents": "file://ROOT/pictures/%2e%2e/%2e%2e/canary/picture.png",
    "local": "local://CANARY/picture.png",
}

HOSTILE: Final = (
    *(Hostile(f"index: {name}", said("index", "path", value=path), READS, variant=number > 2)
      for number, (name, path) in enumerate(_PATHS.items())),
    Hostile("table of shards", said("tables", "shards", "path", value="UP/file"), READS),
    Hostile("tombstones", said("tables", "tombstones", "path", value="UP/file"), READS),
    Hostile("trained index", said("trained", "index", "path", value="CANARY/file"), READS),
    Hostile("training", said("trained", "training", "path", value="UP/file"), READS),
    Hostile("canaries", said("canaries", "path", value="UP/file"), READS),
    Hostile("a shard", listed("shards", path="UP/file"), ("search", "page", "inspect", "files", "verify", "gc")),
    Hostile("a shard, absolute", listed("shards", path="CANARY/file"), ("search", "page", "verify", "gc")),
    Hostile("a delta", listed("blocks", path="UP/file"), ("search", "page", "verify", "gc")),
    Hostile("a range of lists", listed("segments", path="UP/file"), ("gc",)),
    Hostile("rejects", listed("rejects", path="UP/file"), ("inspect", "gc")),
    Hostile("a folder of tombstones", listed("tombstones", path="UP/file"), ("search", "page", "verify", "gc")),
    Hostile("a linked table", table_linked, ("search", "page")),
    Hostile("a linked shard", shard_linked, ("search", "page")),
    Hostile("a linked manifest", linked("generations/000001.json"), (*READS, "gc", "rollback")),
    Hostile("linked generations", linked("generations"), (*READS, "gc", "rollback")),
    Hostile("linked tables", linked("tables"), ("search", "page", "gc")),
    Hostile("linked embeddings", linked("embeddings"), ("search", "page", "gc")),
    Hostile("a linked folder of embeddings", linked("embeddings/0000"), ("search", "page", "gc")),
    Hostile("a linked index", linked("index/000001"), ("search", "page", "gc")),
    Hostile("linked trained indexes", linked("trained"), ("gc",)),
    Hostile("linked plans", linked("plans"), ("gc",)),
    Hostile("linked reports", linked("reports"), ("gc",)),
    Hostile("linked scratch", linked(".scratch"), ("gc",)),
    Hostile("a linked lease", linked("lease.json", "file"), ("gc",)),
    Hostile("lists in another file", lists_elsewhere, ("search", "page")),
    Hostile("segments in the cache", said("index", "checksum", value="segments:../../../canary/x"), ("search", "page")),
    Hostile("an encoder", nothing, ("text", "reindex"), also=("text", "reindex"), spec=f"{MODULE}:Encoder"),
    Hostile("ready embeddings of a root of pictures", ready(sources="file://CANARY/*.parquet"),
            ("search", "page", "verify")),
    Hostile("ready embeddings", ready(), ("search", "page", "verify")),
    Hostile("metadata", ready(uri="file:///v/a.npy", format="npy", metadata="file://CANARY/vectors.parquet"),
            ("search", "page", "verify")),
    Hostile("metadata on the web", ready(uri="file:///v/a.npy", format="npy", metadata="http://127.0.0.1:DOOR/m.parquet"),
            ("search", "page", "verify")),
    Hostile("ready embeddings on the web", ready(uri="http://127.0.0.1:DOOR/v.parquet", sources="http://127.0.0.1:DOOR/*.parquet"),
            ("search", "page", "verify", "reindex"), also=("reindex",), spec=NO_ENCODER),
    Hostile("sources on the web", both(
        said("request", "sources", value=[{"kind": "images", "pattern": "http://127.0.0.1:9/pictures"}]),
        said("tables", "keys", value={"path": "tables/keys.parquet", "bytes": 8, "checksum": "sha256:" + "0" * 64}),
    ), ("reindex",), also=("reindex",)),
    *(Hostile(f"a picture: {name}", own_picture, also=("same",), rows=pictured(uri), variant=number > 2)
      for number, (name, uri) in enumerate(_PICTURES.items())),
)  # fmt: skip

assert len({each.name for each in HOSTILE}) == len(HOSTILE) >= 25

"""Faults during a reindex: each is a clear line that names the file; nothing is published, and nothing is lost.

Every kind of file, damaged in every way, in every kind of night, takes ten minutes:

    pytest -m slow tests/end_to_end/test_reindex_faults.py
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines import build, reindex, verify
from tests.end_to_end import reindexing
from tests.end_to_end.builds import content, leftovers
from tests.end_to_end.reindexing import Collection, collection, generation_of
from transforms import generations, layout, members
from transforms.store import Store

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a root that has a delta, tombstones and rejects, whose sources have changed since."""
    folder = tmp_path_factory.mktemp("before")
    items = collection(folder / "sources")
    assert build.main(["--root", str(folder / "root"), *items.arguments, "--index-key", "IVF4,Flat"]) == 0
    items.pictures |= {"bad": -1, "new": 500}
    del items.pictures["p003"]
    items.write()
    assert reindexing.run(folder / "root", "--max-tombstones", "1") == 0
    change(items)
    return folder


def change(items: Collection) -> None:
    """Makes a night's work: something new, something gone, and a reject that is none any more."""
    items.pictures |= {"newer": 501, "bad": 502}
    del items.pictures["p004"]
    items.write()


@pytest.fixture
def root(before: Path, tmp_path: Path) -> Path:
    shutil.copytree(before / "root", tmp_path / "root")
    return tmp_path / "root"


def files_of(root: Path) -> dict[str, str]:
    """A file of each kind that the current generation has, by kind."""
    store, generation = Store.at(str(root)), generation_of(root)
    assert generation.tables.keys and generation.tables.tombstones and generation.canaries
    (keys,) = members.buckets_of(store, generation)
    ((_, dead),) = members.tombstones_of(store, generation).values()
    (rejects,) = members.rejects_of(store, generation).values()
    blocks = members.blocks_of(store, generation)
    shards = [marker.embeddings for marker in members.shards_of(store, generation) if marker.embeddings]
    return {
        "manifest": layout.generation(generation.generation),
        "table of shards": generation.tables.shards.path,
        "table of blocks": generation.tables.blocks.path,
        "table of keys": generation.tables.keys.path,
        "key bucket": keys.file.path,
        "table of tombstones": generation.tables.tombstones.path,
        "tombstones": dead.path,
        "table of rejects": generation.tables.rejects.path,
        "rejects": rejects.path,
        "trained index": generation.trained.index.path,
        "training": generation.trained.training.path,
        "canaries": generation.canaries.path,
        "lists": blocks[0].lists.path,
        "shard": shards[0].path,
    }


NOT_READ = {"delta": {"rejects", "shard", "lists"}, "compaction": {"rejects", "shard"}, "retrain": {"rejects"}}
"""What a night does not look at: rejects that all go away need not be read; shards are only read to be added anew."""

NIGHTS = {"delta": (), "compaction": ("--max-deltas", "0"), "retrain": ("--retrain", "always")}

DAMAGE: dict[str, Callable[[Path], object]] = {
    "flipped bit": lambda file: file.write_bytes(flipped(file.read_bytes())),
    "cut short": lambda file: os.truncate(file, file.stat().st_size - 3),
    "missing": lambda file: file.unlink(),
}


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :]


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        ("manifest", "flipped bit"),
        ("key bucket", "flipped bit"),
        ("tombstones", "cut short"),
        ("table of shards", "missing"),
        ("trained index", "flipped bit"),
        ("lists", "flipped bit"),
    ],
)
def test_a_damaged_file_is_named_and_the_repaired_root_goes_on(
    root: Path, kind: str, damage: str, capsys: Capture
) -> None:
    # A delta looks at the sizes of lists only; who merges them reads and checks all.
    check(root, kind, damage, "compaction" if kind == "lists" else "delta", capsys)


@pytest.mark.slow
@pytest.mark.parametrize("night", NIGHTS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_of_any_kind_is_named(root: Path, damage: str, night: str, capsys: Capture) -> None:
    for kind in files_of(root):
        if kind not in NOT_READ[night] and not (night == "retrain" and kind in MADE_ANEW):
            check(root, kind, damage, night, capsys)


MADE_ANEW = {"trained index", "training", "canaries", "lists"}
"""What a training that is asked for makes anew, and so does not read."""


def check(root: Path, kind: str, damage: str, night: str, capsys: Capture) -> None:
    name = files_of(root)[kind]
    file, published = root / name, generations.numbers(Store.at(str(root)))
    whole = file.read_bytes()
    DAMAGE[damage](file)
    if (kind, damage) == ("manifest", "missing"):  # the generation before is the current one then
        assert verify.main(["--root", str(root)]) == 0
        file.write_bytes(whole)
        return
    capsys.readouterr()
    code = reindexing.run(root, *NIGHTS[night])

    said = capsys.readouterr().err.splitlines()
    assert code == 1, (kind, damage, night)
    assert Path(name).name in said[-1] and said[-1].startswith("pixdex: "), said[-3:]
    assert "Traceback" not in "\n".join(said)
    assert generations.numbers(Store.at(str(root))) == published
    assert not Store.at(str(root)).exists(layout.LEASE)
    file.write_bytes(whole)
    assert verify.main(["--root", str(root)]) == 0


def test_after_the_repair_the_night_ends_as_if_nothing_had_been(root: Path, tmp_path: Path, capsys: Capture) -> None:
    shutil.copytree(root, tmp_path / "undisturbed")
    assert reindexing.run(tmp_path / "undisturbed") == 0
    for kind in ("key bucket", "tombstones", "trained index"):
        check(root, kind, "flipped bit", "delta", capsys)
    assert reindexing.run(root) == 0
    assert content(root) == content(tmp_path / "undisturbed")
    assert leftovers(root) == []


@pytest.mark.parametrize("damage", ["flipped bit", "missing"])
def test_what_a_damaged_shard_held_is_embedded_anew(root: Path, tmp_path: Path, damage: str, capsys: Capture) -> None:
    shutil.copytree(root, tmp_path / "undisturbed")
    assert reindexing.run(tmp_path / "undisturbed") == 0
    found = files_of(root)
    for kind in ("shard", "rejects"):
        DAMAGE[damage](root / found[kind])
    assert verify.main(["--root", str(root)]) == 1
    assert "pixdex reindex --repair" in capsys.readouterr().err
    assert reindexing.run(root, "--repair", "--retrain", "never") == 0
    assert verify.main(["--root", str(root)]) == 0
    reindexing.assert_same(reindexing.found(root), reindexing.found(tmp_path / "undisturbed"))


@pytest.mark.parametrize("kind", ["lists", "trained index"])
def test_a_training_that_is_asked_for_makes_all_but_the_shards_anew(root: Path, kind: str) -> None:
    DAMAGE["flipped bit"](root / files_of(root)[kind])
    assert verify.main(["--root", str(root)]) == 1
    assert reindexing.run(root, "--retrain", "always") == 0
    assert verify.main(["--root", str(root)]) == 0


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Makes the disk full from the so-manieth time on that a file is to get its name."""
    left = [1 << 30]

    def deadly(primitive: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: object, **kwargs: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return primitive(*args, **kwargs)

        return call

    for name in ("link", "replace"):
        monkeypatch.setattr(os, name, deadly(getattr(os, name)))
    yield lambda count: left.__setitem__(0, count)
    left[0] = 1 << 30


@pytest.mark.parametrize(
    "names", [pytest.param(3, marks=pytest.mark.slow), 8, pytest.param(20, marks=pytest.mark.slow), 30]
)
def test_a_full_disk_is_said_in_a_line_and_the_night_goes_on_when_there_is_room(
    root: Path, tmp_path: Path, full_disk: Callable[[int], None], capsys: Capture, names: int
) -> None:
    shutil.copytree(root, tmp_path / "undisturbed")
    assert reindexing.run(tmp_path / "undisturbed") == 0
    capsys.readouterr()
    full_disk(names)
    code = reindexing.run(root)
    full_disk(1 << 30)
    said = capsys.readouterr().err.splitlines()
    assert code == 1 and "No space left on device" in said[-1] and "make room" in said[-1], said[-3:]
    assert generation_of(root).generation == 2

    assert reindexing.run(root) == 0
    assert content(root) == content(tmp_path / "undisturbed")
    assert verify.main(["--root", str(root)]) == 0


def test_a_root_that_cannot_be_written_is_refused_in_a_line(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "link", refuse)
    capsys.readouterr()
    assert reindex.main(["--root", str(root)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert "Read-only file system" in said[-1] and said[-1].startswith("pixdex: ")

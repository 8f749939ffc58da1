"""Faults during a reindex: each is a clear line that names the file; nothing is published, and nothing is lost.

Every kind of file, damaged in every way, in every kind of night, and many full disks take half an hour:

    pytest -m slow tests/end_to_end/reindex/test_reindex_faults.py
"""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines import build, reindex, verify
from tests.conftest import skip_or_fail
from tests.end_to_end import reindexing
from tests.end_to_end.builds import content, leftovers
from tests.end_to_end.reindexing import Collection, collection, generation_of
from transforms.generations import published, tables
from transforms.storage import layout
from transforms.storage.store import Store

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
    (keys,) = tables.buckets_of(store, generation)
    ((_, dead),) = tables.tombstones_of(store, generation).values()
    (rejects,) = (rejected.file for rejected in tables.rejects_of(store, generation).values() if rejected.file)
    blocks = tables.blocks_of(store, generation)
    shards = [marker.embeddings for marker in tables.shards_of(store, generation) if marker.embeddings]
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


@pytest.fixture(scope="module")
def undisturbed(before: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, str]]:
    """What a night makes to which nothing happens."""
    made: dict[str, dict[str, str]] = {}

    def of(night: str) -> dict[str, str]:
        if night not in made:
            root = tmp_path_factory.mktemp(night) / "root"
            shutil.copytree(before / "root", root)
            assert reindexing.run(root, *NIGHTS[night]) == 0
            made[night] = content(root)
        return made[night]

    return of


Undisturbed = Callable[[str], dict[str, str]]

SAMPLE = {
    "delta": {
        "manifest": "flipped bit",
        "key bucket": "flipped bit",
        "tombstones": "cut short",
        "trained index": "flipped bit",
        "table of shards": "missing",
    },
    "compaction": {"lists": "flipped bit"},
    "retrain": {"shard": "missing"},
}
"""What is tried for every change, in the order in which it is read: who goes on does not read again what was read.

A delta looks at the sizes of lists only; who merges them reads and checks all.
"""


@pytest.mark.gate
@pytest.mark.parametrize("night", SAMPLE)
def test_a_damaged_file_is_named_and_the_repaired_root_ends_as_if_nothing_had_been(
    root: Path, night: str, undisturbed: Undisturbed, capsys: Capture
) -> None:
    for kind, damage in SAMPLE[night].items():
        check(root, kind, damage, night, capsys)
    assert_ends_as(undisturbed(night), root, night)


def assert_ends_as(wanted: dict[str, str], root: Path, night: str = "delta") -> None:
    """The same command ends with the bytes of an undisturbed run."""
    assert reindexing.run(root, *NIGHTS[night]) == 0
    assert content(root) == wanted
    assert leftovers(root) == []
    assert verify.main(["--root", str(root)]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("night", NIGHTS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_of_any_kind_is_named(
    root: Path, damage: str, night: str, undisturbed: Undisturbed, tmp_path: Path, capsys: Capture
) -> None:
    for kind in files_of(root):
        if kind not in NOT_READ[night] and not (night == "retrain" and kind in MADE_ANEW):
            copy = tmp_path / kind
            shutil.copytree(root, copy)
            check(copy, kind, damage, night, capsys)
            assert_ends_as(undisturbed(night), copy, night)
            shutil.rmtree(copy)


MADE_ANEW = {"trained index", "training", "canaries", "lists"}
"""What a training that is asked for makes anew, and so does not read."""


def check(root: Path, kind: str, damage: str, night: str, capsys: Capture) -> None:
    """Damages a file, sees the night fail in a line that names it, with nothing published, and repairs the file."""
    name = files_of(root)[kind]
    file, before, kept = root / name, published.numbers(Store.at(str(root))), content(root)
    whole, times = file.read_bytes(), file.stat()
    DAMAGE[damage](file)
    if (kind, damage) == ("manifest", "missing"):  # the generation before is the current one then
        assert verify.main(["--root", str(root)]) == 0
        file.write_bytes(whole)
        return
    capsys.readouterr()
    code = reindexing.run(root, *NIGHTS[night])

    said = capsys.readouterr().err.splitlines()
    assert code == 1, (kind, damage, night)
    assert sum(line.startswith("pixdex: ") for line in said) == 1 and said[-1].startswith("pixdex: "), said
    assert Path(name).name in said[-1], said[-1]
    assert "Traceback" not in "\n".join(said)
    assert published.numbers(Store.at(str(root))) == before
    assert not Store.at(str(root)).exists(layout.LEASE)
    file.write_bytes(whole)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert content(root) == kept


@pytest.mark.gate
@pytest.mark.parametrize("damage", ["flipped bit", pytest.param("missing", marks=pytest.mark.slow)])
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


@pytest.mark.gate
@pytest.mark.parametrize("kind", ["lists", pytest.param("trained index", marks=pytest.mark.slow)])
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


NAMES = [0, 1, 2, 3, 5, 8, 12, 16, 20, 25, 30, 35, 40]


@pytest.mark.parametrize(
    "names", [pytest.param(count, marks=() if count == 20 else pytest.mark.slow) for count in NAMES]
)
def test_a_full_disk_is_said_in_a_line_and_the_night_goes_on_when_there_is_room(
    root: Path, undisturbed: Undisturbed, full_disk: Callable[[int], None], capsys: Capture, names: int
) -> None:
    wanted = undisturbed("delta")
    capsys.readouterr()
    full_disk(names)
    code = reindexing.run(root)
    full_disk(1 << 30)
    assert_says(code, capsys, "No space left on device", "make room")
    assert generation_of(root).generation == 2
    assert_ends_as(wanted, root)


def assert_says(code: int, capsys: Capture, *words: str, failed: int = 1) -> None:
    """The job failed, and said in one line why and what to do."""
    said = capsys.readouterr().err.splitlines()
    assert code == failed, said
    assert "Traceback" not in "\n".join(said)
    assert sum(line.startswith("pixdex: ") for line in said) == 1 and said[-1].startswith("pixdex: "), said
    for word in words:
        assert word in said[-1], said[-1]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts something at an empty folder; skipped where this user may not."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    mounts = []

    def mount(*words: str) -> Path:
        done = subprocess.run(["mount", *words, str(folder)], capture_output=True, check=False, encoding="utf-8")
        if done.returncode:
            skip_or_fail("MOUNT", f"this user may mount nothing: {done.stderr.strip()}")
        mounts.append(words)
        return folder

    yield mount
    if mounts:  # the second one only changes the first
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # this process keeps files open


@pytest.mark.parametrize(
    "room",
    [
        pytest.param(kib, marks=pytest.mark.gate if kib == 48 else pytest.mark.slow)
        for kib in (0, 4, 16, 32, 48, 64, 96, 128)
    ],
)
def test_a_disk_that_is_full_indeed_is_said_in_a_line(
    root: Path, mounted: Callable[..., Path], undisturbed: Undisturbed, capsys: Capture, room: int
) -> None:
    wanted = undisturbed("delta")
    disk = mounted("-t", "tmpfs", "-o", "size=16m", "tmpfs")
    small, ballast = disk / "root", disk / "ballast"
    shutil.copytree(root, small)
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    ballast.write_bytes(bytes(free - (room << 10)))
    kept = content(small)
    capsys.readouterr()
    assert_says(reindexing.run(small), capsys, "No space left on device", "make room")
    assert content(small) == kept
    ballast.unlink()
    assert_ends_as(wanted, small)


def test_a_root_that_is_mounted_to_be_read_is_compared_but_not_written(
    root: Path, mounted: Callable[..., Path], capsys: Capture
) -> None:
    still = mounted("--bind", str(root))
    mounted("-o", "remount,bind,ro")
    kept = content(root)
    assert reindexing.run(still, "--dry-run") == 0
    capsys.readouterr()
    assert_says(reindexing.run(still), capsys, "Read-only file system", "permissions", str(still), failed=2)
    assert content(root) == kept


def test_a_root_that_cannot_be_written_is_refused_in_a_line(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "link", refuse)
    capsys.readouterr()
    assert_says(reindex.main(["--root", str(root)]), capsys, "Read-only file system", str(root), failed=2)

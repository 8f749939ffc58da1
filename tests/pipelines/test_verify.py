"""`pixdex verify`: a root that is whole is said to be, and whatever is wrong is named with the way out."""

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from pipelines import build, verify
from tests.end_to_end import reindexing
from tests.end_to_end.builds import every_file
from tests.end_to_end.reindexing import collection, deltas, generation_of
from transforms.generations import published
from transforms.generations.manifest import Generation
from transforms.runs.run import Run
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.tasks import publish
from transforms.upkeep import garbage

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a collection and a root of a build and a night: with a delta, tombstones and rejects."""
    folder = tmp_path_factory.mktemp("nights")
    sources = collection(folder / "sources", pictures=120, rows=40)
    sources.pictures["bad"] = -1
    sources.write()
    root = folder / "root"
    assert build.main(["--root", str(root), *sources.arguments, "--index-key", "IVF4,Flat"]) == 0
    sources.pictures |= {"second": 502, "worse": -2}
    del sources.pictures["p003"], sources.rows["k003"]
    sources.write()
    assert reindexing.run(root, "--max-tombstones", "1") == 0
    totals = generation_of(root).totals
    assert (deltas(root), totals.tombstones, totals.rejected) == (1, 3, 2)
    return folder


@pytest.fixture
def root(nights: Path, tmp_path: Path) -> Path:
    shutil.copytree(nights / "root", tmp_path / "root")
    return tmp_path / "root"


def look(root: object, capsys: Capture, *flags: str, code: int = 0) -> dict[str, Any]:
    """The last line on stdout."""
    capsys.readouterr()
    assert verify.main(["--root", str(root), *flags]) == code
    record: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return record


def files_of(root: Path) -> list[str]:
    return published.files(Store.at(str(root)), generation_of(root))


# --- whole ---


def test_a_root_with_deltas_tombstones_and_rejects_is_whole(root: Path, capsys: Capture) -> None:
    before, files = every_file(root), files_of(root)
    sizes = sum((root / path).stat().st_size for path in files)
    said = look(root, capsys)
    assert said == {
        "generation": 2, "ok": True, "files": len(files), "bytes": sizes,
        "vectors": generation_of(root).totals.vectors, "findings": [], "orphans": {"files": 0, "bytes": 0},
        "unfinished": None,
    }  # fmt: skip
    assert every_file(root) == before


@pytest.mark.parametrize("flags", [("--generation", "1"), ("--quick",), ("--quick", "--generation", "1")])
def test_an_earlier_one_and_a_quick_look_are_whole(root: Path, capsys: Capture, flags: tuple[str, ...]) -> None:
    assert look(root, capsys, *flags)["ok"]


@pytest.mark.gate
@pytest.mark.parametrize("flags", [("--max-deltas", "0"), ("--retrain", "always")], ids=["merged", "trained anew"])
def test_what_later_nights_make_is_whole(root: Path, capsys: Capture, flags: tuple[str, ...]) -> None:
    assert reindexing.run(root, *flags) == 0
    said = look(root, capsys)
    assert (said["ok"], said["generation"]) == (True, 3)


def test_a_root_that_was_copied_to_an_object_store_is_whole(root: Path, capsys: Capture) -> None:
    copy = Store.at(f"memory://{uuid.uuid4().hex}")
    for path in files_of(root):
        copy.create(path, (root / path).read_bytes())
    try:
        assert look(copy.url, capsys)["ok"]
        shard = next(path for path in files_of(root) if path.startswith("embeddings/"))
        copy.overwrite(shard, flipped(copy.read(shard)))
        assert look(copy.url, capsys, code=1)["findings"][0]["path"] == f"{copy.url}/{shard}"
    finally:
        fsspec.filesystem("memory").rm(copy.url, recursive=True)


def test_a_root_that_was_built_on_an_object_store_is_whole_and_every_segment_is_looked_at(
    tmp_path: Path, capsys: Capture
) -> None:
    sources, store = collection(tmp_path, pictures=60, rows=0), Store.at(f"memory://{uuid.uuid4().hex}")
    assert build.main(["--root", store.url, *sources.arguments, "--index-key", "IVF1,Flat"]) == 0
    try:
        assert look(store.url, capsys)["ok"]
        segments = [file.path for file in store.walk("index")]
        assert segments
        for path in segments:
            content = store.read(path)
            for damaged in (flipped(content), content[:-1]):
                store.overwrite(path, damaged)
                assert f"{store.url}/{path}" in named(look(store.url, capsys, code=1))
            store.overwrite(path, content)
        assert look(store.url, capsys)["ok"]
    finally:
        fsspec.filesystem("memory").rm(store.url, recursive=True)


# --- damage ---


def flipped(content: bytes) -> bytes:
    """One bit in the middle is another."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def named(said: dict[str, Any]) -> set[str]:
    return {finding["path"] for finding in said["findings"]}


def damages(file: Path, end: int = 1) -> Iterator[str]:
    """Damages a file in every way, one after the other, and puts it back; `end` bytes are cut off."""
    content = file.read_bytes()
    for how in ("flipped", "cut", "removed"):
        if how == "removed":
            file.unlink()
        else:
            file.write_bytes(flipped(content) if how == "flipped" else content[:-end])
        yield how
        file.write_bytes(content)


def test_every_file_that_is_damaged_or_gone_is_named(root: Path, capsys: Capture) -> None:
    for path in files_of(root):
        if path != layout.generation(2):  # see below
            for how in damages(root / path):
                assert f"file://{root}/{path}" in named(look(root, capsys, code=1)), (path, how)
    assert look(root, capsys)["ok"]


def test_a_damaged_manifest_is_named(root: Path, capsys: Capture) -> None:
    path = layout.generation(2)
    for how in damages(root / path, end=2):  # a line feed says nothing
        capsys.readouterr()
        for flags in ([], ["--generation", "2"]):
            assert verify.main(["--root", str(root), *flags]) == 1, how
            (line,) = (line for line in capsys.readouterr().err.splitlines() if path in line)
            assert ("its plan says that it was published" in line) == (how == "removed")
        assert verify.main(["--root", str(root), "--generation", "1"]) == 0


def test_a_quick_look_finds_what_is_gone_or_cut_short_and_reads_nothing_else(root: Path, capsys: Capture) -> None:
    tables = {table.path for table in generation_of(root).tables.all}
    for path in files_of(root):
        if path == layout.generation(2):
            continue
        for how in damages(root / path):
            found = how != "flipped" or path in tables
            if found:
                assert f"file://{root}/{path}" in named(look(root, capsys, "--quick", code=1)), (path, how)


def test_all_that_is_wrong_is_said_and_the_way_out(root: Path, capsys: Capture) -> None:
    kinds = ("embeddings/", "rejects/", "lists/", "trained/")
    damaged = {next(path for path in files_of(root) if path.startswith(kind)) for kind in kinds}
    for path in damaged:
        (root / path).unlink()
    capsys.readouterr()
    assert verify.main(["--root", str(root)]) == 1
    out, err = capsys.readouterr()
    said = json.loads(out.splitlines()[-1])
    assert said["ok"] is False
    assert named(said) == {f"file://{root}/{path}" for path in damaged}
    lines = err.splitlines()
    for path in damaged:
        (line,) = [line for line in lines if path in line]
        assert ("--repair" if path.startswith(("embeddings", "rejects")) else "--retrain always") in line


def test_of_very_many_findings_some_are_shown_and_all_are_in_the_last_line(root: Path, capsys: Capture) -> None:
    gone = [path for path in files_of(root) if not path.startswith(("tables/", "generations/"))]
    for path in gone:
        (root / path).unlink()
    assert len(look(root, capsys, code=1)["findings"]) >= len(gone)


@pytest.mark.parametrize("place", [0, -1], ids=["first byte", "last byte"])
def test_a_flipped_bit_at_either_end_of_a_file_is_named(root: Path, capsys: Capture, place: int) -> None:
    for path in files_of(root):
        content = (root / path).read_bytes()
        damaged = bytearray(content)
        damaged[place] ^= 1
        (root / path).write_bytes(damaged)
        assert f"file://{root}/{path}" in named(look(root, capsys, code=1)), path
        (root / path).write_bytes(content)


def test_a_damaged_manifest_is_a_finding_like_any_other(root: Path, capsys: Capture) -> None:
    path = root / layout.generation(2)
    path.write_bytes(flipped(path.read_bytes()))
    said = look(root, capsys, code=1)
    (finding,) = said["findings"]
    assert (said["generation"], said["ok"], finding["path"]) == (2, False, f"file://{path}")
    assert "or delete it: then the command that made it, run again, publishes it anew" in finding["what"]


def test_a_manifest_that_was_deleted_is_published_anew_by_its_own_command(root: Path, capsys: Capture) -> None:
    path = root / layout.generation(2)
    whole = path.read_bytes()
    path.unlink()
    said = look(root, capsys, code=1)
    assert (said["generation"], said["unfinished"], named(said)) == (1, 2, {f"file://{path}"})
    assert reindexing.run(root, "--max-tombstones", "1") == 0
    assert path.read_bytes() == whole
    assert look(root, capsys)["ok"]


@pytest.mark.gate
def test_what_is_lost_of_shards_and_of_lists_comes_back_together(root: Path, capsys: Capture) -> None:
    kinds = ("embeddings/", "rejects/", "lists/", "trained/", "index/")
    lost = [path for path in files_of(root) if path.startswith(kinds)]
    lost += [generation_of(root).tables.blocks.path, generation_of(root).tables.segments.path]
    for path in lost:
        (root / path).unlink()
    capsys.readouterr()
    assert verify.main(["--root", str(root)]) == 1
    assert "comes back together: pixdex reindex --repair --retrain always" in capsys.readouterr().err
    assert reindexing.run(root, "--repair", "--retrain", "always") == 0
    assert look(root, capsys)["ok"]


def test_a_quick_look_at_flipped_bits_ends_well(root: Path, capsys: Capture) -> None:
    """It need not see them, but what it reads of such a file must not break it."""
    for path in files_of(root):
        content = (root / path).read_bytes()
        (root / path).write_bytes(flipped(content))
        capsys.readouterr()
        assert verify.main(["--root", str(root), "--quick"]) in (0, 1), path
        assert "findings" in json.loads(capsys.readouterr().out.splitlines()[-1]), path
        (root / path).write_bytes(content)


def test_an_earlier_generation_that_is_damaged_makes_the_current_one_no_worse(root: Path, capsys: Capture) -> None:
    (root / layout.generation(1)).write_bytes(b"{}")
    assert look(root, capsys)["ok"]
    verify.main(["--root", str(root)])
    assert "note: what files generation 1 needs cannot be read" in capsys.readouterr().err


# --- what people see ---


def test_a_whole_root_is_shown_as_a_table_unless_json_is_asked_for(root: Path, capsys: Capture) -> None:
    (root / "embeddings/0000/left.parquet").write_bytes(b"behind")
    said = look(root, capsys)
    capsys.readouterr()
    verify.main(["--root", str(root)])
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == f"file://{root} is whole"
    assert f"{said['bytes']:,}" in out
    assert err == "note: 1 files of 6 bytes that no generation needs: pixdex gc drops them\n"
    verify.main(["--root", str(root), "--json"])
    out, err = capsys.readouterr()
    assert (json.loads(out), err) == (said, "")


def test_twenty_findings_are_shown(root: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "_SHOWN", 2)
    for path in files_of(root):
        if path.startswith(("embeddings/", "lists/")):
            (root / path).unlink()
    capsys.readouterr()
    assert verify.main(["--root", str(root)]) == 1
    out, err = capsys.readouterr()
    count = len(json.loads(out)["findings"])
    assert count == 4
    assert [line[:7] for line in err.splitlines()[:3]] == ["file://", "file://", "… and 2"]


# --- what is no fault ---


def test_what_no_generation_needs_is_counted_and_no_fault(root: Path, capsys: Capture) -> None:
    (root / "embeddings/0000/left.parquet").write_bytes(b"behind")
    said = look(root, capsys)
    assert (said["ok"], said["orphans"]) == (True, {"files": 1, "bytes": 6})


@pytest.mark.gate
def test_an_unfinished_run_is_said_and_its_files_are_no_orphans(
    root: Path, nights: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Run) -> Generation:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(publish, "publish", fail)
    assert nights.is_dir()
    assert reindexing.run(root, "--max-deltas", "0") == 1
    said = look(root, capsys)
    assert (said["ok"], said["generation"], said["unfinished"]) == (True, 2, 3)
    assert said["orphans"] == {"files": 0, "bytes": 0}


def test_every_file_of_a_finished_root_belongs_to_something(root: Path) -> None:
    found = {file.path for file in garbage.everything(Store.at(str(root)))}
    on_disk = {path for path in every_file(root) if not path.startswith(".")}
    assert found == on_disk


# --- ready embeddings ---


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    """A folder with a root, `root`, of the vectors of `a.npy`, of which two are rejected."""
    vectors = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    vectors[7], vectors[100, 3] = 0, np.nan
    np.save(tmp_path / "a.npy", vectors)
    argv = ["--root", str(tmp_path / "root"), "--vectors", str(tmp_path / "a.npy"), "--no-progress"]
    assert build.main([*argv, "--index-key", "IVF4,Flat"]) == 0
    return tmp_path


def test_a_root_of_ready_embeddings_is_whole(ready: Path, capsys: Capture) -> None:
    said = look(ready / "root", capsys)
    assert (said["ok"], said["vectors"]) == (True, 298)


def test_ready_embeddings_that_changed_since_are_named(ready: Path, capsys: Capture) -> None:
    np.save(ready / "a.npy", np.ones((301, 8), np.float32))
    (finding,) = look(ready / "root", capsys, code=1)["findings"]
    assert finding["path"] == f"file://{ready}/a.npy"
    assert "pixdex reindex" in finding["what"]


def test_ready_embeddings_that_are_gone_are_named(ready: Path, capsys: Capture) -> None:
    (ready / "a.npy").unlink()
    (finding,) = look(ready / "root", capsys, code=1)["findings"]
    assert finding["path"] == f"file://{ready}/a.npy"
    assert "put it back" in finding["what"]


def test_every_file_of_a_root_of_ready_embeddings_is_looked_at(ready: Path, capsys: Capture) -> None:
    root = ready / "root"
    for path in files_of(root):
        if path != layout.generation(1):
            for how in damages(root / path):
                assert f"file://{root}/{path}" in named(look(root, capsys, code=1)), (path, how)


@pytest.mark.gate
def test_lost_rejects_of_ready_embeddings_come_back_with_the_file_of_the_vectors(ready: Path, capsys: Capture) -> None:
    root = ready / "root"
    (path,) = [path for path in files_of(root) if path.startswith("rejects/")]
    (root / path).unlink()
    (finding,) = look(root, capsys, code=1)["findings"]
    assert "touch the files of its vectors" in finding["what"]
    os.utime(ready / "a.npy")
    assert reindexing.run(root, "--max-tombstones", "1") == 0
    assert look(root, capsys)["ok"]


# --- refusals ---


@pytest.mark.parametrize(
    ("argv", "words"),
    [([], "--root is missing"), (["--root", "{}/nowhere"], "no such folder"), (["--root", "{}"], "pixdex build")],
)
def test_what_cannot_be_is_said_in_one_line(tmp_path: Path, capsys: Capture, argv: list[str], words: str) -> None:
    assert verify.main([word.format(tmp_path) for word in argv]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert words in err


def test_a_generation_that_is_not_there_is_refused(root: Path, capsys: Capture) -> None:
    assert verify.main(["--root", str(root), "--generation", "9"]) == 2
    assert "9" in capsys.readouterr().err

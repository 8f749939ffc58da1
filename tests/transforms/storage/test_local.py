"""A root that is a folder: what a failure leaves, what only a folder can be, and what others see meanwhile."""

import os
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.transforms.storage.conftest import PATH
from transforms.errors import PixdexError, UsageError
from transforms.storage import layout
from transforms.storage.store import Store


def _age(store: Store, path: str, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(store.local_path(path), (then, then))


@pytest.mark.parametrize("failing", ["fsync", "link"])
def test_a_failure_while_creating_leaves_nothing_behind(
    folder: Store, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="No space left"):
        folder.create(PATH, b"content")
    monkeypatch.undo()

    assert not folder.exists(PATH)
    assert not [path for path in folder.local_path("").rglob("*") if path.is_file()]
    assert folder.create(PATH, b"content")


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failure_while_uploading_leaves_no_final_name(
    folder: Store, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"), folder.scratch() as scratch:
        (scratch / "f.bin").write_bytes(b"content")
        with monkeypatch.context() as patched:
            patched.setattr(os, failing, fail)
            folder.upload(scratch / "f.bin", "tables", "table")

    assert folder.names("tables") == []
    assert folder.names(layout.SCRATCH) == []


def test_a_file_of_another_filesystem_is_not_copied_piece_by_piece(
    folder: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("one filesystem only")
    file = elsewhere / f"pixdex-test-{uuid.uuid4().hex}"
    file.write_bytes(b"content")
    try:
        with pytest.raises(PixdexError, match=r"write it in Store\.scratch"):
            folder.upload(file, "tables", "table")
    finally:
        file.unlink()


def test_a_root_that_cannot_be_written_is_refused(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UsageError, match=r"cannot be written .*Permission denied.*choose another"):
        folder.probe()


def test_a_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("a file")

    with pytest.raises(UsageError, match="cannot be written"):
        Store.at(str(tmp_path / "root")).probe()


def test_the_time_of_a_file_is_read_anew(folder: Store) -> None:
    folder.create(PATH, b"content")
    folder.changed(PATH)
    _age(folder, PATH, 1000)

    assert abs(time.time() - 1000 - folder.changed(PATH)) < 2


def test_the_newest_of_a_folder_is_none_of_what_lies_beside_it(folder: Store) -> None:
    for name, seconds in (("embed/1.json", 500), ("embed/2.json", 300), ("add/1.json", 100)):
        folder.create(f"plans/000001/{name}", b"{}")
        _age(folder, f"plans/000001/{name}", seconds)

    assert abs(time.time() - 300 - folder.newest("plans/000001/embed")) < 2


def test_a_reader_never_sees_a_file_half_overwritten(folder: Store) -> None:
    contents = [bytes([number]) * 300_000 for number in range(4)]
    folder.overwrite("lease.json", contents[0])

    with ThreadPoolExecutor(8) as pool:
        written = [pool.submit(folder.overwrite, "lease.json", content) for content in contents * 10]
        read = [folder.read("lease.json") for _ in range(50)]
        for future in written:
            future.result()

    assert all(content in contents for content in read)


def test_folders_are_removed_that_hold_nothing_but_empty_folders(folder: Store) -> None:
    kept = ("lists/f1/block", "tables/.half")
    for path in kept:
        folder.create(path, b"content")
    for path in ("lists/f2/deep/deeper", "embeddings/0000", "elsewhere"):
        folder.local_path(path).mkdir(parents=True)

    folder.remove_empty_folders(("lists", "embeddings", "tables", "nowhere"))

    left = {str(path.relative_to(folder.local_path(""))) for path in folder.local_path("").rglob("*")} - {".scratch"}
    assert left == {"lists", "lists/f1", *kept, "tables", "elsewhere"}


def test_a_link_is_a_file_wherever_it_leads(folder: Store, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_bytes(b"content")
    folder.create("lists/whole", b"1")
    for name, target in (("file", "elsewhere/file"), ("folder", "elsewhere"), ("nowhere", "gone")):
        folder.local_path(f"lists/{name}").symlink_to(tmp_path / target)

    sizes = {file.path: file.bytes for file in folder.walk("lists")}

    assert list(sizes) == ["lists/file", "lists/folder", "lists/nowhere", "lists/whole"]
    assert (sizes["lists/file"], sizes["lists/nowhere"], sizes["lists/whole"]) == (7, 0, 1)


def test_a_folder_is_reached_by_its_path_alone(folder: Store) -> None:
    with pytest.raises(PixdexError, match="reached by its path"):
        folder.filesystem  # noqa: B018 - asking is what is refused

"""A root that is a folder reaches nothing but itself: by no name, and by no link."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from transforms.errors import UsageError
from transforms.storage import inside, layout
from transforms.storage.store import Store

READERS: dict[str, Callable[[Store, str], object]] = {
    "exists": Store.exists, "size": Store.size, "read": Store.read, "open": Store.open, "changed": Store.changed,
    "open_ranges": Store.open_ranges, "sha256": Store.sha256, "local_path": Store.local_path,
}  # fmt: skip
WRITERS: dict[str, Callable[[Store, str], object]] = {
    "create": lambda store, path: store.create(path, b"ours"),
    "overwrite": lambda store, path: store.overwrite(path, b"ours"),
    "remove": Store.remove,
}
LISTERS: dict[str, Callable[[Store, str], object]] = {
    "walk": lambda store, folder: list(store.walk(folder)),
    "remove_folder": Store.remove_folder,
    "remove_empty_folders": lambda store, folder: store.remove_empty_folders([folder]),
}


@pytest.fixture
def elsewhere(folder: Store, tmp_path: Path) -> Path:
    """A folder that is not the root's, with a file, an empty folder, and links to it from the root."""
    place = tmp_path / "elsewhere"
    (place / "empty").mkdir(parents=True)
    (place / "file").write_bytes(b"theirs")
    folder.create("tables/own", b"own")
    folder.local_path("lists").symlink_to(place)
    folder.local_path("tables/link").symlink_to(place / "file")
    return place


def whole(elsewhere: Path) -> bool:
    return {each.name for each in elsewhere.iterdir()} == {"empty", "file"} and (
        elsewhere / "file"
    ).read_bytes() == b"theirs"


@pytest.mark.parametrize("path", ["lists/file", "tables/link", "lists/gone", "../elsewhere/file", "/etc/hostname"])
@pytest.mark.parametrize("how", READERS)
def test_nothing_is_read_that_lies_elsewhere(folder: Store, elsewhere: Path, how: str, path: str) -> None:
    with pytest.raises(UsageError, match=r"is a link, and what lies in a root|is no path below"):
        READERS[how](folder, path)


@pytest.mark.parametrize("path", ["lists/file", "lists/new", "../elsewhere/file", "tables/../../elsewhere/file"])
@pytest.mark.parametrize("how", WRITERS)
def test_nothing_is_written_or_removed_elsewhere(folder: Store, elsewhere: Path, how: str, path: str) -> None:
    with pytest.raises(UsageError):
        WRITERS[how](folder, path)
    assert whole(elsewhere)


@pytest.mark.parametrize("name", ["lists", "../elsewhere"])
@pytest.mark.parametrize("how", LISTERS)
def test_a_linked_folder_is_neither_listed_nor_emptied(folder: Store, elsewhere: Path, how: str, name: str) -> None:
    with pytest.raises(UsageError):
        LISTERS[how](folder, name)
    assert whole(elsewhere)


def test_a_link_is_removed_and_not_what_it_leads_to(folder: Store, elsewhere: Path) -> None:
    folder.remove("tables/link")
    assert whole(elsewhere) and folder.names("tables") == ["own"]


def test_a_linked_scratch_folder_is_neither_used_nor_swept(folder: Store, elsewhere: Path) -> None:
    scratch = folder.local_path("") / layout.SCRATCH
    scratch.rmdir()
    scratch.symlink_to(elsewhere)
    for use in (
        folder.sweep_scratch,
        lambda: folder.create("tables/new", b""),
        lambda: list(folder.scratch_of_others()),
    ):
        with pytest.raises(UsageError, match=r"\.scratch is a link"):
            use()
    assert whole(elsewhere)


def test_a_link_that_stays_in_the_root_is_read_through(folder: Store) -> None:
    folder.create("tables/own", b"own")
    folder.local_path("tables/again").symlink_to("own")
    folder.local_path("lists").symlink_to("tables")
    assert folder.read("lists/again") == b"own"


def test_the_root_itself_may_be_a_link(folder: Store, tmp_path: Path) -> None:
    folder.create("tables/own", b"own")
    (tmp_path / "link").symlink_to(folder.local_path(""))
    linked = Store.at(str(tmp_path / "link"))
    linked.remove("tables/own")
    assert linked.create("tables/own", b"new") and linked.read("tables/own") == b"new"


@pytest.mark.parametrize("create", [True, False])
def test_a_file_that_many_write_is_opened_through_no_link(tmp_path: Path, create: bool) -> None:
    (tmp_path / "theirs").write_bytes(b"theirs")
    (tmp_path / "link").symlink_to("theirs")
    (tmp_path / "dangling").symlink_to("new")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "dangling", "pipe"):
        with pytest.raises(UsageError):
            inside.open_shared(tmp_path / name, create=create)
    assert (tmp_path / "theirs").read_bytes() == b"theirs" and not (tmp_path / "new").exists()


def test_a_file_that_many_write_is_made_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        inside.open_shared(tmp_path / "file")
    for word in (b"one", b"two"):
        with inside.open_shared(tmp_path / "file", create=True) as out:
            out.seek(0, os.SEEK_END)
            out.write(word)
    assert (tmp_path / "file").read_bytes() == b"onetwo"

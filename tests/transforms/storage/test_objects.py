"""A root on an object store: refused conditions, times as stores say them, and no folders."""

import datetime
import uuid
from pathlib import Path

import fsspec
import pytest

from tests.transforms.storage.conftest import PATH
from transforms.errors import PixdexError
from transforms.storage.store import Store


def test_an_object_store_that_fails_to_create_says_so(memory: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "connection lost")

    monkeypatch.setattr(memory.filesystem, "pipe_file", fail)
    with pytest.raises(OSError, match="connection lost"):
        memory.create(PATH, b"content")


def test_a_refused_condition_is_no_failure_whatever_the_store_calls_it(
    memory: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.create(PATH, b"first")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(22, "At least one of the pre-conditions you specified did not hold")

    monkeypatch.setattr(memory.filesystem, "pipe_file", refuse)

    assert not memory.create(PATH, b"second")


def test_an_object_that_is_removed_while_its_creation_is_refused_can_be_created(
    memory: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.create(PATH, b"of another")
    create = memory.filesystem.pipe_file

    def refuse_as_it_goes(*_: object, **__: object) -> None:
        monkeypatch.setattr(memory.filesystem, "pipe_file", create)
        memory.remove(PATH)
        raise OSError(22, "At least one of the pre-conditions you specified did not hold")

    monkeypatch.setattr(memory.filesystem, "pipe_file", refuse_as_it_goes)

    assert memory.create(PATH, b"mine")
    assert memory.read(PATH) == b"mine"


def test_a_failure_while_uploading_to_memory_leaves_no_final_name(tmp_path: Path) -> None:
    store = Store.at(f"memory://{uuid.uuid4().hex}")
    lost = tmp_path / "lost.bin"

    with pytest.raises(FileNotFoundError):
        store.upload(lost, "tables", "table", "sha256:00")

    assert store.names("tables") == []


def test_a_root_on_an_object_store_is_no_folder() -> None:
    store = Store.at("memory://somewhere")

    assert store.local is None
    with pytest.raises(PixdexError, match="not on a local filesystem"):
        store.local_path("index/000001/index.faiss")


@pytest.mark.parametrize("location", ["memory://somewhere", "s3://bucket/root"])
def test_a_root_keeps_no_listings_and_leaves_those_of_other_users_of_the_store_alone(location: str) -> None:
    protocol = location.partition(":")[0]
    others = fsspec.filesystem(protocol)
    store = Store.at(location)

    assert store.filesystem.dircache.use_listings_cache is False
    assert others.dircache.use_listings_cache is True
    assert fsspec.filesystem(protocol).dircache.use_listings_cache is True


def test_an_object_store_has_no_temporary_files() -> None:
    assert list(Store.at(f"memory://{uuid.uuid4().hex}").scratch_of_others()) == []


@pytest.mark.parametrize(
    "written",
    [
        {"mtime": 1e9},
        {"mtime": datetime.datetime(2001, 9, 9, 1, 46, 40, tzinfo=datetime.UTC)},
        {
            "LastModified": datetime.datetime(
                2001, 9, 9, 3, 46, 40, tzinfo=datetime.timezone(datetime.timedelta(hours=2))
            )
        },
        {"updated": "2001-09-09T01:46:40.000Z"},
        {"created": datetime.datetime(2001, 9, 9, 1, 46, 40)},
    ],
    ids=["seconds", "zoned", "s3", "gs", "memory"],
)
def test_the_time_is_read_however_a_filesystem_says_it(
    memory: Store, monkeypatch: pytest.MonkeyPatch, written: dict[str, object]
) -> None:
    monkeypatch.setattr(memory.filesystem, "info", lambda *_, **__: {"size": 1, **written})

    assert memory.changed(PATH) == 1e9


def test_an_object_store_has_no_empty_folders_to_remove() -> None:
    store = Store.at(f"memory://{uuid.uuid4().hex}")
    store.create(PATH, b"content")
    store.remove_empty_folders(("plans", "nowhere"))

    assert store.read(PATH) == b"content"

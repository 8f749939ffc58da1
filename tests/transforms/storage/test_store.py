"""A root: whoever creates a file first wins, and a reader sees a whole file or none."""

import datetime
import os
import pickle
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest

from transforms.errors import PixdexError, UsageError
from transforms.markers import StageMarker
from transforms.storage import layout
from transforms.storage.store import Store, sha256_of

PATH = "plans/000001/embed/0000000003.json"


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "folder":
        yield Store.at(str(tmp_path / "root"))
        return
    name = f"memory://{uuid.uuid4().hex}"
    yield Store.at(name)
    if (memory := fsspec.filesystem("memory")).exists(name):
        memory.rm(name, recursive=True)


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path / "root"))


def test_the_first_to_create_a_file_wins(store: Store) -> None:
    assert store.create(PATH, b"first")
    assert not store.create(PATH, b"second")
    assert store.read(PATH) == b"first"


def test_of_many_at_once_exactly_one_wins_and_its_content_is_whole(store: Store) -> None:
    contents = [bytes([number]) * 200_000 for number in range(16)]

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda content: store.create(PATH, content), contents))

    assert won.count(True) == 1
    assert store.read(PATH) == contents[won.index(True)]
    assert store.names("plans/000001/embed") == ["0000000003.json"]


def test_whoever_commits_second_adopts_what_stands(store: Store) -> None:
    first, second = StageMarker("embed", 3, 1.0), StageMarker("embed", 3, 2.0)

    assert store.commit(PATH, first) == first
    assert store.commit(PATH, second) == first


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


def test_an_object_store_that_fails_to_create_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    if store.local is not None:
        pytest.skip("folders are tested above")

    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "connection lost")

    monkeypatch.setattr(store.filesystem, "pipe_file", fail)
    with pytest.raises(OSError, match="connection lost"):
        store.create(PATH, b"content")


def test_a_refused_condition_is_no_failure_whatever_the_store_calls_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create(PATH, b"first")
    if store.local is None:

        def refuse(*_: object, **__: object) -> None:
            raise OSError(22, "At least one of the pre-conditions you specified did not hold")

        monkeypatch.setattr(store.filesystem, "pipe_file", refuse)

    assert not store.create(PATH, b"second")


def test_an_upload_is_named_by_its_content_and_repeats_to_the_same_name(store: Store) -> None:
    references = []
    for _ in range(2):
        with store.scratch() as scratch:
            file = scratch / "anything.parquet"
            file.write_bytes(b"content")
            checksum = f"sha256:{sha256_of(file)}"
            references.append(store.upload(file, "tables", "table"))

    assert references[0] == references[1]
    assert references[0].checksum == checksum
    assert references[0].bytes == 7
    assert references[0].path == f"tables/table-{checksum[7:23]}.parquet"
    assert store.names("tables") == [references[0].path.removeprefix("tables/")]
    assert store.read(references[0].path) == b"content"


def test_another_content_has_another_name(store: Store) -> None:
    paths = set()
    for content in (b"one", b"two"):
        with store.scratch() as scratch:
            (scratch / "f.bin").write_bytes(content)
            paths.add(store.upload(scratch / "f.bin", "tables", "table").path)

    assert len(paths) == 2


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


def test_a_failure_while_uploading_to_memory_leaves_no_final_name(tmp_path: Path) -> None:
    store = Store.at(f"memory://{uuid.uuid4().hex}")
    lost = tmp_path / "lost.bin"

    with pytest.raises(FileNotFoundError):
        store.upload(lost, "tables", "table", "sha256:00")

    assert store.names("tables") == []


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


def test_names_are_sorted_and_hide_temporary_files(store: Store) -> None:
    for name in ("b.json", "a.json", ".hidden"):
        store.create(f"plans/{name}", b"{}")

    assert store.names("plans") == ["a.json", "b.json"]


def test_a_folder_that_is_not_there_has_no_names(store: Store) -> None:
    assert store.names("generations") == []


def test_a_missing_file_is_named_in_full_with_the_way_out(store: Store) -> None:
    wanted = f"{store.url}/tables/gone.parquet is missing: restore it from a backup"

    for read in (store.read, store.open):
        with pytest.raises(PixdexError) as raised:
            read("tables/gone.parquet")
        assert str(raised.value).startswith(wanted)
    with pytest.raises(PixdexError, match="is missing"):
        store.read_record("tables/gone.parquet", StageMarker)
    assert store.find_record("tables/gone.parquet", StageMarker) is None


def test_a_store_travels_to_another_process(store: Store) -> None:
    store.create(PATH, b"content")

    travelled: Store = pickle.loads(pickle.dumps(store))  # noqa: S301 - our own bytes

    assert travelled == store
    assert travelled.read(PATH) == b"content"


# --- where a root is ---


@pytest.mark.parametrize("spelling", ["{}", "{}/", "{}//", "file://{}", "file://{}/", "local://{}", "{}/../root"])
def test_a_folder_has_one_url_however_it_is_spelled(tmp_path: Path, spelling: str) -> None:
    assert Store.at(spelling.format(tmp_path / "root")).url == f"file://{tmp_path}/root"


def test_relative_paths_and_the_home_folder_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    assert Store.at("root") == Store.at("./root") == Store.at("~/root") == Store.at(str(tmp_path / "root"))
    assert Store.at("file://root").local == tmp_path / "root"


@pytest.mark.parametrize("name", ["a::b", "a b#c?d", "[1]", "사진", "100%25"])
def test_any_folder_name_can_be_a_root(tmp_path: Path, name: str) -> None:
    store = Store.at(str(tmp_path / name))
    store.create("plans/x.json", b"1")

    assert (tmp_path / name / "plans" / "x.json").read_bytes() == b"1" == store.read("plans/x.json")


@pytest.mark.parametrize("location", ["http://host/root", "ftp://host/root", "nonsense://root", "://root"])
def test_a_protocol_without_create_only_is_refused_with_those_that_work(location: str) -> None:
    with pytest.raises(UsageError) as raised:
        Store.at(location)

    for protocol in ("file://", "memory://", "s3://", "gs://"):
        assert protocol in str(raised.value)


@pytest.mark.parametrize(("location", "extra"), [("s3://bucket/root", "s3"), ("gcs://bucket/root", "gcp")])
def test_a_missing_package_is_named_by_its_extra(monkeypatch: pytest.MonkeyPatch, location: str, extra: str) -> None:
    def without_package(_: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "get_filesystem_class", without_package)
    with pytest.raises(UsageError, match=rf"pip install 'pixdex\[{extra}\]'"):
        Store.at(location)


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


# --- what a new root must be able to do ---


def test_a_root_that_keeps_its_word_passes_the_probe_and_stays_empty(store: Store) -> None:
    store.probe()

    assert store.names(layout.PLANS) == []


class _OverwritingStore(Store):
    def create(self, path: str, data: bytes) -> bool:
        self.filesystem.pipe_file(self.full(path), data)
        return True


class _LyingStore(Store):
    def create(self, path: str, data: bytes) -> bool:
        new = not self.exists(path)
        self.filesystem.pipe_file(self.full(path), data)
        return new


@pytest.mark.parametrize("kind", [_OverwritingStore, _LyingStore])
def test_a_root_that_ignores_the_condition_is_refused(kind: type[Store]) -> None:
    with pytest.raises(UsageError, match="ignores create-only writes"):
        kind(f"memory://{uuid.uuid4().hex}").probe()


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


# --- temporary folders ---


def test_only_folders_of_dead_processes_of_this_machine_are_swept(folder: Store) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = socket.gethostname()
    kept = {
        f"{host}-{os.getpid()}-abcd",
        f"{host}-1-abcd",
        f"other-{dead.pid}-abcd",
        f"{host}-{dead.pid}-{os.getpid()}-abcd",  # of a host whose name begins like this one's
        "notes",
    }
    parent = folder.local_path(layout.SCRATCH)
    for name in [*kept, f"{host}-{dead.pid}-abcd"]:
        (parent / name).mkdir(parents=True)
        (parent / name / "half.parquet").write_bytes(b"half")

    folder.sweep_scratch()

    assert {path.name for path in parent.iterdir()} == kept


def test_temporary_files_of_other_hosts_are_told_from_those_of_this_one(folder: Store) -> None:
    here = socket.gethostname()
    for name in (f"{here}-1-x", f"{here}-2-1-x", "another-host-1-x"):
        folder.create(f"{layout.SCRATCH}/{name}/half", b"half")

    found = {file.path.split("/")[1] for file in folder.scratch_of_others()}

    assert found == {f"{here}-2-1-x", "another-host-1-x"}, (
        "the host of the first of them is called like this one and -2"
    )


def test_an_object_store_has_no_temporary_files() -> None:
    assert list(Store.at(f"memory://{uuid.uuid4().hex}").scratch_of_others()) == []


def test_a_root_without_temporary_folders_is_swept_in_peace(store: Store) -> None:
    store.sweep_scratch()


def test_scratch_is_gone_when_the_work_ends_or_fails(store: Store) -> None:
    with pytest.raises(RuntimeError), store.scratch() as scratch:
        (scratch / "half").write_bytes(b"half")
        raise RuntimeError

    assert not scratch.exists()


def test_a_store_knows_nothing_of_sources() -> None:
    code = "import sys, transforms.storage.store; print([name for name in sys.modules if 'transforms.sources' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_a_home_of_nobody_is_refused() -> None:
    with pytest.raises(UsageError, match="no such user"):
        Store.at("~nobodyx/y")


def test_a_relative_root_needs_a_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UsageError, match="working directory that is gone"):
        Store.at("root")


# --- times, and what is not for ever ---


def _age(store: Store, path: str, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(store.local_path(path), (then, then))


def test_the_time_of_a_file_is_that_of_its_writing(store: Store) -> None:
    before = time.time()
    store.create(PATH, b"content")

    assert before - 2 <= store.changed(PATH) <= time.time() + 2


def test_the_time_of_a_file_is_read_anew(folder: Store) -> None:
    folder.create(PATH, b"content")
    folder.changed(PATH)
    _age(folder, PATH, 1000)

    assert abs(time.time() - 1000 - folder.changed(PATH)) < 2


def test_what_is_not_there_has_no_time(store: Store) -> None:
    assert store.changed(PATH) == 0.0
    assert store.newest("plans/000001/embed") == 0.0


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
    ids=["folder", "zoned", "s3", "gs", "memory"],
)
def test_the_time_is_read_however_a_filesystem_says_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, written: dict[str, object]
) -> None:
    monkeypatch.setattr(store.filesystem, "info", lambda *_, **__: {"size": 1, **written})

    assert store.changed(PATH) == 1e9


def test_the_newest_of_a_folder_is_none_of_what_lies_beside_it(folder: Store) -> None:
    for name, seconds in (("embed/1.json", 500), ("embed/2.json", 300), ("add/1.json", 100)):
        folder.create(f"plans/000001/{name}", b"{}")
        _age(folder, f"plans/000001/{name}", seconds)

    assert abs(time.time() - 300 - folder.newest("plans/000001/embed")) < 2


def test_a_walk_names_every_file_with_its_size_and_time_and_no_hidden_one(store: Store) -> None:
    for path, size in (("plans/1/a.json", 1), ("plans/1/embed/b.json", 22), ("plans/.half", 3), ("tables/c", 4)):
        store.create(path, b"x" * size)

    found = {file.path: file for file in store.walk("plans")}

    assert {path: file.bytes for path, file in found.items()} == {"plans/1/a.json": 1, "plans/1/embed/b.json": 22}
    assert all(abs(time.time() - file.changed) < 10 for file in found.values())
    assert all(abs(file.changed - store.changed(path)) < 1 for path, file in found.items())


def test_a_walk_names_hidden_files_too_when_it_is_asked_to(store: Store) -> None:
    for path in ("plans/a", "plans/.half"):
        store.create(path, b"x")

    assert {file.path for file in store.walk("plans", hidden=True)} == {"plans/a", "plans/.half"}


def test_a_walk_of_no_folder_finds_nothing(store: Store) -> None:
    assert list(store.walk("nowhere")) == []


def test_the_last_to_overwrite_a_file_wins_whether_or_not_it_was_there(store: Store) -> None:
    for content in (b"a long first content", b"second"):
        store.overwrite("lease.json", content)

        assert store.read("lease.json") == content
    assert store.names("") == (["lease.json"])


def test_a_reader_never_sees_a_file_half_overwritten(folder: Store) -> None:
    contents = [bytes([number]) * 300_000 for number in range(4)]
    folder.overwrite("lease.json", contents[0])

    with ThreadPoolExecutor(8) as pool:
        written = [pool.submit(folder.overwrite, "lease.json", content) for content in contents * 10]
        read = [folder.read("lease.json") for _ in range(50)]
        for future in written:
            future.result()

    assert all(content in contents for content in read)


def test_what_was_removed_is_gone_and_can_be_created_again(store: Store) -> None:
    store.create(PATH, b"first")
    store.remove(PATH)

    assert not store.exists(PATH)
    assert store.names("plans/000001/embed") == []
    assert store.create(PATH, b"second")


def test_removing_what_is_not_there_is_no_error(store: Store) -> None:
    store.remove(PATH)


def test_folders_are_removed_that_hold_nothing_but_empty_folders(folder: Store) -> None:
    kept = ("lists/f1/block", "tables/.half")
    for path in kept:
        folder.create(path, b"content")
    for path in ("lists/f2/deep/deeper", "embeddings/0000", "elsewhere"):
        folder.local_path(path).mkdir(parents=True)

    folder.remove_empty_folders(("lists", "embeddings", "tables", "nowhere"))

    left = {str(path.relative_to(folder.local_path(""))) for path in folder.local_path("").rglob("*")} - {".scratch"}
    assert left == {"lists", "lists/f1", *kept, "tables", "elsewhere"}


def test_an_object_store_has_no_empty_folders_to_remove() -> None:
    store = Store.at(f"memory://{uuid.uuid4().hex}")
    store.create(PATH, b"content")
    store.remove_empty_folders(("plans", "nowhere"))

    assert store.read(PATH) == b"content"

"""A root: where it is, however that is spelled, and what a new one must be able to do."""

import subprocess
import sys
import uuid
from pathlib import Path

import fsspec
import pytest

from transforms.errors import UsageError
from transforms.storage.store import Store


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


def test_a_home_of_nobody_is_refused() -> None:
    with pytest.raises(UsageError, match="no such user"):
        Store.at("~nobodyx/y")


def test_a_relative_root_needs_a_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UsageError, match="working directory that is gone"):
        Store.at("root")


class _OverwritingStore(Store):
    def create(self, path: str, data: bytes) -> bool:
        self.overwrite(path, data)
        return True


class _LyingStore(Store):
    def create(self, path: str, data: bytes) -> bool:
        new = not self.exists(path)
        self.overwrite(path, data)
        return new


@pytest.mark.parametrize("kind", [_OverwritingStore, _LyingStore])
def test_a_root_that_ignores_the_condition_is_refused(kind: type[Store]) -> None:
    with pytest.raises(UsageError, match="ignores create-only writes"):
        kind(f"memory://{uuid.uuid4().hex}").probe()


def test_a_folder_is_read_without_what_only_sources_and_object_stores_need(tmp_path: Path) -> None:
    code = (
        f"import sys; from transforms.storage.store import Store; Store.at({str(tmp_path)!r}).create('a', b'a'); "
        "print([name for name in sys.modules if name in ('transforms.sources', 'fsspec', 'pyarrow')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"

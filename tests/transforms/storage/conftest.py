"""Roots in every place where a root can be."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from tests import gcs, s3
from transforms.storage.store import Store

PATH = "plans/000001/embed/0000000003.json"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    with s3.serving() as address:
        yield address


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[str]:
    with gcs.serving() as address:
        yield address


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path / "root"))


@pytest.fixture
def memory() -> Iterator[Store]:
    url = f"memory://{uuid.uuid4().hex}"
    yield Store.at(url)
    if (memory := fsspec.filesystem("memory")).exists(url):
        memory.rm(url, recursive=True)


@pytest.fixture(params=["folder", "memory", "s3", "gs"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """A root that is not there yet, in each of the places."""
    if request.param == "s3":
        with s3.bucket_of(request.getfixturevalue("s3_server")) as bucket:
            yield Store.at(f"{bucket}/root")
    elif request.param == "gs":
        with gcs.bucket_of(request.getfixturevalue("gcs_server")) as bucket:
            yield Store.at(f"{bucket}/root")
    else:
        yield request.getfixturevalue(request.param)

"""Roots, and a process of this host, for the tests of leases."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from transforms.storage.store import Store


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


@pytest.fixture
def sleeper() -> Iterator[int]:
    """The number of a process that lives on this host."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process.pid
    process.kill()
    process.wait()

"""A merge opens all of its inputs, also where a process may have few files open."""

import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from transforms.index.lists.inputs import ListsReference, MergeInputs
from transforms.index.lists.writer import write_lists
from transforms.records import FileReference
from transforms.storage.store import Store

FILES, NLIST = 150, 4


@pytest.fixture
def low_limit() -> Iterator[None]:
    """A soft limit that the inputs do not fit in."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def references(root: Path) -> list[ListsReference]:
    root.mkdir()
    found = []
    for number in range(FILES):
        file = root / f"block-{number}.ivf"
        with file.open("wb") as out:
            seal = write_lists(
                out,
                list_nos=np.zeros(1, np.int64),
                codes=np.zeros((1, 4), np.uint8),
                ids=np.array([number]),
                nlist=NLIST,
                fingerprint="ab" * 32,
            )
        found.append(ListsReference(range(NLIST), FileReference(file.name, seal.bytes, f"xxh3:{seal.checksum}")))
    return found


@pytest.mark.usefixtures("low_limit")
def test_more_inputs_than_the_soft_limit_raise_it(tmp_path: Path) -> None:
    inputs = MergeInputs(Store.at(str(tmp_path / "root")), references(tmp_path / "root"))
    assert sum(file.rows for file in inputs.over(range(NLIST))) == FILES
    inputs.close()


def test_more_inputs_than_the_hard_limit_say_so(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100));"
        "from tests.transforms.index.lists.test_inputs import *; root = Path(sys.argv[1]);"
        "MergeInputs(Store.at(str(root)), references(root)).over(range(NLIST))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "root")],
        capture_output=True, text=True, cwd=REPOSITORY, check=False,
    )  # fmt: skip
    last = done.stderr.strip().splitlines()[-1]
    assert "PixdexError: 150 files must be open at once, and this process may open 100 in all" in last
    assert "ulimit -n" in last

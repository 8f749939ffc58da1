"""What the tests of this folder begin with."""

import shutil
from pathlib import Path

import pytest

from pipelines import build
from tests.end_to_end import reindexing
from tests.end_to_end.reindexing import Collection, collection, generation_of
from tests.pipelines.gc.collected import second_night
from transforms.storage import layout


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a collection and a root of three generations: a build, a delta with tombstones, and a merge."""
    folder = tmp_path_factory.mktemp("nights")
    made = collection(folder / "sources", pictures=60, rows=10)
    made.pictures["bad"] = -1
    made.write()
    root = folder / "root"
    assert build.main(["--root", str(root), *made.arguments, "--index-key", "IVF1,Flat"]) == 0
    second_night(made)
    assert reindexing.run(root, "--max-tombstones", "1") == 0
    made.pictures["third"] = 503
    made.write()
    assert reindexing.run(root, "--max-deltas", "0", "--max-tombstones", "0") == 0
    assert generation_of(root).index.path == layout.merged_index(3)
    return folder


@pytest.fixture
def root(nights: Path, tmp_path: Path) -> Path:
    """A copy of that root, whose files are as old as they are."""
    shutil.copytree(nights / "root", tmp_path / "root")
    return tmp_path / "root"


@pytest.fixture
def items(nights: Path) -> Collection:
    """The collection as the third night left it."""
    made = collection(nights / "sources", pictures=60, rows=10)
    made.pictures["bad"] = -1
    second_night(made)
    made.pictures["third"] = 503
    made.write()
    return made

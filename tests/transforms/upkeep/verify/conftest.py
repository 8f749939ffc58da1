"""What the tests of this folder begin with."""

import shutil
from pathlib import Path

import pytest

from pipelines import build
from tests.end_to_end import reindexing
from tests.end_to_end.reindexing import collection
from transforms.generations import published
from transforms.generations.manifest import Generation
from transforms.storage.store import Store


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root of a build and a night: with a delta of two rows, tombstones and rejects."""
    folder = tmp_path_factory.mktemp("built")
    made = collection(folder / "sources", pictures=120, rows=40)
    made.pictures["bad"] = -1
    made.write()
    root = folder / "root"
    assert build.main(["--root", str(root), *made.arguments, "--index-key", "IVF4,Flat"]) == 0
    made.pictures |= {"second": 502, "third": 503, "worse": -2}
    del made.pictures["p003"], made.rows["k003"]
    made.write()
    assert reindexing.run(root, "--max-tombstones", "1") == 0
    return root


@pytest.fixture
def store(built: Path, tmp_path: Path) -> Store:
    shutil.copytree(built, tmp_path / "root")
    return Store.at(str(tmp_path / "root"))


@pytest.fixture
def generation(store: Store) -> Generation:
    found = published.current(store)
    assert found is not None
    return found

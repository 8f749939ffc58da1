"""What the tests of serving share: a root that is built once, and a server of it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.transforms.serving.server import Server, serving
from tests.transforms.serving.shop import open_shop


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a root that nobody changes."""
    return open_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def own_shop(shop: Path, tmp_path: Path) -> Path:
    """The folder of a root that a test may change; its pictures are those of the other."""
    return Path(shutil.copytree(shop, tmp_path / "root"))


@pytest.fixture(scope="session")
def server(shop: Path) -> Iterator[Server]:
    with serving(shop) as running:
        yield running

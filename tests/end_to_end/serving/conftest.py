"""A browser, a shop with hostile rows, and a server of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.end_to_end.serving.browsing import Visit, visit
from tests.end_to_end.serving.server_process import ServerProcess, served
from tests.transforms.serving.shop import open_shop


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return open_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="session")
def server(shop: Path) -> Iterator[ServerProcess]:
    with served(shop, "--refresh", "0.1") as running:
        yield running


@pytest.fixture
def page(browser: Browser, server: ServerProcess) -> Iterator[Visit]:
    """The page, as somebody opens it; at the end nothing of a root has run, and nobody else was asked."""
    with visit(browser, server.url) as visited:
        yield visited

"""A browser, a shop with hostile rows, and a server of it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.conftest import skip_or_fail
from tests.end_to_end.serving.browsing import Visit, visit
from tests.end_to_end.serving.server_process import ServerProcess, served
from tests.transforms.serving.shop import open_shop

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        skip_or_fail("CHROMIUM", f"none of {', '.join(CHROMIUM)} is installed")
    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=program, args=["--no-sandbox"])  # root has none
        yield opened
        opened.close()


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

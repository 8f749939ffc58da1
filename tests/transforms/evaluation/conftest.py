"""The libraries that measures are held against. They take seconds to import: only who tests against them does."""

from typing import Any

import pytest

WHY = "needs pixdex[dev]"


@pytest.fixture(scope="session")
def ranx() -> Any:
    return pytest.importorskip("ranx", reason=WHY)


@pytest.fixture(scope="session")
def metrics() -> Any:
    return pytest.importorskip("sklearn.metrics", reason=WHY)


@pytest.fixture(scope="session")
def neighbors() -> Any:
    return pytest.importorskip("sklearn.neighbors", reason=WHY)


@pytest.fixture(scope="session")
def stats() -> Any:
    return pytest.importorskip("scipy.stats", reason=WHY)

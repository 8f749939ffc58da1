"""Services that whole jobs run on; each is started once, by the first test that needs it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import worker_pool
from tests.conftest import skip_or_fail
from tests.deploy import versions
from tests.end_to_end.flink import FlinkCluster, running_cluster

SERVICES = ("flink", "prism")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes a service that a machine must be prepared for is left to the gate."""
    for item in items:
        if isinstance(item, pytest.Function) and item.path.is_relative_to(Path(__file__).parent):
            arguments = item.callspec.params.values() if hasattr(item, "callspec") else ()
            if any(str(name).startswith(SERVICES) for name in [*item.fixturenames, *arguments]):
                item.add_marker(pytest.mark.gate)


@pytest.fixture(scope="session")
def flink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlinkCluster]:
    """A Flink cluster of one TaskManager with two slots; skipped where `deploy/flink/install.sh` has not been run."""
    with running_cluster(tmp_path_factory.mktemp("flink") / "cluster") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def pool() -> Iterator[str]:
    """The address of a worker pool."""
    with worker_pool.serving(0) as port:
        yield f"localhost:{port}"


@pytest.fixture(scope="session")
def prism() -> str:
    """The path of Prism; skipped where `deploy/prism/install.sh` has not been run."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("PIXDEX_PRISM") or cache / "pixdex" / "prism")
    found = folder / f"prism-{versions.read()['BEAM']}"
    if not found.exists():
        skip_or_fail("PRISM", f"{found} is not here: bash deploy/prism/install.sh builds it")
    return str(found)

"""Services that whole jobs run on; each is started once, by the first test that needs it."""

import subprocess
from collections.abc import Iterator

import pytest

from pipelines import worker_pool
from tests.conftest import REPOSITORY, skip_or_fail
from tests.end_to_end.flink import FlinkCluster, running_cluster


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
    """The path of Prism; skipped where Go cannot build it."""
    command = ["bash", str(REPOSITORY / "deploy" / "prism" / "install.sh")]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        skip_or_fail("PRISM", done.stderr.strip())
    return done.stdout.strip()

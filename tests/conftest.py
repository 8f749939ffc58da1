"""Fixtures that several tests share."""

import gc
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests import examples  # noqa: F401 - it loads the profile of Hypothesis
from transforms.forecast import paces

if TYPE_CHECKING:
    from playwright.sync_api import Browser

REPOSITORY = Path(__file__).parents[1]

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")

os.environ["PIXDEX_TRUSTED_ENCODERS"] = "tests.encoders,tests.end_to_end.recording_encoder,tests.pipelines.test_search"
"""The classes of the tests' own; that of a stranger is a subject of tests/transforms/encoders/test_trusted.py."""

os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"
"""Read when gcsfs is first imported, by whatever test: else it asks the cloud itself, for minutes, what a bucket is."""

CLUSTER = (
    *("test_deadly_pictures.py", "test_lost_workers.py", "test_runners.py"),
    *("runners/test_batch_search.py", "runners/test_evaluate.py", "runners/test_web.py"),
)
"""Files whose tests work on a Flink cluster, of which a machine has room for one."""


class ByFile(LoadScopeScheduling):
    """A file's tests go to one process, which makes what they share once, and those of the cluster to one as well."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        return "cluster" if file.endswith(CLUSTER) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


def pytest_collection_finish() -> None:
    """What was imported lives until the end: no collection of garbage need look at it again."""
    gc.freeze()


def skip_or_fail(what: str, why: str) -> NoReturn:
    """Skips a test for what this machine lacks, unless `PIXDEX_REQUIRE_<what>` says that it must have it."""
    if os.environ.get(f"PIXDEX_REQUIRE_{what}"):
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the repository, see its README; tests that need it are skipped where it is not."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real data is not here: {folder}")
    return folder


@pytest.fixture(scope="session", autouse=True)
def paces_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What small builds take says nothing to those of whoever runs the tests."""
    kept = tmp_path_factory.mktemp("paces") / "paces.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paces, "file", lambda: kept)
        yield


@pytest.fixture(scope="session", autouse=True)
def beam_remembers() -> Iterator[None]:
    """Small graphs take half the time; processes that a test starts take Beam as it is."""
    with pytest.MonkeyPatch.context() as patch:
        if "apache_beam" in sys.modules:
            from tests import beam_that_remembers  # noqa: PLC0415 - tests that need no Beam start without it

            beam_that_remembers.remember(patch)
        yield


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """Chromium: one for all tests of a process, in which Playwright can be started once."""
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        skip_or_fail("CHROMIUM", f"none of {', '.join(CHROMIUM)} is installed")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - few tests need it

    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=program, args=["--no-sandbox"])  # root has none
        yield opened
        opened.close()

"""Fixtures that several tests share."""

import os
from pathlib import Path
from typing import NoReturn

import pytest

from tests import examples  # noqa: F401 - it loads the profile of Hypothesis

REPOSITORY = Path(__file__).parents[1]


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

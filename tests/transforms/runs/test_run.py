"""A run knows the root that it was begun on."""

from pathlib import Path

import pytest

from transforms.errors import PixdexError
from transforms.runs.run import Run
from transforms.storage.store import Store


def test_a_worker_that_sees_another_folder_under_the_name_of_the_root_says_so(tmp_path: Path) -> None:
    with pytest.raises(PixdexError, match="mount that on every worker"):
        _ = Run(Store.at(str(tmp_path)), 1).request

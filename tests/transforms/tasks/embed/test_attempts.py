"""A mark stands while a shard is embedded, and stays when that ended its process."""

from pathlib import Path

import pytest

from tests.corpora import write_csv, write_pictures
from tests.transforms.embedded import planned
from transforms.records import Source
from transforms.runs.run import Run
from transforms.storage import layout
from transforms.tasks.embed.attempts import attempt


@pytest.fixture
def run(tmp_path: Path) -> Run:
    file = write_csv(tmp_path / "rows.csv", write_pictures(tmp_path / "i", 3))
    return planned(tmp_path / "root", Source("csv", f"file://{file}", image_column="image"))


def test_the_mark_goes_with_the_attempt(run: Run) -> None:
    with attempt(run, 3) as is_guarded:
        assert not is_guarded
        assert run.store.exists(layout.attempt(run.generation, 3))

    assert not run.store.exists(layout.attempt(run.generation, 3))


def test_an_attempt_that_failed_in_words_is_no_reason_for_care(run: Run) -> None:
    with pytest.raises(OSError, match="disk"), attempt(run, 3):
        raise OSError("disk full")

    with attempt(run, 3) as is_guarded:
        assert not is_guarded


def test_care_is_taken_until_the_shard_is_done(run: Run) -> None:
    run.store.create(layout.attempt(run.generation, 3), b"")  # the process of that attempt is gone
    with pytest.raises(OSError, match="disk"), attempt(run, 3) as is_guarded:
        assert is_guarded
        raise OSError("disk full")

    with attempt(run, 4) as is_guarded:
        assert not is_guarded
    with attempt(run, 3) as is_guarded:
        assert is_guarded
    assert not run.store.exists(layout.attempt(run.generation, 3))

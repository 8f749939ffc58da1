"""A run goes on with a few rejects, and not with too many."""

from pathlib import Path

import pytest

from tests.corpora import write_pictures
from tests.transforms.embedded import embed, planned
from transforms.errors import PixdexError
from transforms.records import Source
from transforms.runs.run import Run
from transforms.tasks.embed.reject_ratio import check_rejects

COUNT = 8


def embedded(folder: Path, broken: int) -> Run:
    for picture in write_pictures(folder / "pictures", COUNT)[:broken]:
        picture.write_bytes(b"no picture")
    return embed(planned(folder / "root", Source("images", f"file://{folder}/pictures"))).run


def test_rejects_up_to_the_limit_pass(tmp_path: Path) -> None:
    run = embedded(tmp_path, 3)

    check_rejects(run, 0.5)
    check_rejects(run, 3 / COUNT)


def test_more_are_refused_with_their_number_and_reasons(tmp_path: Path) -> None:
    said = rf"3 of {COUNT} items were rejected, more than --max-reject-ratio 0\.2 allows \(3 x .*: mend the sources"
    with pytest.raises(PixdexError, match=said):
        check_rejects(embedded(tmp_path, 3), 0.2)


def test_where_everything_was_rejected_no_limit_helps(tmp_path: Path) -> None:
    with pytest.raises(PixdexError, match=rf"all {COUNT} items were rejected.*{COUNT} x UnidentifiedImageError"):
        check_rejects(embedded(tmp_path, COUNT), 1.0)

"""A run goes on with a few rejects, and not with too many."""

from pathlib import Path

import pytest

from tests.corpora import write_pictures
from tests.transforms.embedded import SETTINGS, embed, planned
from transforms.errors import PixdexError
from transforms.markers import ShardMarker, StageMarker
from transforms.records import Changes, FileReference, IndexSettings, Plan, Reindex, Request, Source
from transforms.runs import beginning
from transforms.runs.run import Run
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.tasks.embed.reject_ratio import check_rejects, is_refused

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


def night(folder: Path, items: int, rejected: int, changes: Changes, carried: int = 0) -> Run:
    """A reindex that embedded so many items, as its records say, and found the vectors of others where they were."""
    request = Request((Source("images", "file:///pictures"),), SETTINGS, IndexSettings(), reindex=Reindex(1))
    run = beginning.begin(Store.at(str(folder / "root")), request)
    table = FileReference("p", 1, f"sha256:{0:064}")
    run.store.commit(layout.plan(1), Plan(1, "r", table, 0, 2, 1, items, items, "IVF1,Flat", changes=changes))
    run.commit("embed", 0, ShardMarker(0, 0, "", items, rejected, items - rejected, 0, 0, 0, None, None, 0.0))
    others = changes.carried
    found = ShardMarker(1, 0, "", others, 0, others, 0, 0, 0, None, None, 0.0, carried=carried)
    run.commit("embed", 1, found)
    return run


@pytest.mark.parametrize(
    ("items", "rejected", "unchanged", "refused"),
    [
        (5, 5, 20, False),  # a few new pictures, all bad
        (60, 60, 40, True),  # as many as would empty the root
        (99, 60, 1000, False),
        (100, 60, 1000, True),
        (5, 5, 0, True),
    ],
)
def test_of_a_small_night_the_whole_root_is_what_a_share_is_of(
    tmp_path: Path, items: int, rejected: int, unchanged: int, refused: bool
) -> None:
    run = night(tmp_path, items, rejected, Changes(items, 0, 0, unchanged, 0, 0))
    if not refused:
        check_rejects(run, 0.5)
        return
    with pytest.raises(PixdexError, match="rejected"):
        check_rejects(run, 0.5)


def test_items_that_keep_their_vectors_hide_no_rejects_and_are_something_to_find(tmp_path: Path) -> None:
    many = night(tmp_path / "many", 200, 150, Changes(200, 10_000, 0, 0, 0, 0, carried=10_000), carried=10_000)
    with pytest.raises(PixdexError, match="150 of 200 items were rejected"):
        check_rejects(many, 0.5)
    few = Changes(5, 1000, 0, 0, 0, 0, carried=1000)
    check_rejects(night(tmp_path / "few", 5, 5, few, carried=1000), 0.5)


def test_vectors_that_were_planned_to_be_kept_and_are_lost_count_as_embedded(tmp_path: Path) -> None:
    run = night(tmp_path, 0, 0, Changes(0, 300, 0, 0, 0, 0, carried=300))
    run.store.remove(layout.marker(1, "embed", 1))
    run.commit("embed", 1, ShardMarker(1, 0, "", 300, 300, 0, 0, 0, 0, None, None, 0.0))
    with pytest.raises(PixdexError, match="all 300 items were rejected"):
        check_rejects(run, 1.0)


def test_a_run_is_refused_once_it_is_embedded_and_while_it_went_no_further(tmp_path: Path) -> None:
    run = embedded(tmp_path, 3)
    assert not is_refused(run, 0.2)
    run.store.commit(layout.stage_marker(1, "embed"), StageMarker("embed", 1, 0.0))
    assert is_refused(run, 0.2) and not is_refused(run, 0.5)
    run.store.commit(layout.stage_marker(1, "keys"), StageMarker("keys", 1, 0.0))
    assert not is_refused(run, 0.2)


def test_where_everything_was_rejected_no_limit_helps(tmp_path: Path) -> None:
    with pytest.raises(PixdexError, match=rf"all {COUNT} items were rejected.*{COUNT} x UnidentifiedImageError"):
        check_rejects(embedded(tmp_path, COUNT), 1.0)

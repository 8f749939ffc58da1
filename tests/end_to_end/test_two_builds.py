"""Two builds of one root at once do no harm: both end well, and the root is what one alone makes."""

import time
from pathlib import Path

import pytest

from tests.end_to_end.builds import EVERYTHING, TINY, content, generation_of, start, wait, write_corpus
from transforms.runs import beginning
from transforms.storage.store import Store


@pytest.fixture(scope="module")
def argv(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    csv = write_corpus(tmp_path_factory.mktemp("corpus"), 300)
    return ("--csv", csv, *EVERYTHING, *TINY, "--index-key", "IVF8,Flat")


@pytest.fixture(scope="module")
def alone(argv: tuple[object, ...], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("alone") / "root"
    assert wait(start("--root", root, *argv)).code == 0
    return content(root)


def test_two_started_at_the_same_moment(argv: tuple[object, ...], alone: dict[str, str], tmp_path: Path) -> None:
    root = tmp_path / "root"
    both = [wait(process) for process in [start("--root", root, *argv), start("--root", root, *argv)]]
    assert [one.code for one in both] == [0, 0], [one.err for one in both]
    assert [one.said["generation"] for one in both] == [1, 1]
    assert beginning.unfinished(Store.at(str(root))) is None
    assert content(root) == alone
    assert not list((root / "index").rglob(".*"))


@pytest.mark.parametrize(
    "stage",
    [
        pytest.param("plan", marks=pytest.mark.gate),
        pytest.param("request", marks=pytest.mark.slow),
        pytest.param("train", marks=pytest.mark.slow),
    ],
)
def test_one_started_while_the_other_is_in_the_middle(
    argv: tuple[object, ...], alone: dict[str, str], tmp_path: Path, stage: str
) -> None:
    root = tmp_path / "root"
    first = start("--root", root, *argv)
    run = root / "plans" / "000001"
    reached = {"request": run / "request.json", "plan": run / "plan.json", "train": run / "stages" / "train.json"}
    while not reached[stage].exists() and first.poll() is None:
        time.sleep(0.005)
    both = [wait(process) for process in [first, start("--root", root, *argv)]]
    assert [one.code for one in both] == [0, 0], [one.err for one in both]
    assert beginning.unfinished(Store.at(str(root))) is None
    assert content(root) == alone


@pytest.mark.gate
def test_two_of_different_requests_leave_one_of_them_whole(argv: tuple[object, ...], tmp_path: Path) -> None:
    root = tmp_path / "root"
    both = [wait(process) for process in [start("--root", root, *argv), start("--root", root, *argv, "--seed", "1")]]
    assert min(one.code for one in both) == 0, [one.err for one in both]
    for one in both:
        assert one.code == 0 or one.err[-1].startswith("pixdex: ")
        assert "Traceback" not in " ".join(one.err)
    assert content(root)
    assert generation_of(root).totals.vectors == 1200

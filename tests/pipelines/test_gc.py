"""`pixdex gc`: what no kept generation needs goes, and everything else works as before."""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from pipelines import build, gc, rollback, verify
from tests.end_to_end import reindexing
from tests.end_to_end.builds import every_file
from tests.end_to_end.reindexing import Collection, assert_same, collection, found, generation_of
from tests.roots import Row, make_root, unit
from transforms.generations import published
from transforms.generations.manifest import Generation
from transforms.records import EncoderSettings, IndexSettings, Request, Source
from transforms.runs import beginning
from transforms.runs.run import Run
from transforms.search.searcher import Searcher
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.tasks import publish
from transforms.upkeep import garbage, lease

Capture = pytest.CaptureFixture[str]
DAY = 24 * 3600


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a collection and a root of three generations: a build, a delta with tombstones, and a merge."""
    folder = tmp_path_factory.mktemp("nights")
    made = collection(folder / "sources", pictures=60, rows=10)
    made.pictures["bad"] = -1
    made.write()
    root = folder / "root"
    assert build.main(["--root", str(root), *made.arguments, "--index-key", "IVF1,Flat"]) == 0
    _second_night(made)
    assert reindexing.run(root, "--max-tombstones", "1") == 0
    made.pictures["third"] = 503
    made.write()
    assert reindexing.run(root, "--max-deltas", "0", "--max-tombstones", "0") == 0
    assert generation_of(root).index.path == layout.merged_index(3)
    return folder


def _second_night(items: Collection) -> None:
    items.pictures |= {"second": 502, "worse": -2}
    del items.pictures["p003"], items.rows["k003"]
    items.write()


@pytest.fixture
def root(nights: Path, tmp_path: Path) -> Path:
    """A copy of that root, whose files are as old as they are."""
    shutil.copytree(nights / "root", tmp_path / "root")
    return tmp_path / "root"


@pytest.fixture
def items(nights: Path) -> Collection:
    """The collection as the third night left it."""
    made = collection(nights / "sources", pictures=60, rows=10)
    made.pictures["bad"] = -1
    _second_night(made)
    made.pictures["third"] = 503
    made.write()
    return made


def said(capsys: Capture) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return record


def collect(root: Path, *flags: str) -> int:
    return gc.main(["--root", str(root), *flags])


def verified(root: Path, capsys: Capture, *flags: str) -> dict[str, Any]:
    """What verify says of a root that must be whole."""
    capsys.readouterr()
    assert verify.main(["--root", str(root), *flags]) == 0, capsys.readouterr().err
    return said(capsys)


def manifest(root: Path, number: int) -> Generation:
    return Store.at(str(root)).read_record(layout.generation(number), Generation)


def files_of(root: Path, *numbers: int) -> set[str]:
    store = Store.at(str(root))
    return {path for number in numbers for path in published.files(store, manifest(root, number))}


def make_old(root: Path, seconds: float = 30 * DAY) -> None:
    """Makes every file of a root older."""
    for file in root.rglob("*"):
        make_older(file, seconds)


def make_older(file: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(file, (then, then))


# --- what stays ---


def test_the_current_generation_stays_whole_and_finds_the_same(root: Path, capsys: Capture) -> None:
    before, needed = found(root), files_of(root, 3)
    gone = files_of(root, 1, 2) - needed
    capsys.readouterr()
    assert collect(root, "--keep", "1", "--older-than", "0s") == 0

    last = said(capsys)
    assert (last["kept"], last["removed_generations"], last["spared"]) == ([3], [1, 2], 0)
    assert not [path for path in gone if (root / path).exists()]
    assert all((root / path).is_file() for path in needed)
    assert verified(root, capsys)["orphans"] == {"files": 0, "bytes": 0}
    assert_same(found(root), before)


def test_nothing_is_left_but_what_is_needed_and_the_numbers_of_runs(root: Path) -> None:
    needed = files_of(root, 3)
    assert collect(root, "--keep", "1", "--older-than", "0s") == 0

    numbers = {f"plans/{number:06d}/{name}.json" for number in (1, 2, 3) for name in ("request", "plan")}
    assert set(every_file(root)) == needed | numbers
    empty = [path for path in root.rglob("*") if path.is_dir() and not any(path.iterdir())]
    assert [path.name for path in empty] in ([], [layout.SCRATCH])


def test_what_is_said_is_what_goes(root: Path, capsys: Capture) -> None:
    before = every_file(root)
    capsys.readouterr()
    assert collect(root, "--keep", "1", "--older-than", "0s") == 0
    last = said(capsys)

    gone = {path: size for path, (size, _) in before.items() if not (root / path).exists()}
    manifests = {layout.generation(number) for number in (1, 2)}
    files = {path: size for path, size in gone.items() if path not in manifests}
    assert manifests <= gone.keys()
    assert (last["files"], last["bytes"]) == (len(files), sum(files.values()))


def test_as_many_generations_stay_as_are_asked_for(root: Path, capsys: Capture) -> None:
    needed, found_by_second = files_of(root, 2, 3), Searcher.open(Store.at(str(root)), number=2)
    expected = found_by_second.search(reindexing.QUERIES, reindexing.K)
    capsys.readouterr()
    assert collect(root, "--keep", "2", "--older-than", "0s") == 0

    assert (said(capsys)["kept"], published.numbers(Store.at(str(root)))) == ([2, 3], [2, 3])
    assert all((root / path).is_file() for path in needed)
    for number in ("2", "3"):
        verified(root, capsys, "--generation", number)
    again = Searcher.open(Store.at(str(root)), number=2).search(reindexing.QUERIES, reindexing.K)
    assert again == expected


def test_three_generations_stay_when_nothing_is_asked_for(root: Path, capsys: Capture) -> None:
    make_old(root)
    needed = files_of(root, 1, 2, 3)
    capsys.readouterr()
    assert collect(root) == 0
    assert said(capsys)["kept"] == [1, 2, 3]
    assert all((root / path).is_file() for path in needed)


def test_files_and_generations_of_the_last_day_stay(root: Path, capsys: Capture) -> None:
    before = every_file(root)
    capsys.readouterr()
    assert collect(root, "--keep", "1") == 0

    last = said(capsys)
    assert (last["kept"], last["removed_generations"], last["files"]) == ([1, 2, 3], [], 0)
    assert last["spared"] > 0, "markers of finished runs, which nothing needs"
    assert every_file(root) == before


def test_a_generation_that_was_current_within_the_grace_period_stays(root: Path, capsys: Capture) -> None:
    make_old(root)
    make_older(root / layout.generation(3), DAY / 2)  # so long ago the second stopped being current
    capsys.readouterr()
    assert collect(root, "--keep", "1") == 0

    assert said(capsys)["kept"] == [2, 3]
    for number in ("2", "3"):
        verified(root, capsys, "--generation", number)


def test_a_young_file_that_nothing_needs_stays_and_an_old_one_goes(root: Path, capsys: Capture) -> None:
    make_old(root)
    young, old = root / "embeddings" / "0000" / "young.parquet", root / "embeddings" / "0000" / "old.parquet"
    for file, age in ((young, DAY / 2), (old, 2 * DAY)):
        file.write_bytes(b"nobody names it")
        make_older(file, age)
    capsys.readouterr()
    assert collect(root) == 0
    assert said(capsys)["spared"] == 1
    assert (young.exists(), old.exists()) == (True, False)


def test_files_elsewhere_and_hidden_ones_stay(root: Path) -> None:
    strangers = [root / name for name in ("notes.txt", "backup/embeddings/x", "tables/.half", "embeddings-old/x")]
    for file in strangers:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"mine")
    make_old(root)
    assert collect(root, "--keep", "1", "--older-than", "0s") == 0
    assert all(file.is_file() for file in strangers)


def test_a_dry_run_says_the_same_and_removes_nothing(root: Path, capsys: Capture) -> None:
    before = every_file(root)
    capsys.readouterr()
    assert collect(root, "--keep", "1", "--older-than", "0s", "--dry-run") == 0
    dry = said(capsys)
    assert every_file(root) == before
    assert collect(root, "--keep", "1", "--older-than", "0s") == 0
    assert dry == {**said(capsys), "dry_run": True}


def test_only_the_json_object_is_said_when_it_is_asked_for(tmp_path: Path, capsys: Capture) -> None:
    root = tmp_path / "small"
    make_root(root, (Row("a", unit(1)),))
    assert collect(root, "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["kept"] == [1]
    assert err == ""


def test_what_a_first_build_left_that_was_given_up_goes_though_no_generation_is_there(
    tmp_path: Path, capsys: Capture
) -> None:
    store = Store.at(str(tmp_path / "root"))
    request = Request((Source("images", "file:///new"),), EncoderSettings("demo", "f", 2, ("image",)), IndexSettings())
    beginning.abandon(beginning.begin(store, request))
    store.create("embeddings/0000/left", b"behind")
    assert collect(tmp_path / "root", "--older-than", "0s") == 0
    assert (said(capsys)["kept"], store.exists("embeddings/0000/left")) == ([], False)
    assert beginning.next_number(store) == 2


def test_twice_removes_nothing_more(root: Path, capsys: Capture) -> None:
    assert collect(root, "--keep", "1", "--older-than", "0s") == 0
    before = every_file(root)
    capsys.readouterr()
    assert collect(root, "--keep", "1", "--older-than", "0s") == 0
    last = said(capsys)
    assert (last["kept"], last["removed_generations"], last["files"], last["bytes"]) == ([3], [], 0, 0)
    assert every_file(root) == before


# --- readers, and what comes after ---


def test_a_search_that_was_open_before_keeps_finding_the_same(root: Path) -> None:
    for number in (1, 2):
        searcher = Searcher.open(Store.at(str(root)), number=number)
        before = searcher.search(reindexing.QUERIES, reindexing.K)
        assert collect(root, "--keep", "1") == 0
        assert searcher.search(reindexing.QUERIES, reindexing.K) == before


def test_numbers_are_not_used_again(items: Collection, root: Path) -> None:
    store = Store.at(str(root))
    number, shard = beginning.next_number(store), beginning.next_shard(store)
    assert collect(root, "--keep", "1", "--older-than", "0s") == 0
    assert (beginning.next_number(store), beginning.next_shard(store)) == (number, shard)

    items.pictures["fourth"] = 504
    items.write()
    assert reindexing.run(root) == 0
    assert generation_of(root).generation == number
    assert Run(store, number).plan.first_shard == shard


def test_numbers_of_a_run_that_was_given_up_are_not_used_again(items: Collection, root: Path) -> None:
    store = Store.at(str(root))
    items.pictures["fourth"] = 504
    items.write()
    stop_before_publishing(root)
    run = beginning.unfinished(store)
    assert run is not None
    beginning.abandon(run)
    number, shard = beginning.next_number(store), beginning.next_shard(store)
    assert (number, shard) == (5, run.plan.first_shard + run.plan.shards)
    assert collect(root, "--keep", "1", "--older-than", "0s") == 0

    assert (beginning.next_number(store), beginning.next_shard(store)) == (number, shard)
    assert not (root / "plans" / "000004" / "embed").exists()
    assert beginning.unfinished(store) is None


def test_the_next_night_goes_on_from_what_is_left(items: Collection, root: Path, capsys: Capture) -> None:
    assert collect(root, "--keep", "1", "--older-than", "0s") == 0
    capsys.readouterr()
    assert reindexing.run(root) == 0
    last = said(capsys)
    assert (last["new"], last["changed"], last["gone"], last["still_rejected"]) == (0, 0, 0, 2)
    assert reindexing.run(root, "--retrain", "always") == 0
    verified(root, capsys)


def test_a_generation_that_is_gone_cannot_be_gone_back_to(root: Path, capsys: Capture) -> None:
    assert collect(root, "--keep", "1", "--older-than", "0s") == 0
    capsys.readouterr()
    assert rollback.main(["--root", str(root), "--to", "1"]) == 2
    assert "generation" in capsys.readouterr().err


# --- unfinished runs ---


def stop_before_publishing(root: Path, *flags: str) -> None:
    """Runs a reindex that fails at its last step."""

    def fail(_: Run) -> Generation:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish, "publish", fail)
        assert reindexing.run(root, *flags) == 1


@pytest.mark.parametrize("flags", [(), ("--max-deltas", "0"), ("--retrain", "always")], ids=["delta", "merge", "train"])
def test_an_unfinished_run_is_spared_and_can_be_finished(
    items: Collection, root: Path, capsys: Capture, flags: tuple[str, ...]
) -> None:
    items.pictures["fourth"] = 504
    items.write()
    stop_before_publishing(root, *flags)
    own = ("plans/000004/", "index/000004/")
    before = {path: stat for path, stat in every_file(root).items() if path.startswith(own)}
    assert collect(root, "--keep", "1", "--older-than", "0s") == 0
    assert {path: stat for path, stat in every_file(root).items() if path.startswith(own)} == before

    verified(root, capsys)
    capsys.readouterr()
    assert reindexing.run(root, *flags) == 0, capsys.readouterr().err
    last = said(capsys)
    assert (last["generation"], last["new"], last["embedded"]) == (4, 1, 1)
    verified(root, capsys)


def test_the_base_of_an_unfinished_run_is_spared_however_old(items: Collection, root: Path, capsys: Capture) -> None:
    items.pictures["fourth"] = 504
    items.write()
    stop_before_publishing(root)
    make_old(root)
    assert collect(root, "--keep", "1") == 0
    assert reindexing.run(root) == 0
    verified(root, capsys)


# --- what goes wrong ---


@pytest.mark.parametrize("removals", [pytest.param(n, marks=pytest.mark.slow) for n in (0, 1, 5)] + [2, 20])
def test_whoever_is_interrupted_leaves_a_root_that_works_and_the_next_one_finishes(
    root: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, removals: int
) -> None:
    needed, remove, left = files_of(root, 3), Store.remove, list(range(removals))

    def remove_some(store: Store, path: str) -> None:
        if path.startswith(layout.LEASE):
            return remove(store, path)
        if not left:
            raise OSError(5, "connection lost")
        left.pop()
        return remove(store, path)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "remove", remove_some)
        assert collect(root, "--keep", "1", "--older-than", "0s") == 1
    for number in published.numbers(Store.at(str(root))):
        verified(root, capsys, "--generation", str(number))

    assert collect(root, "--keep", "1", "--older-than", "0s") == 0
    verified(root, capsys)
    numbers = {f"plans/{number:06d}/{name}.json" for number in (1, 2, 3) for name in ("request", "plan")}
    assert set(every_file(root)) == needed | numbers


def test_manifests_go_before_their_files_the_oldest_first(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, remove = [], Store.remove

    def note(store: Store, path: str) -> None:
        gone.append(path)
        remove(store, path)

    monkeypatch.setattr(Store, "remove", note)
    assert collect(root, "--keep", "1", "--older-than", "0s") == 0
    assert gone[:2] == [layout.generation(1), layout.generation(2)]


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("damage", ["removed", "cut"])
def test_a_damaged_table_of_a_kept_generation_removes_nothing(
    root: Path, capsys: Capture, number: int, damage: str
) -> None:
    table = root / manifest(root, number).tables.shards.path
    if damage == "removed":
        table.unlink()
    else:
        table.write_bytes(table.read_bytes()[:-20])
    before = every_file(root)
    capsys.readouterr()
    assert collect(root, "--keep", "2", "--older-than", "0s") == 1
    assert table.name in capsys.readouterr().err
    assert every_file(root) == before


def test_a_root_that_is_being_written_is_left_alone(root: Path, capsys: Capture) -> None:
    before = every_file(root)
    with lease.held(Store.at(str(root)), "reindex"):
        capsys.readouterr()
        assert collect(root, "--keep", "1", "--older-than", "0s") == 1
        assert "pixdex reindex" in capsys.readouterr().err
    assert every_file(root) == before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "no generation"),
        (("--keep", "0"), "--keep"),
        (("--older-than", "soon"), "24h"),
        (("--nonsense", "1"), "--nonsense"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    tmp_path: Path, capsys: Capture, flags: tuple[str, ...], words: str
) -> None:
    (tmp_path / "empty").mkdir()
    assert collect(tmp_path / "empty", *flags) == 2
    error = capsys.readouterr().err
    assert words in error


def test_every_folder_of_a_root_is_looked_at(root: Path) -> None:
    assert {path.name for path in root.iterdir() if not path.name.startswith(".")} <= set(garbage.FOLDERS)

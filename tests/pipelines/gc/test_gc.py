"""`pixdex gc`: what no kept generation needs goes, and everything else works as before."""

import json
from pathlib import Path

import pytest

from pipelines import rollback
from tests.end_to_end import reindexing
from tests.end_to_end.builds import every_file
from tests.end_to_end.reindexing import Collection, assert_same, found, generation_of
from tests.pipelines.gc.collected import (
    DAY,
    Capture,
    collect,
    files_of,
    make_old,
    make_older,
    said,
    stop_before_publishing,
    verified,
)
from tests.roots import Row, make_root, unit
from transforms.generations import published
from transforms.records import EncoderSettings, IndexSettings, Request, Source
from transforms.runs import beginning
from transforms.runs.run import Run
from transforms.search.searcher import Searcher
from transforms.storage import layout
from transforms.storage.store import Store

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

    numbers = {f"plans/000003/{name}.json" for name in ("request", "plan", "stages/publish")}
    reports = {f"reports/000003/{name}" for name in ("index.html", "index_infos.json")}
    assert set(every_file(root)) == needed | numbers | reports
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


@pytest.mark.gate
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


@pytest.mark.gate
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


@pytest.mark.gate
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

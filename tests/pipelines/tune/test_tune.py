"""`pixdex tune`: what it chooses keeps its promise on other queries, is how searches go, and lasts while it holds."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import pixdex
from pipelines import batch_search, build, evaluate, gc, hide, inspect, reindex, rollback, search, tune, verify
from pipelines.running import tuning
from pipelines.terminal import tune_report
from tests.benchmarks.clustered_vectors import batches
from tests.roots import Row, make_root
from transforms.generations.published import open_generation
from transforms.proof import queries
from transforms.records import DERIVED_VERSION
from transforms.search.hits import Asked
from transforms.search.searcher import Searcher
from transforms.storage.store import Store

Capture = pytest.CaptureFixture[str]
ROWS, DIM = 6000, 24


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tune")
    (folder / "ready").mkdir()
    np.save(folder / "ready" / "a.npy", np.concatenate(list(batches(ROWS, DIM, 0))))
    words = ("--vectors", str(folder / "ready"), "--index-key", "IVF64,PQ12", "--no-progress")
    assert build.main(["--root", str(folder / "root"), *words]) == 0
    return folder


@pytest.fixture
def root(built: Path, tmp_path: Path) -> Path:
    """A root of its own, over the same ready embeddings."""
    (tmp_path / "ready").symlink_to(built / "ready")
    words = ("--vectors", str(built / "ready"), "--index-key", "IVF64,PQ12", "--no-progress")
    assert build.main(["--root", str(tmp_path / "root"), *words]) == 0
    return tmp_path / "root"


def said(capsys: Capture, root: Path, *words: object, main: Any = tune.main) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["--root", str(root), *map(str, words)]) == 0
    record: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return record


def tuned(capsys: Capture, root: Path, *words: object) -> dict[str, Any]:
    stop = () if "--stop" in words else ("--stop", "always")
    return said(capsys, root, "--num-queries", 300, *stop, "--no-progress", *words)


def found_by(root: Path, seed: int = 7) -> float:
    """Recall@10 of searches that say nothing, of rows that were not drawn for the tuning."""
    searcher = Searcher.open(Store.at(str(root)))
    (one,) = queries.of_root(searcher, 400, seed)
    vectors = searcher.stored.all(searcher.rows_of("image").ids())
    exact = np.argsort(-(one.vectors @ vectors.T), axis=1, kind="stable")[:, :11]
    ids = searcher.rows_of("image").ids()[exact]
    found = searcher.nearest(one.vectors, Asked(11, modality="image", query_kind="image"))
    rows = np.split(found.ids, np.cumsum(found.counts)[:-1])
    hits = [
        len((set(mine.tolist()) - {own}) & set([row for row in near.tolist() if row != own][:10]))
        for mine, near, own in zip(rows, ids, one.own.tolist(), strict=True)
    ]
    return float(np.mean(hits)) / 10


def test_searches_keep_the_promise_and_scan_fewer_codes_than_a_fixed_number_of_lists(
    root: Path, capsys: Capture
) -> None:
    for stop in ("never", "auto"):  # of so few rows it takes longer than it saves
        fixed = tuned(capsys, root, "--target-recall", 0.9, "--stop", stop)
        assert fixed["text"] is None and fixed["image"]["margin"] is None
    assert fixed["generation"] == 3 and fixed["image"]["recall"] >= 0.88 and found_by(root) >= 0.88
    stopping = tuned(capsys, root, "--target-recall", 0.9)
    assert stopping["generation"] == 4 and stopping["image"]["margin"] is not None
    assert stopping["image"]["recall"] >= 0.88 and found_by(root) >= 0.88
    assert stopping["image"]["codes"] < fixed["image"]["codes"]
    assert verify.main(["--root", str(root)]) == 0


@pytest.mark.gate
def test_a_tail_is_reached_by_so_many_queries(root: Path, capsys: Capture) -> None:
    record = tuned(capsys, root, "--tail", ".9@90%")
    assert record["image"]["tail"] >= 0.87
    inspected = said(capsys, root, "--json", main=inspect.main)
    assert inspected["tuned"]["tail"] == [0.9, 0.9] and inspected["tuned"]["settings"][0]["queries"] == "image"


def test_it_is_the_default_of_every_way_to_search_and_numbers_still_count(
    root: Path, tmp_path: Path, capsys: Capture
) -> None:
    tuned(capsys, root, "--target-recall", 0.9)
    searcher = Searcher.open(Store.at(str(root)))
    vector = searcher.stored.all(np.array([5]))
    np.save(tmp_path / "q.npy", vector)
    words = ("--vector", tmp_path / "q.npy", "--json", "--explain")
    usual = said(capsys, root, *words, main=search.main)
    assert usual["explain"]["codes"] == searcher.codes_of(vector, Asked())
    every = said(capsys, root, *words, "--nprobe", 64, main=search.main)
    assert every["explain"]["codes"] == ROWS > usual["explain"]["codes"]
    with pixdex.open(root) as opened:
        ids = [hit.id for hit in opened.search(vector=vector[0])]
    assert ids == [hit["id"] for hit in usual["results"]]
    said(
        capsys, root, "--queries", tmp_path / "q.npy", "--output", tmp_path / "o.parquet", "--no-progress",
        main=batch_search.main,
    )  # fmt: skip
    assert pq.read_table(tmp_path / "o.parquet")["id"].to_pylist() == ids
    record = said(capsys, root, "--num-queries", 50, "--no-progress", main=evaluate.main)
    (default,) = [point for point in record["curve"] if point["default"]]
    assert default["margin"] is not None and default["codes"] < ROWS


def test_fewer_results_are_looked_for_as_far_and_more_no_less_far_than_before(root: Path, capsys: Capture) -> None:
    before = Searcher.open(Store.at(str(root)))
    (one,) = queries.of_root(before, 200, 3)
    tuned(capsys, root, "--target-recall", 0.9)
    searcher = Searcher.open(Store.at(str(root)))
    ten = searcher.nearest(one.vectors, Asked(10, modality="image", query_kind="image"))
    first = searcher.nearest(one.vectors, Asked(1, modality="image", query_kind="image"))
    assert first.ids.tolist() == ten.ids[::10].tolist()
    many = Asked(100, modality="image", query_kind="image")
    assert searcher.codes_of(one.vectors, many) > searcher.codes_of(one.vectors, replace(many, k=10))
    vectors = searcher.stored.all(searcher.rows_of("image").ids())
    exact = np.sort(-(one.vectors @ vectors.T), axis=1)[:, 99]

    def recall(which: Searcher) -> float:
        found = which.nearest(one.vectors, many)
        return float((found.scores.reshape(200, 100) >= -exact[:, None] - 1e-3).mean())

    assert recall(searcher) > 0.8


def test_a_condition_asks_for_all_lists_and_finds_all(root: Path, capsys: Capture) -> None:
    tuned(capsys, root, "--target-recall", 0.9)
    searcher = Searcher.open(Store.at(str(root)))
    vector = searcher.stored.all(np.array([5]))
    (hits,) = searcher.search(vector, 3, where="uri LIKE '%a.npy'", query_kind="image")
    assert hits[0].id == 5 and len(hits) == 3


@pytest.mark.gate
def test_more_results_than_lists_hold_are_all_found(root: Path, capsys: Capture) -> None:
    tuned(capsys, root, "--target-recall", 0.5)
    searcher = Searcher.open(Store.at(str(root)))
    vector = searcher.stored.all(np.array([5]))
    (hits,) = searcher.search(vector, ROWS, query_kind="image")
    assert len(hits) == ROWS


@pytest.mark.gate
def test_it_lasts_through_a_reindex_and_hiding_and_ends_with_the_trained_index(
    tmp_path: Path, built: Path, capsys: Capture
) -> None:
    ready = tmp_path / "ready"
    ready.mkdir()
    whole = np.load(built / "ready" / "a.npy")
    np.save(ready / "a.npy", whole[:5000])
    root = tmp_path / "root"
    words = ("--vectors", str(ready / "*.npy"), "--index-key", "IVF64,PQ12", "--no-progress")
    assert build.main(["--root", str(root), *words]) == 0
    before = tuned(capsys, root, "--target-recall", 0.9)
    np.save(ready / "b.npy", whole[5000:])
    night = said(capsys, root, "--no-progress", main=reindex.main)
    assert night["generation"] == 3 and night["promise_lost"] is None
    generation = open_generation(Store.at(str(root)))
    assert generation.tuned is not None and generation.tuned.settings[0].nprobe == before["image"]["nprobe"]
    assert found_by(root) >= 0.87
    key = Searcher.open(Store.at(str(root))).table_of(np.array([5]), ["key"])["key"].to_pylist()[0]
    assert hide.main(["--root", str(root), key]) == 0
    assert open_generation(Store.at(str(root))).tuned == generation.tuned
    capsys.readouterr()
    night = said(capsys, root, "--retrain", "always", "--no-progress", main=reindex.main)
    assert "of the trained index before" in night["promise_lost"]
    assert open_generation(Store.at(str(root))).tuned is None
    assert rollback.main(["--root", str(root), "--to", "4"]) == 0
    assert open_generation(Store.at(str(root))).tuned == generation.tuned


@pytest.mark.gate
def test_a_night_says_when_canaries_find_less_than_when_it_was_tuned(
    root: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "LEAST_QUERIES", 1)
    tuned(capsys, root, "--target-recall", 0.9)
    generation = open_generation(Store.at(str(root)))
    assert generation.tuned is not None and generation.tuned.canaries is not None
    drift: Any = type("Drift", (), {"recall": generation.tuned.canaries - 0.02})()
    assert "may no longer hold: canary queries found" in tune_report.lost(
        generation.tuned, replace(generation, drift=drift)
    )
    drift.recall = generation.tuned.canaries
    assert tune_report.lost(generation.tuned, replace(generation, drift=drift)) == ""
    assert tune_report.lost(None, generation) == ""


@pytest.mark.gate
def test_a_spread_that_is_lost_is_named_with_the_way_out_and_made_anew(root: Path, capsys: Capture) -> None:
    tuned(capsys, root, "--target-recall", 0.9)
    for file in root.rglob("spread-*"):
        file.unlink()
    np.save(root.parent / "q.npy", np.ones((1, DIM), np.float32))
    assert search.main(["--root", str(root), "--vector", str(root.parent / "q.npy")]) == 1
    assert "run pixdex tune anew, or go without it: pixdex tune --off" in capsys.readouterr().err
    assert verify.main(["--root", str(root)]) == 1
    assert "pixdex tune --off goes without it" in "".join(capsys.readouterr())
    tuned(capsys, root, "--target-recall", 0.9)
    assert search.main(["--root", str(root), "--vector", str(root.parent / "q.npy")]) == 0


@pytest.mark.gate
def test_off_goes_back_and_gc_takes_what_only_that_needed(root: Path, capsys: Capture) -> None:
    tuned(capsys, root, "--target-recall", 0.9)
    assert len(list(root.rglob("spread-*"))) == 1
    assert said(capsys, root, "--off") == {"generation": 3, "image": None, "text": None}
    assert said(capsys, root, "--off")["generation"] == 3
    assert gc.main(["--root", str(root), "--keep", "1", "--older-than", "0s"]) == 0
    assert not list(root.rglob("spread-*"))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "say what searches are to find"),
        (("--off", "--target-recall", ".9"), "say what searches are to find"),
        (("--target-recall", "1.5"), "is not a number above 0, up to 1"),
        (("--target-recall", "0"), "is not a number above 0, up to 1"),
        (("--tail", ".9"), "is not a recall and a share of queries, as .9@95%"),
        (("--tail", ".9@95"), "is not a recall and a share of queries, as .9@95%"),
        (("--target-recall", ".9", "--num-queries", "5"), "the root holds too few rows"),
        (("--target-recall", ".9", "--queries", " "), "--queries is empty"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(built: Path, capsys: Capture, words: tuple[str, ...], why: str) -> None:
    capsys.readouterr()
    assert tune.main(["--root", str(built / "root"), "--no-progress", *words]) == 2
    assert why in capsys.readouterr().err
    assert open_generation(Store.at(str(built / "root"))).generation == 1


def test_a_promise_that_no_setting_keeps_is_refused_with_the_best_there_is(
    built: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transforms.proof.tune.SHORTLISTS", (0,))
    assert tune.main(["--root", str(built / "root"), "--no-progress", "--target-recall", ".99"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "no setting keeps recall 0.99 for image queries: the best finds 0." in line and "ask for less" in line


def test_vectors_of_a_file_are_tuned_in_a_root_of_several_kinds(tmp_path: Path, capsys: Capture) -> None:
    vectors = np.concatenate(list(batches(400, 8, 0))).astype(np.float32)
    rows = [Row(f"k{n}", vector.tolist(), "image" if n < 200 else "text") for n, vector in enumerate(vectors)]
    make_root(tmp_path / "root", rows, key="IVF16,Flat", nprobe=1)
    np.save(tmp_path / "q.npy", np.concatenate(list(batches(100, 8, 0, draw=1))))
    words = ("--queries", tmp_path / "q.npy", "--target-recall", 0.99, "--stop", "never", "--no-progress")
    record = said(capsys, tmp_path / "root", *words)
    searcher = Searcher.open(Store.at(str(tmp_path / "root")))
    fixed = searcher.codes_of(vectors[:50], Asked(nprobe=record["vector"]["nprobe"]))
    assert searcher.codes_of(vectors[:50], Asked()) == fixed > searcher.codes_of(vectors[:50], Asked(nprobe=1))
    assert searcher.generation.format_version == DERIVED_VERSION  # an older pixdex refuses it by that


@pytest.mark.gate
def test_queries_of_a_file_are_tuned_on_too(root: Path, tmp_path: Path, capsys: Capture) -> None:
    np.save(tmp_path / "q.npy", np.concatenate(list(batches(400, DIM, 0, draw=1))))
    record = said(capsys, root, "--queries", tmp_path / "q.npy", "--target-recall", 0.9, "--no-progress")
    assert record["vector"]["recall"] >= 0.87 and record["image"] is None

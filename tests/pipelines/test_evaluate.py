"""`pixdex evaluate`: how much searches find, by exact neighbours, judgements and labels, and what it costs."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pixdex
from pipelines import build, evaluate, hide
from tests.pipelines.evaluated import TEXTS, TINY, Capture, encoded, said, text_root, without_times
from tests.pipelines.test_search import compass_root
from tests.roots import Row, make_root, unit
from transforms.evaluation.judged import Judged
from transforms.proof import queries
from transforms.proof.judgements import Judgements
from transforms.search.searcher import Searcher
from transforms.storage.store import Store


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write_judgements(file: Path, judgements: Judgements) -> None:
    rows = [f"{query},{key},{grade}\n" for query, grades in judgements.items() for key, grade in grades.items()]
    file.write_text("query,key,relevance\n" + "".join(rows), encoding="utf-8")


def test_the_last_line_is_what_the_manual_says(tmp_path: Path, capsys: Capture) -> None:
    text_root(tmp_path / "root")
    record = said(capsys, "--root", tmp_path / "root", "-k", 5)
    named = (evaluate.__doc__ or "").split("one JSON object:")[1]
    assert {*re.findall(r'"(\w+)"', named)} <= {*record, *record["curve"][0]}
    asked = ["generation", "queries", "k", "curve", "ndcg", "map", "mrr", "accuracy"]
    assert list(record) == [*asked, "seconds", "output"]
    assert [record[name] for name in asked if name != "curve"] == [1, 60, 5, None, None, None, None]
    for point in record["curve"]:
        assert list(point) == [
            *(
                "modality",
                "nprobe",
                "margin",
                "shortlist",
                "default",
                "queries",
                "codes",
                "recall",
                "ci95",
                "recall_of_nearest",
            ),
            *("robust50", "robust90", "p5", "worst5", "p50_ms", "p99_ms", "batch_ms"),
        ]
        assert (point["modality"], point["queries"], point["shortlist"]) == ("text", 60, 0)
        low, high = point["ci95"]
        assert 0 <= point["worst5"] <= point["p5"] and low <= point["recall"] <= high
    assert [point["nprobe"] for point in record["curve"] if point["default"]] == [2]
    assert record["curve"][-1]["recall"] == 1


def test_pictures_and_texts_are_asked_and_shown_as_tables(tmp_path: Path, capsys: Capture) -> None:
    rows = [Row(f"k{n}", unit(3 * n), columns={"label": f"l{n // 15}"}) for n in range(30)]
    make_root(tmp_path / "root", rows + [Row(f"k{n}", unit(3 * n + 1), "text") for n in range(20)], key="IVF2,Flat")
    assert evaluate.main(["--root", str(tmp_path / "root"), "--num-queries", "8", "--no-progress"]) == 0
    *tables, last = capsys.readouterr().out.splitlines()
    assert {(point["modality"], point["queries"]) for point in json.loads(last)["curve"]} == {("image", 8), ("text", 8)}
    assert sum("recall@10" in line for line in tables) == 2 and sum(line.startswith("*") for line in tables) == 2


def test_what_may_be_found_holds_of_rows_that_are_asked(tmp_path: Path, capsys: Capture) -> None:
    texts = [Row(f"k{n}", unit(3 * n + 1), "text") for n in range(20)]
    make_root(tmp_path / "root", [Row(f"k{n}", unit(3 * n)) for n in range(30)] + texts, key="IVF2,Flat")
    words = ("--modality", "text", "-k", 5, "--nprobe", 2, "--work", tmp_path / "work")
    points = said(capsys, "--root", tmp_path / "root", *words)["curve"]
    assert [(point["modality"], point["recall"]) for point in points] == [("image", 1), ("text", 1)]
    (file,) = (tmp_path / "work").glob("*/joined/*.npz")
    with np.load(file) as found:
        for ids in (found["ids-0"], found["ids-1"]):
            assert ids[ids >= 0].min() >= 30


def test_settings_that_are_named_are_measured_and_the_usual_one_is_marked(tmp_path: Path, capsys: Capture) -> None:
    text_root(tmp_path / "root")
    words = ("--root", tmp_path / "root", *("--nprobe", 6, "--nprobe", 2, "--nprobe", 5, "--nprobe", 6))
    points = said(capsys, *words, "-k", 200)["curve"]
    assert [(point["nprobe"], point["default"]) for point in points] == [(2, True), (5, False), (6, False)]
    # A usual search of 200 looks into more lists until it has them; five of six lists hold fewer.
    assert [point["recall"] == 1 for point in points] == [True, False, True]


@pytest.mark.parametrize("kind", ["npy", "parquet", "csv", "txt"])
def test_queries_of_a_file_find_the_same_however_they_are_given(tmp_path: Path, capsys: Capture, kind: str) -> None:
    text_root(tmp_path / "root")
    asked = [f"words {number}" for number in range(20)]
    words: tuple[str, ...] = ()
    if kind == "npy":
        np.save(tmp_path / "q.npy", encoded(asked))
    elif kind == "parquet":
        vectors = pa.array(list(encoded(asked)), pa.list_(pa.float32()))
        pq.write_table(pa.table({"vec": vectors}), tmp_path / "q.parquet")
        words = ("--vector-column", "vec")
    elif kind == "csv":
        (tmp_path / "q.csv").write_text("\ufeffno,질문\n" + "".join(f"1,{text}\n" for text in asked), encoding="utf-8")
        words = ("--text-column", "질문")
    else:
        (tmp_path / "q.txt").write_text("\n".join(asked) + "\n\n")
    record = said(capsys, "--root", tmp_path / "root", "--queries", tmp_path / f"q.{kind}", *words, "--nprobe", 1)
    (point,) = record["curve"]
    assert (record["queries"], point["modality"]) == (20, "vector" if kind in ("npy", "parquet") else "text")
    rows = encoded(TEXTS)
    with pixdex.open(tmp_path / "root") as opened:
        shares = [
            len({f"k{n:03}" for n in np.argsort(-(rows @ query))[:10]} & {hit.key for hit in hits}) / 10
            for query in encoded(asked)
            for hits in [opened.search(vector=query, nprobe=1)]
        ]
    assert point["recall"] == pytest.approx(np.mean(shares), abs=1e-6) and point["recall"] < 0.9


def judged_by_hand(root: Path, judgements: Judgements, asked: dict[str, Any]) -> Judged:
    """Rankings of the library, which knows nothing of this command."""
    with pixdex.open(root) as opened:
        rankings = {name: [hit.key for hit in opened.search(**how, k=100)] for name, how in asked.items()}
    return Judged.of(rankings, judgements)


@pytest.mark.parametrize("is_alone", [True, False])
def test_judgements_say_what_they_say_of_the_results_of_searches(
    tmp_path: Path, capsys: Capture, is_alone: bool
) -> None:
    text_root(tmp_path / "root")
    rng = np.random.default_rng(0)
    judgements: Judgements = {
        f"words {n}": {f"k{row:03}": float(rng.integers(0, 4)) for row in rng.choice(120, 12, replace=False)}
        for n in range(9)
    }
    judgements["words 3"] = {"k005": 0.0}  # nothing is relevant
    write_judgements(tmp_path / "j.csv", judgements)
    words: tuple[object, ...] = ("--judgements", tmp_path / "j.csv")
    if not is_alone:
        (tmp_path / "q.txt").write_text("\n".join([*judgements, "not judged"]))
        words = (*words, "--queries", tmp_path / "q.txt")
    record = said(capsys, "--root", tmp_path / "root", *words, "-k", 5)
    wanted = judged_by_hand(tmp_path / "root", judgements, {text: {"text": text} for text in judgements})
    assert record["queries"] == 9 + (not is_alone) == record["curve"][0]["queries"]
    assert record["ndcg"] == pytest.approx(wanted.ndcg(5).mean.value, abs=1e-6)
    assert record["map"] == pytest.approx(wanted.average_precision(100).mean.value, abs=1e-6)
    assert record["mrr"] == pytest.approx(wanted.reciprocal_rank(5).mean.value, abs=1e-6)
    assert 0 < record["ndcg"] < 1 and record["accuracy"] is None


def test_judgements_call_vectors_by_their_numbers(tmp_path: Path, capsys: Capture) -> None:
    text_root(tmp_path / "root")
    np.save(
        tmp_path / "q.npy", np.concatenate([encoded(TEXTS[:1]), np.zeros((1, 16), np.float32), encoded(TEXTS[7:8])])
    )
    write_judgements(tmp_path / "j.csv", {"0": {"k000": 1}, "2": {"k007": 1}})
    words = ("--queries", tmp_path / "q.npy", "--judgements", tmp_path / "j.csv")
    record = said(capsys, "--root", tmp_path / "root", *words)
    assert (record["mrr"], record["queries"]) == (1, 2)


def test_judgements_call_pictures_as_the_file_of_queries_does(tmp_path: Path, capsys: Capture) -> None:
    root = compass_root(tmp_path / "root", *[Row(f"k{n}", unit(2 * n)) for n in range(46)])
    (tmp_path / "in").mkdir()
    for colour in ("red", "blue"):
        PIL.Image.new("RGB", (9, 7), colour).save(tmp_path / "in" / f"{colour}.png")
    (tmp_path / "q.csv").write_text("file\nin/red.png\nin/none.png\nin/blue.png\n")
    write_judgements(tmp_path / "j.csv", {"in/red.png": {"k0": 2}, "in/blue.png": {"k45": 1, "k44": 0.5}})
    files = ("--queries", tmp_path / "q.csv", "--image-column", "file", "--judgements", tmp_path / "j.csv")
    record = said(capsys, "--root", root, *files)
    assert (record["ndcg"], record["mrr"], record["curve"][0]["modality"]) == (1, 1, "image")


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Spam and ham, some of it unlabelled, built as a person does."""
    folder = tmp_path_factory.mktemp("messages")
    rng = np.random.default_rng(0)
    words = {"spam": ["win", "free", "cash", "prize", "call"], "ham": ["see", "you", "home", "after", "lunch", "ok"]}
    with (folder / "messages.csv").open("w", encoding="utf-8") as stream:
        stream.write("label,text\n")
        for number in range(240):
            label = "spam" if number % 4 == 0 else "ham"
            text = " ".join([*rng.choice(words[label], 5), str(number)])
            stream.write(f"{'' if number % 12 == 5 else label},{text}\n")
    source = ("--csv", str(folder / "messages.csv"), "--text-column", "text")
    flags = ("--encoder", TINY, "--index-key", "IVF4,Flat", "--no-progress")
    assert build.main(["--root", str(folder / "root"), *source, *flags]) == 0
    return folder / "root"


@pytest.mark.parametrize("k", [1, 5])
def test_labels_of_neighbours_are_those_of_scikit_learn(messages: Path, capsys: Capture, k: int) -> None:
    neighbors = pytest.importorskip("sklearn.neighbors", reason="needs pixdex[dev]")
    record = said(capsys, "--root", messages, "--label-column", "label", "-k", k, "--seed", 4)
    searcher = Searcher.open(Store.at(str(messages)))
    held_out = queries.held_out(searcher, "label", "text", 1000, 4)
    every = searcher.rows_of("text", "label <> ''").ids()
    others = np.setdiff1d(every, held_out.own)
    labels = dict(zip(every.tolist(), searcher.table_of(every, ["label"])["label"].to_pylist(), strict=True))
    classifier = neighbors.KNeighborsClassifier(k, algorithm="brute")
    classifier.fit(searcher.stored.all(others), [labels[row] for row in others.tolist()])
    wanted = classifier.score(held_out.vectors, [labels[row] for row in held_out.own.tolist()])
    assert (len(every), len(held_out.own)) == (220, 44)
    assert record["accuracy"] == pytest.approx(wanted, abs=1e-6)
    assert (record["queries"], record["curve"], record["ndcg"]) == (44, [], None)


def test_a_folder_takes_all_there_is(tmp_path: Path, capsys: Capture) -> None:
    text_root(tmp_path / "root")
    write_judgements(tmp_path / "j.csv", {"words 1": {"k001": 1}, "words 2": {"k002": 2}})
    words = (
        "--judgements",
        tmp_path / "j.csv",
        "--label-column",
        "label",
        "-k",
        3,
        "--output",
        tmp_path / "new" / "out",
    )
    record = said(capsys, "--root", tmp_path / "root", *words)
    files = ["curve-text.png", "evaluation.json", "queries-text.png"]
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == files
    told = json.loads((tmp_path / "new" / "out" / "evaluation.json").read_text())
    assert {name: told[name] for name in ("generation", "k", "ndcg", "accuracy")} == {
        name: record[name] for name in ("generation", "k", "ndcg", "accuracy")
    }
    assert record["output"] == str(tmp_path / "new" / "out") and record["queries"] == 2 + 21
    (usual,) = [point for point in told["curve"] if point["default"]]
    assert np.mean(usual["recall_of_queries"]) == pytest.approx(usual["recall"], abs=1e-6)
    assert (told["judged"]["ndcg"]["value"], told["judged"]["k"]) == (record["ndcg"], 3)
    labelled = told["labelled"]
    assert labelled["labels"] == ["l0", "l1", "l2"] and np.sum(labelled["confusion"]) == 21
    assert np.trace(labelled["confusion"]) / 21 == pytest.approx(record["accuracy"], abs=1e-6)


@pytest.mark.parametrize(
    "how",
    [
        {"key": "IVF1,Flat"},
        {"key": "IVF6,SQ8"},
        {"metric": "l2", "normalize": False},
        {"metric": "l1", "normalize": False},
        {"deltas": ((1,), (2,)), "dead": (3, 4, (1 << 16) + 5)},
    ],
)
def test_roots_of_every_kind(tmp_path: Path, capsys: Capture, how: dict[str, Any]) -> None:
    text_root(tmp_path / "root", **how)
    record = said(capsys, "--root", tmp_path / "root", "--nprobe", 1 if how.get("key") == "IVF1,Flat" else 6, "-k", 5)
    (point,) = record["curve"]
    assert record["queries"] == 60 - (1 if "dead" in how else 0)
    assert point["codes"] == 120
    assert point["recall"] > 0.9 if how.get("key") == "IVF6,SQ8" else point["recall"] == 1


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embeddings of somebody's own, with whole numbers for labels, and no encoder."""
    folder = tmp_path_factory.mktemp("ready")
    vectors = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
    vectors[:, 0] += 6 * (np.arange(300) % 3)
    column = pa.array(list(vectors), pa.list_(pa.float32()))
    labels = pa.array([None if n % 10 == 7 else n % 3 + 8 for n in range(300)])
    pq.write_table(pa.table({"embedding": column, "digit": labels}), folder / "rows.parquet")
    words = ("--vectors", str(folder / "rows.parquet"), "--index-key", "IVF4,SQ8", "--no-progress")
    assert build.main(["--root", str(folder / "root"), *words]) == 0
    return folder / "root"


def test_numbers_are_labels_by_how_they_are_written(tmp_path: Path, ready: Path, capsys: Capture) -> None:
    record = said(capsys, "--root", ready, "--label-column", "digit", "--output", tmp_path / "out")
    told = json.loads((tmp_path / "out" / "evaluation.json").read_text())["labelled"]
    assert told["labels"] == ["10", "8", "9"] and record["queries"] == 270 // 5
    assert record["accuracy"] > 0.6


def test_hidden_rows_are_neither_asked_nor_found(tmp_path: Path, ready: Path, capsys: Capture) -> None:
    root = tmp_path / "root"
    shutil.copytree(ready, root)
    uri = (ready.parent / "rows.parquet").as_uri()
    assert hide.main(["--root", str(root), *(f"{uri}#{number}" for number in range(100, 300))]) == 0
    record = said(capsys, "--root", root, "-k", 150, "--nprobe", 4)
    assert record["queries"] == 50
    assert {point["recall"] for point in record["curve"]} == {1}


def test_the_same_command_again_finds_nothing_anew(
    tmp_path: Path, cache: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    text_root(tmp_path / "root")
    first = said(capsys, "--root", tmp_path / "root")
    (work,) = (cache / "pixdex" / "proofs").iterdir()
    files = {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()}
    monkeypatch.setattr("pipelines.running.destination.Destination.run", lambda *_: pytest.fail("a job runs"))
    assert without_times(said(capsys, "--root", tmp_path / "root")) == without_times(first)
    said(capsys, "--root", tmp_path / "root", "--nprobe", 3)  # other settings, of the same queries
    said(capsys, "--root", tmp_path / "root", "-k", 50)
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()} == files

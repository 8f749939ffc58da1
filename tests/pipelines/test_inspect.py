"""`pixdex inspect`: what a root holds, for people, for programs, and as a list of files."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import build, hide, inspect
from tests.roots import Row, make_root, unit
from transforms.generations import published
from transforms.markers import ShardMarker, StageMarker
from transforms.records import EncoderSettings, FileReference, IndexSettings, Plan, Request, Source
from transforms.runs import beginning
from transforms.shards.files import Reject, write_rejects
from transforms.storage import layout
from transforms.storage.store import Store

ROWS = (Row("a", unit(1)), Row("b", unit(2)), Row("a", unit(3), "text"), Row("a", unit(4), "keyword"))


def reject(key: str, kind: str, message: str) -> Reject:
    return Reject(key, f"file:///{key}", "stat:1", "image", 0, "decode", kind, message)


REJECTS = (
    reject("x", "OSError", "truncated"),
    reject("y", "ValueError", "no pixels"),
    reject("z", "ValueError", "no pixels"),
)


def said(capsys: pytest.CaptureFixture[str], root: Path) -> dict[str, Any]:
    assert inspect.main(["--root", str(root), "--json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return answer


def begin(root: Path) -> Request:
    request = Request(
        (Source("images", "file:///new"),), EncoderSettings("demo", "f" * 64, 2, ("image",)), IndexSettings()
    )
    beginning.begin(Store.at(str(root)), request)
    return request


def test_counts_are_those_of_the_generation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_root(tmp_path, ROWS, rejects=REJECTS)
    answer = said(capsys, tmp_path)
    assert (answer["items"], answer["embedded"], answer["rejected"], answer["vectors"]) == (5, 2, 3, 4)
    assert answer["by_modality"] == {"image": 2, "text": 1, "keyword": 1}
    assert (answer["shards"], answer["blocks"], answer["generations"]) == (1, 1, [1])


def test_rejects_are_counted_by_reason_most_common_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_root(tmp_path, ROWS, rejects=REJECTS)
    assert said(capsys, tmp_path)["reject_reasons"] == [
        {"count": 2, "stage": "decode", "type": "ValueError", "message": "no pixels"},
        {"count": 1, "stage": "decode", "type": "OSError", "message": "truncated"},
    ]


MISSING = tuple(
    Reject(
        f"file:///a {n}.png", f"file:///a {n}.png", "stat:1", "image", 0, "fetch", "FileNotFoundError",
        f"[Errno 2] No such file or directory: '/a {n}.png'",
    )
    for n in range(20)
)  # fmt: skip


def test_reasons_that_differ_by_a_path_alone_are_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_root(tmp_path, ROWS, rejects=(*REJECTS, *MISSING))
    answer = said(capsys, tmp_path)
    assert answer["reject_reasons"][0] == {
        "count": 20, "stage": "fetch", "type": "FileNotFoundError",
        "message": "[Errno 2] No such file or directory: <path>",
    }  # fmt: skip
    assert (len(answer["reject_reasons"]), answer["reject_reasons_left_out"]) == (3, 0)
    assert inspect.main(["--root", str(tmp_path)]) == 0
    assert "other reason" not in capsys.readouterr().out


def test_every_reject_is_listed_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_root(tmp_path, ROWS, rejects=(*REJECTS, reject("tab\there", "OSError", "two\nlines")))
    assert inspect.main(["--root", str(tmp_path), "--rejects"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "x\tdecode\tOSError\ttruncated\t1",
        "y\tdecode\tValueError\tno pixels\t1",
        "z\tdecode\tValueError\tno pixels\t1",
        "tab here\tdecode\tOSError\ttwo lines\t1",
    ]
    assert inspect.main(["--root", str(tmp_path), "--rejects", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    answer = json.loads(line)
    assert (answer["generation"], len(answer["rejects"])) == (1, 4)
    assert answer["rejects"][0] == {**asdict(REJECTS[0]), "generation": 1}


def test_rejects_of_an_unfinished_run_are_listed_after_those_of_the_generation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_root(tmp_path, ROWS, rejects=REJECTS)
    begin(tmp_path)
    file = write_rejects(store, 7, [reject("new", "OSError", "empty")])
    store.commit(layout.marker(2, "embed", 7), ShardMarker(7, 0, "", 1, 1, 0, 0, 0, 0, None, file, 0.0))
    assert inspect.main(["--root", str(tmp_path), "--rejects", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["generation"], answer["unfinished"]) == (1, 2)
    assert [(one["key"], one["generation"]) for one in answer["rejects"]] == [("x", 1), ("y", 1), ("z", 1), ("new", 2)]


def test_a_root_without_rejects_lists_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_root(tmp_path, ROWS)
    assert inspect.main(["--root", str(tmp_path), "--rejects"]) == 0
    assert capsys.readouterr().out == ""
    assert inspect.main(["--root", str(tmp_path), "--rejects", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"generation": 1, "unfinished": None, "rejects": []}


def test_bytes_are_those_on_the_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_root(tmp_path, ROWS, rejects=REJECTS)
    sizes = said(capsys, tmp_path)["bytes"]
    for kind, pattern in (("embeddings", "embeddings/*/*"), ("index", "index/*/*"), ("rejects", "rejects/*/*")):
        assert sizes[kind] == sum(file.stat().st_size for file in tmp_path.glob(pattern))


def test_files_are_printed_alone_one_a_line_and_are_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_root(tmp_path, ROWS, rejects=REJECTS)
    assert inspect.main(["--root", str(tmp_path), "--files"]) == 0
    paths = capsys.readouterr().out.splitlines()
    generation = published.current(store)
    assert generation is not None
    assert paths == published.files(store, generation)
    assert all((tmp_path / path).is_file() for path in paths)


def test_people_read_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_root(tmp_path, ROWS, rejects=REJECTS)
    assert inspect.main(["--root", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for text in ("5: 2 embedded, 3 rejected", "4: 2 image, 1 text, 1 keyword", "IVF1,Flat", "no pixels"):
        assert text in shown


def test_a_run_that_is_not_finished_shows_how_far_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_root(tmp_path, ROWS)
    request = begin(tmp_path)
    store.commit(
        layout.plan(2),
        Plan(2, "0" * 64, FileReference("p", 1, f"sha256:{0:064}"), 1, 5, 2, 100, 100, "IVF1,Flat"),
    )
    store.commit(layout.stage_marker(2, "plan"), StageMarker("plan", 1, 0.0))
    for shard in (1, 3):
        store.create(layout.marker(2, "embed", shard), b"{}")
    run = said(capsys, tmp_path)["unfinished"]
    assert (run["generation"], run["encoder"]) == (2, request.encoder.spec)
    assert run["stages"]["plan"] == {"done": 1, "planned": 1, "finished": True}
    assert run["stages"]["embed"] == {"done": 2, "planned": 5, "finished": False}
    assert run["stages"]["merge"] == {"done": 0, "planned": None, "finished": False}
    assert inspect.main(["--root", str(tmp_path)]) == 0
    assert "2 of 5" in capsys.readouterr().out


def test_a_first_build_under_way_can_be_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin(tmp_path)
    answer = said(capsys, tmp_path)
    assert "generation" not in answer
    assert answer["unfinished"]["generation"] == 1


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "--root is missing"),
        (["--root", "{}/nowhere"], "no such folder"),
        (["--root", "{}"], "pixdex build"),
        (["--root", "{}", "--files"], "pixdex build"),
        (["--root", "{}", "--files", "--json"], "give one of them"),
        (["--root", "{}", "--files", "--rejects"], "give one of them"),
        (["--root", "{}", "--rejects"], "pixdex build"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], words: str
) -> None:
    assert inspect.main([word.format(tmp_path) for word in argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert len(err.splitlines()) == 1


def test_a_plain_root_has_no_segments_no_assignment_and_nothing_ready(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_root(tmp_path, ROWS)
    answer = said(capsys, tmp_path)
    assert (answer["index"]["segments"], answer["index"]["assignment"]) == (0, None)
    assert answer["ready"] == {"shards": 0, "files": 0}


def test_ready_embeddings_are_counted_with_the_files_they_lie_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32))
    root = tmp_path / "root"
    assert build.main(["--root", str(root), "--vectors", str(tmp_path / "a.npy"), "--no-progress"]) == 0
    assert said(capsys, root)["ready"] == {"shards": 1, "files": 1}
    assert inspect.main(["--root", str(root)]) == 0
    shown = capsys.readouterr().out
    assert "1 shard of 1 file elsewhere" in shown
    assert "none: ready embeddings of 8 dimensions, normalised" in shown


def test_one_fault_on_many_lines_is_one_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_root(tmp_path, ROWS, rejects=[reject(str(line), "OSError", f"line {line}: truncated") for line in range(2, 9)])
    assert said(capsys, tmp_path)["reject_reasons"] == [
        {"count": 7, "stage": "decode", "type": "OSError", "message": "truncated"}
    ]


def test_hidden_keys_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_root(tmp_path, ROWS)
    assert said(capsys, tmp_path)["hidden"] == 0
    for keys, text in ((["a"], "1 key that no search returns"), (["b", "later"], "3 keys that no search returns")):
        assert inspect.main(["--root", str(tmp_path)]) == 0
        assert text not in capsys.readouterr().out
        assert hide.main(["--root", str(tmp_path), *keys]) == 0
        assert inspect.main(["--root", str(tmp_path)]) == 0
        assert text in capsys.readouterr().out
    assert said(capsys, tmp_path)["hidden"] == 3


def test_the_metric_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_root(tmp_path, ROWS, metric="l1")
    assert inspect.main(["--root", str(tmp_path)]) == 0
    assert "IVF1,Flat, L1, 1 list" in capsys.readouterr().out

"""`pixdex report`, and the report that each build and reindex leaves: what is on the page, and what it never is."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines import build, gc, hide, inspect, reindex, report, rollback, unhide, verify
from tests.end_to_end.builds import every_file, generation_of
from tests.pipelines.report.conftest import Told, said_by
from tests.pipelines.report.pages import HOSTILE, TINY, Page, last_line, value_at
from transforms.generations import published
from transforms.generations.manifest import Generation
from transforms.report import make, page, samples, thumbnails
from transforms.report.facts import Facts, RejectKind, gather
from transforms.report.make import Made
from transforms.runs.run import Run
from transforms.storage.store import Store

Capture = pytest.CaptureFixture[str]

CHANGES = {"rejected": "still_rejected"}
"""What a last line calls otherwise than a plan does."""


def expected(said: dict[str, Any], last: dict[str, Any], evaluation: dict[str, Any], of: str) -> Any:
    """What other commands say of a figure of a page."""
    first, _, rest = of.partition(".")
    if first in ("seconds", "spent"):
        return value_at(last, of)
    if first == "changes":
        return last[CHANGES.get(rest, rest)]
    if first in ("curve", "ndcg", "map", "mrr", "accuracy"):
        return value_at(evaluation, of)
    if first == "history":
        number, _, name = rest.partition(".")
        return next(past for past in said["history"] if past["generation"] == int(number))[name]
    return value_at(said, of)


def inspected(root: object) -> dict[str, Any]:
    return said_by(inspect.main, "--root", root, "--json")


def some_key(root: Path) -> str:
    return samples.samples_of(Store.at(str(root)), generation_of(root)).answered[0].asked.key


# --- numbers ---


def test_every_number_is_that_of_inspect_of_evaluate_and_of_the_last_line(told: Told) -> None:
    values, said = Page.at(told.page(2)).values, inspected(told.root)
    assert len(values) > 60
    kinds = {of.partition(".")[0] for of in values}
    assert kinds >= {
        "items", "vectors", "by_modality", "left_out", "reject_reasons", "deltas", "drift", "bytes", "seconds", "spent",
        "changes", "history", "curve", "index", "encoder", "tombstones",
    }  # fmt: skip
    wrong = {
        of: (shown, expected(said, told.reindex, told.evaluation, of))
        for of, every in values.items()
        for shown in every
        if float(shown) != pytest.approx(expected(said, told.reindex, told.evaluation, of), abs=1e-9)
    }
    assert not wrong


def test_every_stage_of_the_last_line_has_its_seconds(told: Told) -> None:
    for number, last in ((1, told.build), (2, told.reindex)):
        values = Page.at(told.page(number)).values
        shown = {of.partition(".")[2]: float(some[0]) for of, some in values.items() if of.startswith("seconds.")}
        assert shown == last["seconds"]


def test_a_tuned_generation_says_what_was_tuned(tuned: Path) -> None:
    assert said_by(report.main, "--root", tuned) == {"report": str(tuned / "reports/000003/index.html")}
    shown, said = Page.at(tuned / "reports/000003/index.html"), inspected(tuned)
    assert not {of for of in shown.values if of.startswith("seconds")}
    assert "published it anew" in shown.text
    for place, setting in enumerate(said["tuned"]["settings"]):
        for name in ("nprobe", "shortlist", "recall", "codes"):
            assert float(shown.values[f"tuned.settings.{place}.{name}"][0]) == setting[name]


def test_real_pictures_with_names_of_all_scripts_have_the_numbers_of_inspect(shared_data: Path, tmp_path: Path) -> None:
    csv = shared_data / "emoji" / "emoji.csv"
    words = ("--csv", csv, "--image-column", "image", "--text-column", "description", *TINY)
    last = said_by(build.main, "--root", tmp_path / "root", *words)
    shown, said = Page.at(tmp_path / "root/reports/000001/index.html"), inspected(tmp_path / "root")
    for of, every in shown.values.items():
        assert [float(value) for value in every] == pytest.approx([expected(said, last, {}, of)] * len(every))
    assert len([address for address in shown.loads if address.startswith("data:image/jpeg")]) > 20
    assert not shown.faults


# --- the page ---


def test_nothing_is_loaded_nothing_is_run_and_all_is_well_formed(told: Told) -> None:
    for number in (1, 2):
        text = told.page(number).read_text(encoding="utf-8")
        shown = Page.of(text)
        assert not shown.faults and not shown.handlers and "What could not be read" not in shown.text
        assert not shown.tags & {"script", "iframe", "object", "embed", "link", "base", "form", "b onclick"}
        assert all(address.startswith(("data:image/jpeg;base64,", "#")) for address in shown.loads)
        assert "default-src 'none'" in text
        assert len(text.encode()) <= page.MOST_BYTES


def test_what_comes_from_outside_is_text(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    every = samples.QUERIES
    monkeypatch.setattr(samples, "QUERIES", 200)  # so that each row is asked, the hostile one among them
    store = Store.at(str(told.root))
    generation = generation_of(told.root)
    facts = gather(store, generation, lambda: None)
    facts.unread.append((HOSTILE, HOSTILE))
    shown = Page.of(page.page(facts))
    assert every < 200
    assert not shown.faults and not shown.handlers
    assert "script" not in shown.tags and "<script>alert(1)</script>" in shown.text
    assert "{{ 7*7 }}" in shown.text
    assert "<b onclick=alert(3)>" in shown.text
    assert "ro <i>ot" in shown.text


def test_addresses_have_no_users_passwords_and_signatures(told: Told) -> None:
    address = "https://me:s3cret@example.org/rows.csv?signature=s3cret"
    facts = gather(Store.at(str(told.root)), generation_of(told.root), lambda: None)
    assert facts.samples is not None
    facts.root = "s3://me:s3cret@bucket/root"
    facts.said["sources"][0] |= {"pattern": address, "metadata": address}
    facts.said["reject_reasons"][0]["message"] = f"404 of {address}"
    facts.unread.append(("history", f"{address} cannot be read"))
    facts.rejects = (RejectKind("fetch", "OSError", ((f"{address}#1", address, f"404 of {address}"),)),)
    answered = facts.samples.answered[0]
    asked = replace(answered.asked, key=f"{address}#7", uri=address, shows=address, caption=None)
    facts.samples = replace(facts.samples, answered=(replace(answered, asked=asked),))
    text = page.page(facts)
    assert "s3cret" not in text
    assert "https://example.org/rows.csv#7" in text and "s3://bucket/root" in text


def test_the_same_file_is_told_from_what_is_near(told: Told) -> None:
    shown = Page.at(told.page(2)).text
    assert "same file" in shown


def test_equal_generations_draw_the_same(told: Told) -> None:
    store, generation = Store.at(str(told.root)), generation_of(told.root)
    assert samples.samples_of(store, generation) == samples.samples_of(store, generation)


def test_a_page_that_would_be_too_large_has_no_pictures(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    store, generation = Store.at(str(told.root)), generation_of(told.root)
    facts = gather(store, generation, lambda: None)
    full = page.page(facts)
    monkeypatch.setattr(page, "MOST_BYTES", len(full.encode()) - 1)
    small = Page.of(page.page(facts))
    assert not [address for address in small.loads if address.startswith("data:")]
    assert "no picture" in small.text


def test_no_picture_is_begun_when_its_time_is_over(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "_SECONDS", -1.0)
    store = Store.at(str(told.root))
    facts = gather(store, generation_of(told.root), lambda: None)
    assert facts.thumbnails and not [one for one in facts.thumbnails.values() if one.url]


def test_a_large_root_is_sampled_and_not_opened(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "LARGE", 10)
    monkeypatch.setattr("transforms.search.slices.open_index", lambda *_: pytest.fail("the index was opened"))
    monkeypatch.setattr("transforms.search.searcher.open_index", lambda *_: pytest.fail("the index was opened"))
    store, generation = Store.at(str(told.root)), generation_of(told.root)
    looked = samples.samples_of(store, generation)
    assert looked.within and looked.answered and looked.nearest is not None
    facts = gather(store, generation, lambda: None)
    assert "that were drawn, since the root is large" in Page.of(page.page(facts)).text


def test_hidden_items_are_on_no_page(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "QUERIES", 200)
    store = Store.at(str(root))
    before = samples.samples_of(store, generation_of(root))
    secret = before.answered[0].asked.key
    said_by(hide.main, "--root", root, secret)
    looked = samples.samples_of(store, generation_of(root))
    shown = {item.key for answer in looked.answered for item in (answer.asked, *(one for one, _ in answer.found))}
    assert looked.nearest is not None
    shown |= {item.key for pair in looked.nearest.pairs for item in (pair.one, pair.other)}
    assert secret not in shown


def test_what_is_hidden_stays_on_no_page_of_before(root: Path, capsys: Capture) -> None:
    key = some_key(root)
    hide.main(["--root", str(root), key])
    err = capsys.readouterr().err
    assert "2 reports may show them and went" in err
    assert not list(root.glob("reports/*/index.html")) and inspected(root)["report"] is None
    assert said_by(verify.main, "--root", root)["orphans"] == {"files": 0, "bytes": 0}
    said_by(report.main, "--root", root, "--generation", 2)
    values = Page.at(root / "reports/000002/index.html").values
    assert "seconds.embed" in values and "curve.0.recall" in values
    unhide.main(["--root", str(root), key])
    assert (root / "reports/000002/index.html").exists() and "dropped" not in capsys.readouterr().err


# --- the command ---


def test_a_copy_is_written_where_it_is_asked_for(root: Path, tmp_path: Path) -> None:
    said = said_by(report.main, "--root", root, "--generation", 1, "--output", tmp_path / "copy.html")
    assert said == {"report": str(root / "reports/000001/index.html")}
    assert (tmp_path / "copy.html").read_bytes() == (root / "reports/000001/index.html").read_bytes()


def test_a_root_that_cannot_be_written_has_its_report_in_the_copy(root: Path, tmp_path: Path, capsys: Capture) -> None:
    shutil.rmtree(root / "reports")
    (root / "reports").write_bytes(b"no folder")  # also a user who may do anything cannot write below it
    copy = tmp_path / "copy.html"
    assert report.main(["--root", str(root), "--output", str(copy)]) == 0
    out, err = capsys.readouterr()
    assert last_line(out) == {"report": str(copy)}
    assert "cannot be written" in err and len(err.splitlines()) == 1
    assert Page.at(copy).values["generation"] == ["2"]
    assert report.main(["--root", str(root)]) != 0


def test_an_evaluation_stays_for_later_reports(root: Path) -> None:
    said_by(report.main, "--root", root)
    assert "curve.0.recall" in Page.at(root / "reports/000002/index.html").values
    infos = json.loads((root / "reports/000002/index_infos.json").read_text())
    assert {"index_key", "nb vectors", "vectors dimension", "size in bytes", "compression ratio"} <= set(infos)
    assert infos["nb vectors"] == generation_of(root).totals.vectors


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--generation", "9"), "no generation 9"),
        (("--evaluation", "{}/nowhere"), "cannot be read"),
        (("--evaluation", "{}/odd.json"), "is no evaluation"),
        (("--generation", "1", "--evaluation", "{told}"), "is of generation 2"),
        (("--output", "{}"), "is a folder"),
        (("--output", "s3://bucket/report.html"), "a copy is a file of this machine"),
        (("--output", "{}/no/such/folder.html"), "cannot be written"),
        (("--outptu", "x"), "did you mean --output"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    root: Path, told: Told, tmp_path: Path, capsys: Capture, words: tuple[str, ...], why: str
) -> None:
    (tmp_path / "odd.json").write_text('{"generation": "x"}')
    given = [word.format(tmp_path, told=told.evaluated) for word in words]
    assert report.main(["--root", str(root), *given]) == 2
    out, err = capsys.readouterr()
    assert out == "" and why in err and len(err.splitlines()) == 1


def test_a_root_without_a_generation_has_no_report(tmp_path: Path, capsys: Capture) -> None:
    assert report.main(["--root", str(tmp_path)]) == 2
    assert "pixdex build" in capsys.readouterr().err


def test_what_is_damaged_is_said_and_the_rest_is_there(root: Path) -> None:
    for file in root.glob("trained/*/training.json"):
        file.write_bytes(b"{}")
    said_by(report.main, "--root", root)
    shown = Page.at(root / "reports/000002/index.html")
    assert "What could not be read" in shown.text and "training.json" in shown.text
    assert "items" in shown.values and not shown.faults


# --- beside a run ---


def test_a_report_that_fails_fails_no_build(
    tmp_path: Path, capsys: Capture, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no room\nfor it")

    monkeypatch.setattr(make, "gather", broken)
    (tmp_path / "rows.csv").write_text("text\none\ntwo\n")
    words = ["--root", str(tmp_path / "root"), "--csv", str(tmp_path / "rows.csv"), "--text-column", "text", *TINY]
    assert build.main(words) == 0
    assert last_line(capsys.readouterr().out)["vectors"] == 2
    assert not (tmp_path / "root" / "reports").exists()
    (record,) = [one for one in caplog.records if "no report" in one.getMessage()]
    assert record.getMessage() == "no report of generation 1: no room for it; make it with: pixdex report"


def test_a_report_is_tried_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Generation] = []

    def noted(_: Store, generation: Generation, **__: object) -> Made:
        made.append(generation)
        return Made(generation.generation, "", b"")

    monkeypatch.setattr(make, "make", noted)
    (root.parent / "extra.csv").write_text("x")
    run = Run(Store.at(str(root)), 2)
    (root / "plans/000002/attempts/report").unlink()
    make.after(run, 0.0)
    make.after(run, 0.0)
    assert [one.generation for one in made] == [2]


def test_a_night_with_nothing_to_do_makes_none(root: Path) -> None:
    before = {path for path in every_file(root) if path.startswith("reports/")}
    said_by(reindex.main, "--root", root, "--no-progress")
    assert {path for path in every_file(root) if path.startswith("reports/")} == before


def test_a_build_makes_none_that_is_asked_not_to(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text\none\ntwo\n")
    words = ("--csv", tmp_path / "rows.csv", "--text-column", "text", *TINY, "--no-report")
    said_by(build.main, "--root", tmp_path / "root", *words)
    assert not (tmp_path / "root" / "reports").exists()
    assert inspected(tmp_path / "root")["report"] is None


def test_inspect_names_it_and_a_generation_does_not_need_it(told: Told, capsys: Capture) -> None:
    assert inspected(told.root)["report"] == "reports/000002/index.html"
    assert inspect.main(["--root", str(told.root)]) == 0
    assert "reports/000002/index.html" in capsys.readouterr().out
    needed = published.files(Store.at(str(told.root)), generation_of(told.root))
    assert not [path for path in needed if path.startswith("reports/")]


def test_gc_drops_a_report_with_its_generation_and_verify_takes_none_for_an_orphan(root: Path) -> None:
    assert said_by(verify.main, "--root", root)["orphans"]["files"] == 0
    said_by(gc.main, "--root", root, "--keep", 1, "--older-than", "0s")
    assert [path.name for path in (root / "reports").iterdir()] == ["000002"]
    assert said_by(verify.main, "--root", root)["orphans"] == {"files": 0, "bytes": 0}


def test_seconds_outlive_the_markers_that_gc_drops(root: Path, told: Told) -> None:
    said_by(gc.main, "--root", root, "--keep", 1, "--older-than", "0s")
    said_by(report.main, "--root", root)
    values = Page.at(root / "reports/000002/index.html").values
    assert float(values["seconds.embed"][0]) == told.reindex["seconds"]["embed"]
    shutil.rmtree(root / "reports")
    said_by(report.main, "--root", root)
    shown = Page.at(root / "reports/000002/index.html")
    assert "seconds.embed" not in shown.values and "pixdex gc has dropped" in shown.text


def test_a_rollback_has_a_report_when_one_is_asked_for(root: Path) -> None:
    said_by(rollback.main, "--root", root, "--to", 1)
    assert not (root / "reports/000003").exists()
    said_by(report.main, "--root", root)
    assert int(Page.at(root / "reports/000003/index.html").values["generation"][0]) == 3


def test_a_root_that_is_no_folder_has_one_at_a_url(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text\n" + "".join(f"words {number}\n" for number in range(30)))
    root = f"memory://{tmp_path.name}/root"
    said_by(build.main, "--root", root, "--csv", tmp_path / "rows.csv", "--text-column", "text", *TINY)
    assert inspected(root)["report"] == "reports/000001/index.html"
    assert said_by(report.main, "--root", root) == {"report": f"{root}/reports/000001/index.html"}
    shown = Page.of(Store.at(root).read("reports/000001/index.html").decode())
    assert "What could not be read" not in shown.text and "seconds.embed" in shown.values
    assert shown.text.count("Text → texts") == samples.QUERIES


def test_facts_are_those_of_the_generation_that_is_asked_for(told: Told) -> None:
    store = Store.at(str(told.root))
    facts: Facts = gather(store, published.open_generation(store, 1), lambda: None)
    assert [past.generation for past in facts.history] == [1]
    assert facts.lists is not None and facts.lists.both.codes == facts.generation.totals.vectors

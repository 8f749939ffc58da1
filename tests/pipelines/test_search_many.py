"""`pixdex search` with several queries, and what is shown of results."""

import json
from pathlib import Path

import PIL.Image
import pytest

from pipelines import search
from tests.pipelines.test_search import compass_root, refused, vector_file
from tests.roots import Row, unit


def answers(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, list[str]]:
    """The keys that several queries find."""
    assert search.main([*argv, "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(said) == {"generation", "queries"}
    return {one["query"]: [result["key"] for result in one["results"]] for one in said["queries"]}


def test_texts_in_quotation_marks_are_a_query_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = compass_root(tmp_path)
    assert answers(capsys, "--root", root, "north", "some where") == {"north": ["n", "e"], "some where": ["e", "n"]}


def test_texts_pictures_and_a_file_of_texts_are_answered_in_this_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = [str(tmp_path / "red.png"), str(tmp_path / "blue.png")]
    for picture, colour in zip(pictures, ("red", "blue"), strict=True):
        PIL.Image.new("RGB", (9, 7), colour).save(picture)
    (tmp_path / "texts.txt").write_text("\ufeffeast\n\nnorth of\n", encoding="utf-8")
    images = [word for picture in pictures for word in ("--image", picture)]
    argv = ["--root", compass_root(tmp_path / "root"), *images, "--queries", str(tmp_path / "texts.txt"), "north"]
    assert list(answers(capsys, *argv).items()) == [
        ("north", ["n", "e"]), ("east", ["e", "n"]), ("north of", ["e", "n"]),
        (pictures[0], ["e", "n"]), (pictures[1], ["n", "e"]),
    ]  # fmt: skip


def test_a_file_of_vectors_has_a_query_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = vector_file(tmp_path, [unit(0), unit(90)])
    found_by = answers(capsys, "--root", compass_root(tmp_path), "--vector", file)
    assert found_by == {f"{file}, row 0": ["words", "e", "n"], f"{file}, row 1": ["n", "e", "words"]}


def test_each_of_several_queries_stands_above_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert search.main(["--root", compass_root(tmp_path), "some where", "north", "-k", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "some where" and lines[lines.index("north") - 1] == ""
    assert sum(line.startswith("rank") for line in lines) == 2


@pytest.mark.parametrize("content", [None, b"", b"\n \n", b"\xff\xfe"])
def test_a_file_without_texts_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    file = tmp_path / "texts.txt"
    if content is not None:
        file.write_bytes(content)
    assert f"--queries {file}" in refused(capsys, "--root", compass_root(tmp_path / "root"), "--queries", str(file))


def test_columns_choose_what_table_and_page_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = Row("e", unit(1), columns={"name": "circle", "price": "0", "colour": None, "maker": "Kim"})
    argv = ["--root", compass_root(tmp_path / "root", row), "east", "--html", str(tmp_path / "page.html")]
    assert search.main([*argv, "--columns", "price, maker,colour"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["rank", "score", "price", "maker", "uri"]
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "price: 0" in page and "maker: Kim" in page and "colour" not in page.partition("<body>")[2]


def test_a_column_that_no_row_has_is_refused_with_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = compass_root(tmp_path)
    for more in ([], ["--json"], ["--html", str(tmp_path / "page.html")]):
        said = refused(capsys, "--root", root, "east", "--columns", "group,nme", *more)
        assert "has no column nme; did you mean name?" in said
    assert search.main(["--root", root, "east", "--columns", "name"]) == 0


@pytest.mark.parametrize("name", ["nope.png", "nope/nope.png", "there.png/nope.png", "leads-nowhere.png"])
def test_a_picture_that_is_not_there_is_told_before_an_encoder_is_opened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    root = compass_root(tmp_path / "root")
    PIL.Image.new("RGB", (9, 7), "blue").save(tmp_path / "there.png")
    (tmp_path / "leads-nowhere.png").symlink_to(tmp_path / "gone.png")
    monkeypatch.setattr("transforms.tasks.embed.open_encoder.open_encoder", None)
    said = refused(capsys, "--root", root, "--image", str(tmp_path / "there.png"), "--image", str(tmp_path / name))
    assert said.endswith(f"--image: there is no file {tmp_path / name}")


def test_the_page_calls_a_vector_a_vector(tmp_path: Path) -> None:
    file, page = vector_file(tmp_path, unit(0)), tmp_path / "page.html"
    assert search.main(["--root", compass_root(tmp_path / "root"), "--vector", file, "--html", str(page)]) == 0
    assert '<p class="kind">Vector</p>' in page.read_text(encoding="utf-8")


def test_a_file_of_one_text_is_answered_as_one_of_several(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "texts.txt").write_text("north \x0b\x1b[31m of\r\n", encoding="utf-8", newline="")
    argv = ["--root", compass_root(tmp_path / "root"), "--queries", str(tmp_path / "texts.txt")]
    assert len(answers(capsys, *argv)) == 1
    assert search.main([*argv, "east"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_an_empty_name_hides_no_caption(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = Row("e", unit(1), caption="a cat", columns={"name": ""})
    assert search.main(["--root", compass_root(tmp_path, row), "east"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["rank", "score", "caption", "uri"]


def test_explain_says_what_was_done_for_the_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--root", compass_root(tmp_path), "north", "some where", "--explain"]
    assert search.main([*argv, "--json"]) == 0
    explain = json.loads(capsys.readouterr().out.splitlines()[-1])["explain"]
    assert set(explain) == {"looks", "lists", "codes", "vectors", "milliseconds"}
    assert explain["looks"] >= 1 and explain["lists"] >= 2 and explain["codes"] >= 2
    assert {"open", "encode", "scan", "rank", "metadata"} <= set(explain["milliseconds"])
    assert search.main(argv) == 0
    said = capsys.readouterr()
    assert "codes scanned" in said.err and "codes scanned" not in said.out

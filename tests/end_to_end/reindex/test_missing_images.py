"""A row whose picture is missing keeps its text where that is asked for, and gets its picture when it comes."""

import json
from pathlib import Path

import pytest

import pixdex
from pipelines import build, reindex, verify
from tests.corpora import write_csv, write_pictures
from tests.end_to_end.builds import TINY, make_work_small
from transforms.records import Modality

Capture = pytest.CaptureFixture[str]
COLUMNS = (
    "--image-column",
    "image",
    "--text-column",
    "description",
    "--keyword-column",
    "words",
    "--key-column",
    "name",
)


def last_line(capsys: Capture) -> dict[str, object]:
    line: dict[str, object] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return line


def shown(root: Path, text: str, modality: Modality) -> list[tuple[str, str | None]]:
    with pixdex.open(root, encoder=TINY[1]) as opened:
        hits = opened.search(text, k=200, modality=modality, nprobe=64)
    return sorted((hit.key.rpartition("#")[2], hit.caption) for hit in hits)


def test_texts_stay_and_pictures_come(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    make_work_small(monkeypatch)
    pictures = write_pictures(tmp_path / "pictures", 40)
    rows, root = write_csv(tmp_path / "rows.csv", pictures), tmp_path / "root"
    gone, broken = pictures[3].read_bytes(), pictures[5]
    pictures[3].unlink()
    broken.write_bytes(b"no picture")
    words = ("--csv", str(rows), *COLUMNS, *TINY[:2], "--missing-image", "text")
    assert build.main(["--root", str(root), *words]) == 0
    captured = capsys.readouterr()
    line = json.loads(captured.out.splitlines()[-1])
    assert line["without_picture"] == 1 and "whose texts stay: 1\n" in captured.err
    assert (line["items"], line["embedded"], line["rejected"]) == (40, 39, 1)  # what is there and broken is rejected
    assert line["vectors"] == 38 + 39 + 39 * 2
    assert verify.main(["--root", str(root)]) == 0
    assert ("name 3", "text 3") in shown(root, "text 3", "text")
    assert "name 3" not in {key for key, _ in shown(root, "text 3", "image")}
    capsys.readouterr()

    nothing = ("--root", str(root), "--encoder", TINY[1], "--no-progress")
    assert reindex.main([*nothing]) == 0
    assert last_line(capsys)["embedded"] == 0
    assert reindex.main([*nothing, "--retry-rejects"]) == 0
    line = last_line(capsys)
    assert (line["generation"], line["retried"], line["embedded"]) == (1, 2, 0)  # neither came: nothing is published
    rows.write_text(rows.read_text().replace(",g0,", ",g9,"))  # of row 3, too: only metadata changes
    assert reindex.main([*nothing]) == 0
    line = last_line(capsys)
    assert line["vectors"] == 38 + 39 + 39 * 2 and line["rejected"] == 1
    pictures[3].write_bytes(gone)
    assert reindex.main([*nothing]) == 0
    line = last_line(capsys)
    assert (line["changed"], line["vectors"]) == (1, 39 + 39 + 39 * 2) and "without_picture" not in line
    assert "name 3" in {key for key, _ in shown(root, "text 3", "image")}
    assert verify.main(["--root", str(root)]) == 0


@pytest.mark.parametrize("columns", [COLUMNS[:2], COLUMNS[2:4]])
def test_it_is_about_rows_with_both(tmp_path: Path, columns: tuple[str, ...], capsys: Capture) -> None:
    rows = write_csv(tmp_path / "rows.csv", write_pictures(tmp_path / "pictures", 3))
    words = ("--csv", str(rows), *columns, *TINY, "--missing-image", "text")
    assert build.main(["--root", str(tmp_path / "root"), *words]) == 2
    assert "--missing-image text is about rows with a picture and a text" in capsys.readouterr().err


def test_pictures_that_are_all_missing_stop_a_run_as_rejects_do(tmp_path: Path, capsys: Capture) -> None:
    rows = write_csv(tmp_path / "rows.csv", pictures := write_pictures(tmp_path / "pictures", 5))
    for picture in pictures:
        picture.unlink()
    words = ("--root", str(tmp_path / "root"), "--csv", str(rows), *COLUMNS, *TINY, "--missing-image", "text")
    assert build.main([*words]) == 1
    assert (
        "5 of 5 items were rejected or lost their pictures, more than --max-reject-ratio 0.5" in capsys.readouterr().err
    )
    assert build.main([*words, "--max-reject-ratio", "1"]) == 0
    assert last_line(capsys)["without_picture"] == 5


def test_a_row_of_a_list_without_a_url_keeps_its_text(tmp_path: Path, capsys: Capture) -> None:
    (picture,) = write_pictures(tmp_path / "pictures", 1)
    (tmp_path / "urls.csv").write_text(f"url,caption\n{picture.as_uri()},one\nno url,two\n,three\n")
    words = ("--urls", str(tmp_path / "urls.csv"), "--text-column", "caption", *TINY)
    assert build.main(["--root", str(tmp_path / "kept"), *words, "--missing-image", "text"]) == 0
    line = last_line(capsys)
    assert (line["embedded"], line["rejected"], line["vectors"]) == (3, 0, 4)
    assert build.main(["--root", str(tmp_path / "rejected"), *words]) == 0
    line = last_line(capsys)
    assert (line["embedded"], line["rejected"], line["vectors"]) == (2, 1, 3)

"""A picture that several rows name is one result, with all that they say of it."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import pixdex
from pipelines import build, evaluate, hide, reindex, search
from tests.corpora import write_pictures
from tests.end_to_end.builds import TINY, make_work_small

Capture = pytest.CaptureFixture[str]
CAPTIONS, PICTURES = 5, 20


def caption(picture: int, number: int) -> str:
    return f"text {number} of {picture}"


def picture_of(folder: Path, number: int) -> Path:
    return next((folder / "pictures").glob(f"*p{number:04d}.png"))


def write_rows(file: Path, order: list[tuple[int, int]]) -> Path:
    """A CSV with captions of pictures, in an order, and a row that has no picture."""
    names = [path.name for path in write_pictures(file.parent / "pictures", PICTURES)]
    with file.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["image", "caption"])
        rows.writerows([f"pictures/{names[picture]}", caption(picture, number)] for picture, number in order)
        rows.writerow(["", "without"])
    return file


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs with five captions each, one after the other."""
    # A folder whose name has two spellings in Unicode: a row of its file is no picture, however that is spelled.
    folder = tmp_path_factory.mktemp("a\u0308")
    rows = write_rows(folder / "rows.csv", [(picture, each) for picture in range(PICTURES) for each in range(CAPTIONS)])
    sources = ("--csv", str(rows), "--image-column", "image", "--text-column", "caption")
    assert build.main(["--root", str(folder / "root"), *sources, *TINY, "--no-progress"]) == 0
    return folder / "root"


def test_a_picture_is_shown_once_with_all_its_captions(root: Path) -> None:
    with pixdex.open(root, encoder=TINY[1]) as opened:
        hits = opened.search(image=picture_of(root.parent, 3), k=PICTURES)
    assert len({hit.uri for hit in hits}) == len(hits) == PICTURES
    for hit in hits:
        number = int(Path(hit.uri).stem[-4:])
        assert hit.captions == tuple(caption(number, each) for each in range(CAPTIONS))


def test_what_is_hidden_or_gone_is_no_caption(tmp_path: Path) -> None:
    rows, index = write_rows(tmp_path / "rows.csv", [(0, each) for each in range(CAPTIONS)]), str(tmp_path / "root")
    columns = ("--image-column", "image", "--text-column", "caption", "--key-column", "caption")
    assert build.main(["--root", index, "--csv", str(rows), *columns, *TINY]) == 0
    assert hide.main(["--root", index, f"{rows.as_uri()}#{caption(0, 1)}"]) == 0
    rows.write_text(rows.read_text().replace(caption(0, 3), "new words"))
    assert reindex.main(["--root", index, "--no-progress", "--encoder", TINY[1]]) == 0
    with pixdex.open(index, encoder=TINY[1]) as opened:
        (hit,) = opened.search(image=picture_of(tmp_path, 0), k=9)
    assert set(hit.captions) == {caption(0, each) for each in (0, 2, 4)}


def test_of_texts_each_picture_once_and_rows_without_one_each(root: Path) -> None:
    with pixdex.open(root, encoder=TINY[1]) as opened:
        hits = opened.search("without", k=200, modality="text")
        rows = opened.search("without", k=200, modality="text", group_by="id")
    assert len(hits) == PICTURES + 1 and len(rows) == PICTURES * CAPTIONS + 1
    assert [hit.captions for hit in hits if hit.caption == "without"] == [()]


def test_rows_that_are_apart_show_their_picture_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_work_small(monkeypatch)
    order = [(picture, each) for each in range(CAPTIONS) for picture in range(PICTURES)]
    sources = ("--csv", str(write_rows(tmp_path / "rows.csv", order)), "--image-column", "image")
    index = ("--index-key", "IVF2,SQ8")
    assert build.main(["--root", str(tmp_path / "root"), *sources, *index, *TINY, "--no-progress"]) == 0
    with pixdex.open(tmp_path / "root", encoder=TINY[1]) as opened:
        for k in (1, 7, PICTURES, 200):
            hits = opened.search(image=picture_of(tmp_path, 11), k=k, nprobe=2)
            assert len({hit.uri for hit in hits}) == len(hits) == min(k, PICTURES)
            assert hits[0].uri.endswith("p0011.png")


def test_the_page_has_one_picture_with_its_captions(root: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    query = str(picture_of(root.parent, 3))
    assert search.main(["--root", str(root), "--image", query, "-k", "1", "--html", str(page), *TINY[:2]]) == 0
    text = page.read_text()
    assert text.count("<li") == 1 and all(caption(3, each) in text for each in range(CAPTIONS))


def test_an_evaluation_counts_pictures(root: Path, tmp_path: Path, capsys: Capture) -> None:
    words = ("--num-queries", "10", "--nprobe", "1", "--work", str(tmp_path / "work"), "--no-progress", *TINY[:2])
    assert evaluate.main(["--root", str(root), *words]) == 0
    curve = json.loads(capsys.readouterr().out.splitlines()[-1])["curve"]
    assert np.allclose([point["recall"] for point in curve], 1)  # of a flat index

"""What an export holds is found again by a build of it: the same rows, with the same scores."""

import shlex
from pathlib import Path

import pytest

from pipelines import build
from tests.pipelines.export.exports import Capture, changed_root, exported
from tests.transforms.clip_folders import write_part
from tests.transforms.export.exported import QUERIES, assert_same, by_pixdex
from transforms.records import Modality
from transforms.search.hits import Hit
from transforms.search.rules import ID, Rules
from transforms.search.searcher import Searcher
from transforms.storage.store import Store

AGAIN = ("--index-key", "Flat", "--no-progress", "--no-normalize")
"""Vectors stay what they are, to the bit; they are one long already, but for float16's rounding."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return changed_root(tmp_path_factory.mktemp("changed"), "Flat")


def found_again(root: Path, ids: dict[str, str], modality: Modality) -> list[dict[int, float]]:
    """What queries find in a root of an export, by the ids of the root that was exported.

    `ids` has the column with these, by modality.
    """
    searcher = Searcher.open(Store.at(str(root)))
    found = searcher.search(QUERIES, 10, modality=modality, rules=Rules(group_by=ID))

    def id_of(hit: Hit) -> int:
        named = hit.columns[ids[hit.modality]]
        return int(hit.columns["pixdex_id"] if named is None else named)

    return [{id_of(hit): hit.score for hit in hits} for hits in found]


def test_clip_retrieval_of_pairs_pictures_and_texts(
    root: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    capsys.readouterr()
    assert exported(root, "clip-retrieval", tmp_path / "out", "--rows-per-file", "25") == 0
    note = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("note: "))
    monkeypatch.chdir(tmp_path / "out")
    words = shlex.split(note.partition("pixdex build ")[2])
    assert build.main(["--root", str(tmp_path / "again"), *words, *AGAIN]) == 0
    ids = {"image": "pixdex_id", "text": "pixdex_text_id"}
    for modality in ("image", "text"):
        assert_same(found_again(tmp_path / "again", ids, modality), by_pixdex(Store.at(str(root)), 10, modality))
    hits = Searcher.open(Store.at(str(tmp_path / "again"))).search(QUERIES, 3, modality="image")
    before = Searcher.open(Store.at(str(root))).search(QUERIES, 3, modality="image")
    for mine, theirs in zip(hits, before, strict=True):
        assert [(hit.uri, hit.caption) for hit in mine if Path(hit.uri.removeprefix("file://")).is_file()]
        assert {hit.caption for hit in mine} == {hit.caption for hit in theirs}


def test_clip_retrieval_of_pairs_alone_is_taken_in_by_its_name(tmp_path: Path) -> None:
    write_part(tmp_path / "vectors", 0, 70)
    words = ("--index-key", "Flat", "--no-progress")
    assert build.main(["--root", str(tmp_path / "root"), "--vectors", str(tmp_path / "vectors"), *words]) == 0
    assert exported(tmp_path / "root", "clip-retrieval", tmp_path / "out", "--rows-per-file", "32") == 0
    assert build.main(["--root", str(tmp_path / "again"), "--vectors", str(tmp_path / "out"), *words]) == 0
    ids = {"image": "pixdex_id", "text": "pixdex_text_id"}
    for modality in ("image", "text"):
        once = by_pixdex(Store.at(str(tmp_path / "root")), 10, modality)
        assert_same(found_again(tmp_path / "again", ids, modality), once)


def test_parquet(root: Path, tmp_path: Path) -> None:
    assert exported(root, "parquet", tmp_path / "out", "--rows-per-file", "32") == 0
    words = [
        word
        for kind in ("image", "text")
        for word in ("--vectors", str(tmp_path / f"out/{kind}-*.parquet"), "--modality", kind)
    ]
    assert build.main(["--root", str(tmp_path / "again"), *words, "--uri-column", "uri", *AGAIN]) == 0
    ids = {"image": "source_id", "text": "source_id"}
    for modality in ("image", "text"):
        assert_same(found_again(tmp_path / "again", ids, modality), by_pixdex(Store.at(str(root)), 10, modality))

"""Real pictures and texts through the shipped demo encoder: 1,609 emoji."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from tests.end_to_end.builds import Finished, generation_of, leftovers, run_apart
from transforms.search.searcher import Searcher
from transforms.storage.store import Store

pytestmark = pytest.mark.gate

SMILE = "emoji_u1f600.png"
FAMILY = "emoji_u1f46a.png"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("emoji") / "root"


@pytest.fixture(scope="module")
def built(root: Path, shared_data: Path) -> Finished:
    done = run_apart(
        "--root", root, "--csv", shared_data / "emoji" / "emoji.csv", "--image-column", "image",
        "--text-column", "description", "--encoder", "demo", timeout=240,
    )  # fmt: skip
    assert done.code == 0, done.err
    return done


@pytest.fixture(scope="module")
def shards(built: Finished, root: Path) -> list[dict[str, Any]]:
    return [row for path in (root / "embeddings").rglob("*.parquet") for row in pq.read_table(path).to_pylist()]


@pytest.fixture(scope="module")
def searcher(built: Finished, root: Path) -> Searcher:
    return Searcher.open(Store.at(str(root)))


def vector_of(shards: list[dict[str, Any]], picture: str) -> NDArray[np.float32]:
    (row,) = [row for row in shards if row["modality"] == "image" and row["uri"].endswith("/" + picture)]
    return np.array([row["embedding"]], np.float32)


def test_every_row_is_an_item_with_two_vectors(built: Finished, root: Path) -> None:
    said = built.said
    assert (said["items"], said["embedded"], said["rejected"], said["vectors"]) == (1609, 1609, 0, 3218)
    totals = generation_of(root).totals
    assert (totals.images, totals.texts, totals.keywords) == (1609, 1609, 0)
    assert leftovers(root) == []


def test_each_stage_says_on_one_line_that_it_is_done(built: Finished) -> None:
    stages = [line.split()[0] for line in built.err if " 100 %" in line]
    assert stages == ["plan", "embed", "keys", "train", "add", "merge", "publish"]


def test_parquet_holds_unit_vectors_and_the_columns_of_the_csv(shards: list[dict[str, Any]], shared_data: Path) -> None:
    assert len(shards) == 3218
    vectors = np.array([row["embedding"] for row in shards])
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 2e-3
    with (shared_data / "emoji" / "emoji.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    stored = [row for row in shards if row["modality"] == "image"]
    for name in ("image", "name", "group", "description", "emoji"):
        assert [row[name] for row in stored] == [row[name] for row in rows]
    assert {(row["width"], row["height"]) for row in stored} == {(128, 128)}


def test_a_picture_finds_itself_first(searcher: Searcher, shards: list[dict[str, Any]]) -> None:
    first = searcher.search(vector_of(shards, SMILE), 10, modality="image")[0][0]
    assert first.uri.endswith("/" + SMILE)
    assert first.score == pytest.approx(1, abs=1e-3)
    assert (first.columns["name"], first.columns["group"]) == ("grinning face", "Smileys & Emotion")


def test_two_identical_pictures_share_the_top(searcher: Searcher, shards: list[dict[str, Any]]) -> None:
    one, other, third = searcher.search(vector_of(shards, FAMILY), 3, modality="image")[0]
    assert one.score == other.score == pytest.approx(1, abs=1e-3)
    assert third.score < one.score
    assert FAMILY in {Path(one.uri).name, Path(other.uri).name} and one.uri != other.uri
    assert Path(one.uri.removeprefix("file://")).read_bytes() == Path(other.uri.removeprefix("file://")).read_bytes()

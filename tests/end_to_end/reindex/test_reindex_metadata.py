"""Nights on which only metadata changed, or a part of what is embedded: vectors that are there are not made again."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import build, verify
from tests.end_to_end import recording_encoder, reindexing
from tests.end_to_end.reindexing import picture
from transforms.generations import tables
from transforms.search.searcher import Searcher
from transforms.storage.store import Store
from transforms.tasks.embed import shard
from transforms.tasks.embed.inside import PicturesInside

ROWS, BATCH = 30, 8
ENCODER = ("--encoder", "tests.end_to_end.recording_encoder:RecordingEncoder", "--encoder-threads", "1")
KEY = ("--key-column", "key")
COLUMNS = (
    "--image-column",
    "image",
    "--text-column",
    "text",
    "--keyword-column",
    "words",
    "--keyword-separator",
    "|",
    *KEY,
)


class Shop:
    """Rows with a picture, a text, two keywords and a price, their index, and what was encoded for it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.root, self._encoded = folder, folder / "root", folder / "encoded"
        self.texts = [f"text {number}" for number in range(ROWS)]
        self.prices = [float(number) for number in range(ROWS)]
        (folder / "pictures").mkdir()
        for number in range(ROWS):
            (folder / "pictures" / f"{number}.png").write_bytes(picture(number))
        monkeypatch.setenv(recording_encoder.FOLDER, str(self._encoded))
        self.write()
        flags = ("--encoder-batch", str(BATCH), "--index-key", "IVF2,PQ4x4", "--no-progress")
        source = ("--csv", str(folder / "rows.csv"), *COLUMNS)
        assert build.main(["--root", str(self.root), *source, *ENCODER, *flags]) == 0

    def write(self) -> None:
        """Brings the CSV up to date; what is encoded from now on counts."""
        lines = [
            f"{number},{text},w{number}|all,pictures/{number}.png,{price}"
            for number, (text, price) in enumerate(zip(self.texts, self.prices, strict=True))
        ]
        (self.folder / "rows.csv").write_text("\n".join(["key,text,words,image,price", *lines, ""]))
        self._encoded.mkdir(exist_ok=True)
        for file in self._encoded.glob("*.rows"):
            file.unlink()

    @property
    def encoded(self) -> int:
        """Rows that were encoded, with those that fill up a batch."""
        return sum(recording_encoder.rows_by_process(self._encoded).values())

    def found(self) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, str]]:
        """The vector of every row, and the price of every key; all by search."""
        searcher = Searcher.open(Store.at(str(self.root)))
        hits = searcher.search(reindexing.QUERIES[:1], 10 * ROWS, searcher.generation.trained.nlist)[0]
        rows = [
            hit
            for kind in ("image", "text", "keyword")
            for hit in searcher.search(reindexing.QUERIES[:1], 10 * ROWS, 2, kind)[0]
        ]
        vectors = searcher.stored.all(np.array([hit.id for hit in rows]))
        named = {f"{hit.key} {hit.modality}": vector for hit, vector in zip(rows, vectors, strict=True)}
        return named, {hit.key.rpartition("#")[2]: hit.columns["price"] for hit in hits}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    return Shop(tmp_path, monkeypatch)


def night(shop: Shop, capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, Any]:
    capsys.readouterr()
    assert reindexing.run(shop.root, *flags) == 0
    record: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return record


def test_new_prices_of_all_rows_embed_nothing_and_are_no_drift(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    assert shop.encoded
    before, _ = shop.found()
    for add in (100, 200):  # also of rows whose vectors were carried once
        shop.prices = [price + add for price in shop.prices]
        shop.write()
        said = night(shop, capsys)
        assert said["changed"] == said["carried"] == ROWS
        assert shop.encoded == 0
        after, prices = shop.found()
        assert prices == {str(number): str(price) for number, price in enumerate(shop.prices)}
        assert before.keys() == after.keys() and all((before[name] == after[name]).all() for name in before)
        drift = reindexing.generation_of(shop.root).drift
        assert drift is not None and (drift.new_rows, drift.residual) == (0, None)
        assert said["embedded"] == 0
    assert verify.main(["--root", str(shop.root)]) == 0


def test_a_new_text_is_embedded_and_its_picture_is_not(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    before, _ = shop.found()
    shop.texts[3] = "another"
    shop.prices[5] = 99.0
    shop.write()
    said = night(shop, capsys)
    assert (said["changed"], said["carried"]) == (2, 1)
    assert shop.encoded == BATCH  # the text and two keywords, in one batch
    after, prices = shop.found()
    assert prices["5"] == "99.0"
    assert {name for name in before if not (before[name] == after[name]).all()} == {
        name for name in before if name.endswith("#3 text")
    }


def test_a_picture_that_was_written_anew_is_embedded_and_its_text_is_not(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    before, _ = shop.found()
    (shop.folder / "pictures" / "7.png").write_bytes(picture(777))
    shop.write()
    night(shop, capsys)
    assert shop.encoded == BATCH
    after, _ = shop.found()
    changed = {name for name in before if not (before[name] == after[name]).all()}
    assert [name.rpartition("#")[2] for name in changed] == ["7 image"]


def test_what_a_lost_shard_held_is_embedded_again(
    shop: Shop, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    before, _ = shop.found()
    (lost,) = tables.shard_rows(Store.at(str(shop.root)), reindexing.generation_of(shop.root))
    (shop.root / lost["path"]).unlink()
    shop.prices = [price + 1 for price in shop.prices]
    shop.write()
    night(shop, capsys)
    assert lost["path"] in caplog.text
    assert shop.encoded
    after, prices = shop.found()
    assert prices["0"] == "1.0"
    assert all((before[name] == after[name]).all() for name in before)


def test_pictures_in_parquet_that_are_kept_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = [picture(number) for number in range(12)]

    def write(texts: list[str]) -> None:
        keys = [str(number) for number in range(12)]
        pq.write_table(pa.table({"key": keys, "image": pictures, "text": texts}), tmp_path / "shop.parquet")

    write(["a text"] * 12)
    source = ("--parquet", str(tmp_path / "shop.parquet"), *COLUMNS[:4], *KEY)
    flags = ("--index-key", "IVF1,Flat", *reindexing.ENCODER)
    assert build.main(["--root", str(tmp_path / "root"), *source, *flags]) == 0
    asked: list[str] = []

    class Inside(PicturesInside):
        def __init__(self, columns: Mapping[str, str]) -> None:
            asked.extend(columns)
            super().__init__(columns)

    monkeypatch.setattr(shard, "PicturesInside", Inside)
    pictures[7] = picture(700)
    write(["another"] * 12)
    capsys.readouterr()
    assert reindexing.run(tmp_path / "root") == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["changed"], said["carried"], said["embedded"]) == (12, 0, 12)
    assert [uri.rpartition("#")[2] for uri in asked] == ["7"]

"""One partition becomes one shard, and a bad item changes no other row's bits."""

import dataclasses
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from tests.corpora import write_csv, write_pictures
from tests.encoders import TinyEncoder
from tests.transforms.embedded import SETTINGS, Embedded, embed, planned
from transforms.errors import PixdexError
from transforms.pictures import decode
from transforms.records import Source
from transforms.sources import items
from transforms.storage import layout, uris
from transforms.tasks.embed import picture_loader

COUNT = 11


@pytest.fixture
def corpus(tmp_path: Path) -> Source:
    file = write_csv(tmp_path / "rows.csv", write_pictures(tmp_path / "i", COUNT))
    return Source(
        "csv", f"file://{file}", image_column="image", text_column="description", keyword_column="words",
        key_column="name",
    )  # fmt: skip


@pytest.fixture
def clean(tmp_path: Path, corpus: Source) -> Embedded:
    return embed(planned(tmp_path / "clean", corpus))


def of_item(number: int) -> str:
    return f"#name {number}"


# --- what a shard holds ---


def test_rows_are_ordered_by_modality_and_their_ids_are_dense(clean: Embedded) -> None:
    assert clean.table["modality"].to_pylist() == ["image"] * COUNT + ["text"] * COUNT + ["keyword"] * 2 * COUNT
    assert clean.table["id"].to_pylist() == list(range(4 * COUNT))
    assert clean.table["part"].to_pylist() == [0] * 2 * COUNT + [0, 1] * COUNT
    marker = clean.marker
    assert (marker.items, marker.rejected, marker.rows) == (COUNT, 0, 4 * COUNT)
    assert (marker.images, marker.texts, marker.keywords) == (COUNT, COUNT, 2 * COUNT)


def test_a_caption_is_the_text_of_the_row(clean: Embedded) -> None:
    captions = clean.table["caption"].to_pylist()

    assert captions[:COUNT] == captions[COUNT : 2 * COUNT] == [f"text {number}" for number in range(COUNT)]
    assert captions[2 * COUNT :] == [word for number in range(COUNT) for word in ("red", f"w{number}")]


def test_the_sources_columns_are_kept(clean: Embedded) -> None:
    assert clean.table.column_names[10:] == ["image", "name", "group", "description", "words"]
    assert clean.table["group"].to_pylist()[:4] == ["g0", "g1", "g2", "g0"]


def test_pictures_have_their_upright_size_and_texts_none(tmp_path: Path) -> None:
    (tmp_path / "i").mkdir()
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    PIL.Image.new("RGB", (12, 10)).save(tmp_path / "i" / "a.jpg", exif=exif)
    (tmp_path / "rows.csv").write_text("image,text\ni/a.jpg,words\n")
    source = Source("csv", f"file://{tmp_path}/rows.csv", image_column="image", text_column="text")
    found = embed(planned(tmp_path / "root", source))

    assert found.table["width"].to_pylist() == [10, None]
    assert found.table["height"].to_pylist() == [12, None]


def test_a_partition_may_span_tables_with_different_columns(tmp_path: Path, corpus: Source) -> None:
    folder = Source("images", f"file://{tmp_path}/i", key_pattern="(?P<group>[^_]+)_(?P<picture>.+)")
    found = embed(planned(tmp_path / "root", folder, corpus))

    pictures = [path.stem.split("_") for path in sorted((tmp_path / "i").iterdir())]
    assert found.table["picture"].to_pylist()[: COUNT + 1] == [name for _, name in pictures] + [None]
    assert found.table["name"].to_pylist()[: COUNT + 1] == [None] * COUNT + ["name 0"]
    assert found.table["group"].to_pylist()[: COUNT + 1] == [group for group, _ in pictures] + ["g0"]
    assert found.marker.images == 2 * COUNT


def test_vectors_are_normalised_and_rounded_to_float16_unless_told_otherwise(tmp_path: Path, corpus: Source) -> None:
    def embedded(**options: Any) -> Embedded:
        settings = dataclasses.replace(SETTINGS, **options)
        return embed(planned(tmp_path / str(options), corpus, settings=settings))

    rounded, full, raw = embedded(), embedded(precision="full"), embedded(normalize=False, precision="full")
    halves = {name: np.frombuffer(row, np.float32).astype(np.float16) for name, row in full.vectors().items()}

    assert np.allclose(full.norms(), 1, atol=1e-6)
    assert np.allclose(rounded.norms(), 1, atol=1e-3)
    assert not np.allclose(raw.norms(), 1, atol=0.1)
    assert rounded.vectors() == {name: row.astype(np.float32).tobytes() for name, row in halves.items()}
    assert rounded.vectors() != full.vectors()


def test_the_same_partition_has_the_same_bytes(tmp_path: Path, corpus: Source, clean: Embedded) -> None:
    again = embed(planned(tmp_path / "again", corpus))

    assert again.marker.embeddings == clean.marker.embeddings
    timeless = [dataclasses.replace(marker, seconds=0, spent=None) for marker in (again.marker, clean.marker)]
    assert timeless[0] == timeless[1]


# --- what cannot be embedded ---


def assert_only_rejected(found: Embedded, clean: Embedded, *numbers: int) -> None:
    """These items are rejected, and every other row has the bits of the clean run."""
    gone = tuple(of_item(number) for number in numbers)
    assert [reject.key[reject.key.index("#") :] for reject in found.rejects] == list(gone)
    assert found.vectors() == {name: row for name, row in clean.vectors().items() if not name[0].endswith(gone)}
    assert found.marker.rejected == len(gone)
    assert found.marker.items == COUNT
    assert found.table["id"].to_pylist() == list(range(found.marker.rows))


def test_a_broken_picture_rejects_its_item_whole_and_changes_no_other(
    tmp_path: Path, corpus: Source, clean: Embedded
) -> None:
    (tmp_path / "i" / "g2_p0005.png").write_bytes(b"no picture")
    found = embed(planned(tmp_path / "root", corpus))

    assert_only_rejected(found, clean, 5)
    (reject,) = found.rejects
    assert (reject.modality, reject.part, reject.stage) == ("image", 0, "decode")
    assert reject.message.startswith("line 7: cannot identify image file")
    assert reject.uri == f"file://{tmp_path}/i/g2_p0005.png"


def test_a_missing_picture_is_rejected_where_it_was_fetched(tmp_path: Path, corpus: Source, clean: Embedded) -> None:
    (tmp_path / "i" / "g0_p0000.png").unlink()
    found = embed(planned(tmp_path / "root", corpus))

    assert_only_rejected(found, clean, 0)
    assert (found.rejects[0].stage, found.rejects[0].type) == ("fetch", "FileNotFoundError")


def test_a_row_that_does_not_fit_is_rejected_by_the_plan(tmp_path: Path, corpus: Source) -> None:
    with (tmp_path / "rows.csv").open("a") as stream:
        stream.write("lonely\n")
    found = embed(planned(tmp_path / "root", corpus))

    assert [(reject.stage, reject.type, reject.modality) for reject in found.rejects] == [
        ("plan", "WrongNumberOfCells", None)
    ]
    assert found.rejects[0].message == f"line {COUNT + 2}: the row has 1 cells, the header 5"
    assert found.marker.items == COUNT + 1


def test_an_item_of_a_folder_has_no_line(tmp_path: Path) -> None:
    write_pictures(tmp_path / "i", 2)
    (tmp_path / "i" / "bad.png").write_bytes(b"no picture")

    (reject,) = embed(planned(tmp_path / "root", Source("images", f"file://{tmp_path}/i"))).rejects

    assert reject.message.startswith("cannot identify image file")


def test_items_of_a_plan_of_before_there_were_lines_are_rejected_without(
    tmp_path: Path, corpus: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "i" / "g2_p0005.png").write_bytes(b"no picture")
    run = planned(tmp_path / "root", corpus)
    read = items.read
    monkeypatch.setattr(items, "read", lambda *piece: read(*piece).drop_columns([items.LINE]))

    (reject,) = embed(run).rejects

    assert reject.message.startswith("cannot identify image file")


class _Cleaning(TinyEncoder):
    """Reads letters only."""

    def are_blank(self, texts: Sequence[str]) -> list[bool]:
        return [not any(letter.isalpha() for letter in text) for text in texts]


def test_a_text_that_the_encoder_cleans_away_is_a_reject_and_changes_no_other(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("text\nred\n!!!\nblue\n...\n")
    source = Source("csv", f"file://{file}", text_column="text")

    found = embed(planned(tmp_path / "root", source), _Cleaning())

    assert [(reject.stage, reject.type, reject.modality) for reject in found.rejects] == [
        ("encode", "BlankText", "text")
    ] * 2
    assert found.rejects[0].message == "line 3: nothing is left of the text once the encoder has cleaned it"
    assert found.table["caption"].to_pylist() == ["red", "blue"]
    whole = embed(planned(tmp_path / "whole", source))
    assert found.vectors().items() < whole.vectors().items()


class _Picky(TinyEncoder):
    """Fails on, or spoils, what the vector of one picture or text is known by."""

    def __init__(self, picture: NDArray[np.float32] | None = None, text: str | None = None, value: float | None = None):
        super().__init__()
        self._picture, self._text, self._value = picture, text, value

    def encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        vectors = super().encode_images(pixels)
        if self._picture is not None:
            return self._spoiled(vectors, np.array([np.array_equal(one, self._picture) for one in pixels]))
        return vectors

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._spoiled(super().encode_texts(texts), np.array([text == self._text for text in texts]))

    def _spoiled(self, vectors: NDArray[np.float32], bad: NDArray[np.bool_]) -> NDArray[np.float32]:
        if bad.any() and self._value is None:
            raise RuntimeError("this one does not fit")
        vectors[bad] = self._value
        return vectors


def pixels_of(file: Path) -> NDArray[np.float32]:
    with PIL.Image.open(file) as picture:
        return TinyEncoder().preprocess(decode.fit(picture.convert("RGB"), "crop"))


@pytest.mark.parametrize(("value", "kind"), [(None, "RuntimeError"), (np.nan, "BadVector"), (0, "BadVector")])
@pytest.mark.parametrize("number", [0, 6, COUNT - 1])
def test_a_picture_that_the_encoder_cannot_take_is_the_only_one_rejected(
    tmp_path: Path, corpus: Source, clean: Embedded, value: float | None, kind: str, number: int
) -> None:
    picky = _Picky(pixels_of(tmp_path / "i" / f"g{number % 3}_p{number:04d}.png"), value=value)
    found = embed(planned(tmp_path / "root", corpus), picky)

    assert_only_rejected(found, clean, number)
    assert (found.rejects[0].stage, found.rejects[0].type, found.rejects[0].modality) == ("encode", kind, "image")


@pytest.mark.parametrize(("value", "kind"), [(None, "RuntimeError"), (np.inf, "BadVector"), (0, "BadVector")])
@pytest.mark.parametrize(("text", "modality", "part"), [("text 7", "text", 0), ("w7", "keyword", 1)])
def test_a_text_that_the_encoder_cannot_take_rejects_its_item(
    tmp_path: Path, corpus: Source, clean: Embedded, value: float | None, kind: str, text: str, modality: str, part: int
) -> None:
    found = embed(planned(tmp_path / "root", corpus), _Picky(text=text, value=value))

    assert_only_rejected(found, clean, 7)
    (reject,) = found.rejects
    assert (reject.stage, reject.type, reject.modality, reject.part) == ("encode", kind, modality, part)


class _Broken(TinyEncoder):
    """Fails on everything, as on a device that is full."""

    def encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        raise RuntimeError("CUDA out of memory")


def test_an_encoder_that_always_fails_stops_the_run_and_rejects_nothing(tmp_path: Path, corpus: Source) -> None:
    run = planned(tmp_path / "root", corpus)
    with pytest.raises(PixdexError, match=r"each of the 4 rows of a batch \(RuntimeError: CUDA out of memory\)"):
        embed(run, _Broken())
    assert not run.store.names(layout.rejects_folder(0))


def test_a_machine_that_cannot_fetch_stops_the_run_without_waiting_for_the_other_pictures(
    tmp_path: Path, corpus: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def locate(uri: str) -> uris.Located:
        asked.append(uri)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(uris, "locate", locate)
    monkeypatch.setattr(picture_loader, "FETCH_THREADS", 1)
    with pytest.raises(PixdexError, match=r"g0_p0000\.png cannot be fetched on this machine"):
        embed(planned(tmp_path / "root", corpus))
    assert len(asked) < COUNT


class _Hiccup(TinyEncoder):
    """Fails once, as a device that was out of memory for a moment."""

    failed = False

    def encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        if not self.failed:
            self.failed = True
            raise RuntimeError("out of memory")
        return super().encode_images(pixels)


def test_a_failure_that_passes_changes_nothing(tmp_path: Path, corpus: Source, clean: Embedded) -> None:
    assert embed(planned(tmp_path / "root", corpus), _Hiccup()).vectors() == clean.vectors()


class _Small(TinyEncoder):
    """Takes one filled slot, and never two."""

    def encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        if pixels.any(axis=(1, 2, 3)).sum() > 1:
            raise RuntimeError("out of memory")
        return super().encode_images(pixels)


def test_an_encoder_that_fails_on_whole_batches_only_says_what_to_change(tmp_path: Path, corpus: Source) -> None:
    with pytest.raises(PixdexError, match=r"none of its rows alone .* a smaller --encoder-batch"):
        embed(planned(tmp_path / "root", corpus), _Small())


def test_batches_are_slots_of_the_partition_whatever_their_number(
    tmp_path: Path, corpus: Source, clean: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_loader, "BATCHES_AHEAD", 0)
    monkeypatch.setattr(picture_loader, "FETCH_THREADS", 1)

    assert embed(planned(tmp_path / "root", corpus)).vectors() == clean.vectors()


# --- what several rows share ---


class _Counting(TinyEncoder):
    """Notes what it is asked for, but for what fills up a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures, self.texts = 0, list[str]()

    def encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        self.pictures += int(pixels.any(axis=(1, 2, 3)).sum())
        return super().encode_images(pixels)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.texts += [text for text in texts if text]
        return super().encode_texts(texts)


def captioned(folder: Path, *, broken: bool = False) -> Source:
    """Two pictures with five captions each, and the keywords `red` and `thing` with all."""
    write_pictures(folder / "i", 2)
    if broken:
        next(iter(sorted((folder / "i").iterdir()))).write_bytes(b"no picture")
    names = sorted(path.name for path in (folder / "i").iterdir())
    lines = [f"{number},i/{names[number % 2]},caption {number},red;thing" for number in range(10)]
    (folder / "captions.csv").write_text("\n".join(["key,image,text,words", *lines, ""]))
    return Source(
        "csv", f"file://{folder}/captions.csv", image_column="image", text_column="text", keyword_column="words",
        keyword_separator=";", key_column="key",
    )  # fmt: skip


def test_a_picture_with_five_captions_is_encoded_once_and_so_is_a_keyword(tmp_path: Path) -> None:
    encoder = _Counting()
    found = embed(planned(tmp_path / "root", captioned(tmp_path)), encoder)
    assert encoder.pictures == 2
    assert sorted(encoder.texts) == sorted([f"caption {number}" for number in range(10)] + ["red", "thing"])
    assert (found.marker.images, found.marker.texts, found.marker.keywords) == (10, 10, 20)
    of = {(key.rpartition("#")[2], kind, part): vector for (key, kind, part), vector in found.vectors().items()}
    for number in range(2, 10):
        assert of[str(number), "image", 0] == of[str(number % 2), "image", 0]
        assert all(of[str(number), "keyword", part] == of["0", "keyword", part] for part in (0, 1))
    assert of["0", "image", 0] != of["1", "image", 0]


def test_a_bad_picture_rejects_all_rows_that_name_it_and_no_other(tmp_path: Path) -> None:
    found = embed(planned(tmp_path / "root", captioned(tmp_path, broken=True)))
    assert [reject.key.rpartition("#")[2] for reject in found.rejects] == ["0", "2", "4", "6", "8"]
    assert {reject.message.partition(": ")[0] for reject in found.rejects} == {
        f"line {number}" for number in (2, 4, 6, 8, 10)
    }
    assert (found.marker.images, found.marker.rejected) == (5, 5)

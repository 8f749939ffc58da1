"""The pictures that rows of a CSV name: where they lie, and the versions that they give their rows."""

import os
import threading
import time
import unicodedata
import uuid
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests.corpora import write_csv, write_pictures
from tests.transforms.sources.csv_files import rows, source, write
from transforms.sources import csv_records, items, picture_versions
from transforms.sources.picture_versions import PictureVersions
from transforms.sources.table_rows import RowListing


def test_pictures_are_found_from_where_the_csv_lies(tmp_path: Path) -> None:
    file = write(
        tmp_path / "rows.csv",
        [
            ["image"],
            ["i/a#1.png"],
            [" i/b.png "],
            ["/abs/c.png"],
            ["https://host/d.png?w=1"],
            ["memory://bucket/e.png"],
            [""],
        ],
    )
    listed = rows(file, image_column="image")

    assert [row[items.IMAGE] for row in listed] == [
        f"file://{tmp_path}/i/a#1.png", f"file://{tmp_path}/i/b.png", "file:///abs/c.png", "https://host/d.png?w=1",
        "memory://bucket/e.png", None,
    ]  # fmt: skip
    assert [row["uri"] for row in listed] == [row[items.IMAGE] or f"file://{file}" for row in listed]


@pytest.mark.parametrize("cell", ["gs:///x.png", "s3:///x.png", "gs://", "https:///x.png"])
def test_a_cell_that_names_no_bucket_or_host_is_not_asked_for(
    tmp_path: Path, cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "rows.csv", [["image"], [cell], *[[f"gs:///{number}.png"] for number in range(70)]])
    asked: list[object] = []
    monkeypatch.setattr("socket.getaddrinfo", lambda *address, **_: asked.append(address))

    listed = rows(file, image_column="image")

    assert not asked
    assert listed[0][items.IMAGE] == cell
    assert "+missing:~" in listed[1]["version"]


def test_a_row_with_picture_text_and_keywords_is_one_item(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "rows.csv", write_pictures(tmp_path / "i", 3))
    listed = rows(file, image_column="image", text_column="description", keyword_column="words")

    assert [row[items.ROWS] for row in listed] == [4, 4, 4]
    assert listed[1][items.TEXT] == "text 1"
    assert listed[1][items.KEYWORDS] == ["red", "w1"]


@pytest.mark.parametrize("count", [3, 80])
def test_a_version_changes_with_its_row_or_picture_and_with_no_other(tmp_path: Path, count: int) -> None:
    pictures = write_pictures(tmp_path / "i", count)
    file = write_csv(tmp_path / "rows.csv", pictures)

    def versions() -> list[str]:
        return [row["version"] for row in rows(file, image_column="image", text_column="name")]

    before = versions()
    os.utime(pictures[1], ns=(0, 10**18))
    after_picture = versions()
    file.write_text(file.read_text().replace("text 2,", "another text 2,"))
    after_row = versions()
    pictures[0].unlink()
    after_loss = versions()

    assert [place for place in range(count) if before[place] != after_picture[place]] == [1]
    assert [place for place in range(count) if after_picture[place] != after_row[place]] == [2]
    assert [place for place in range(count) if after_row[place] != after_loss[place]] == [0]


@pytest.mark.parametrize("count", [3, 80])
def test_a_linked_pictures_version_is_that_of_what_it_leads_to(tmp_path: Path, count: int) -> None:
    targets = write_pictures(tmp_path / "real", count)
    links = [tmp_path / "i" / target.name for target in targets]
    links[0].parent.mkdir()
    for link, target in zip(links, targets, strict=True):
        link.symlink_to(target)
    uris_of = [f"file://{link}" for link in links]
    before = PictureVersions().of(uris_of)
    os.utime(targets[0], ns=(0, 10**18))

    changed = {uri for uri, version in PictureVersions().of(uris_of).items() if version != before[uri]}
    assert changed == {uris_of[0]}


@pytest.mark.parametrize("count", [3, 80])
@pytest.mark.parametrize("protocol", ["nonsense", "file:///gone", "memory:///gone", "zip://x.zip::s3"])
def test_pictures_that_cannot_be_looked_at_have_a_version_all_the_same(protocol: str, count: int) -> None:
    named = [f"{protocol}://folder/{number}.png" for number in range(count)]

    assert set(PictureVersions().of(named)) == set(named)


def test_a_picture_stored_decomposed_and_named_composed_has_the_version_of_the_file(tmp_path: Path) -> None:
    stored = tmp_path / f"{unicodedata.normalize('NFD', '한글')}.png"
    stored.write_bytes(b"content")
    named = f"file://{tmp_path}/한글.png"

    assert PictureVersions().of([named])[named].startswith("stat:7-")


class Store:
    """Folders in memory, `i` and `j`, whose listings and requests are counted."""

    def __init__(self, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.url = f"memory:///{uuid.uuid4().hex}"
        self.listings = self.requests = self.at_once = self.most_at_once = 0
        memory = fsspec.filesystem("memory")
        for number in range(count):
            memory.pipe_file(f"{self.url}/i/{number}.png", b"content")
            memory.pipe_file(f"{self.url}/j/{number}.png", b"content")
        ls, info, lock = memory.ls, memory.info, threading.Lock()

        def counted_ls(path: str, **options: Any) -> Any:
            self.listings += 1
            return ls(path, **options)

        def slow_info(path: str, **options: Any) -> Any:
            with lock:
                self.requests += 1
                self.at_once += 1
                self.most_at_once = max(self.most_at_once, self.at_once)
            time.sleep(0.01)
            with lock:
                self.at_once -= 1
            return info(path, **options)

        monkeypatch.setattr(memory, "ls", counted_ls)
        monkeypatch.setattr(memory, "info", slow_info)

    def pictures(self, count: int, folder: str = "i") -> list[str]:
        return [f"{self.url}/{folder}/{number}.png" for number in range(count)]


def test_a_few_pictures_of_a_folder_are_asked_for_side_by_side_and_the_folder_is_not_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store(100, monkeypatch)

    versions = PictureVersions().of(store.pictures(50))

    assert (len(versions), store.listings, store.requests) == (50, 0, 50)
    assert 4 <= store.most_at_once <= 16


def test_a_folder_that_many_blocks_name_is_listed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(300, monkeypatch)
    monkeypatch.setattr(csv_records, "BATCH_CHARACTERS", 2000)
    table = "".join(f"i/{number}.png\n" for number in range(300))
    fsspec.filesystem("memory").pipe_file(f"{store.url}/rows.csv", f"image\n{table}".encode())

    batches = list(RowListing(source(f"{store.url}/rows.csv", image_column="image")).batches(f"{store.url}/rows.csv"))

    assert len(batches) > 1
    assert store.listings == 1
    assert store.requests < 5  # of the CSV, not of a picture


def test_listings_of_the_last_folders_only_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    store, versions = Store(100, monkeypatch), PictureVersions()
    monkeypatch.setattr(picture_versions, "_FILES_KEPT", 150)

    listings = [(versions.of(store.pictures(100, folder)), store.listings)[1] for folder in "iijji"]

    assert listings == [1, 1, 2, 2, 3]
    assert sum(map(len, versions._listed.values())) == 100

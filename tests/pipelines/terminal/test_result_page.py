"""The page of results: complete in itself, safe to open, and whole or not there."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import PIL.Image
import pytest

from pipelines.terminal.result_page import Answer, link, page, write
from tests.transforms.sources.row_sources import tar_of
from transforms.errors import UsageError
from transforms.search.hits import Hit
from transforms.storage.outside import Outside


def hit(uri: str, **fields: object) -> Hit:
    values: dict[str, object] = {
        "rank": 1, "score": 0.3125, "id": 1, "key": uri, "uri": uri,
        "modality": "image", "part": 0, "caption": None, "columns": {},
    }  # fmt: skip
    return Hit(**{**values, **fields})  # type: ignore[arg-type]  # fields of a test


def picture(file: Path, colour: str = "red") -> str:
    PIL.Image.new("RGB", (600, 400), colour).save(file)
    return f"file://{file}"


TRUSTED = Outside((), trusted=True)


def shown(*hits: Hit, query: str = "a query", picture: str | None = None, outside: Outside = TRUSTED) -> str:
    return page([Answer(query, hits, picture)], outside=outside, title="Results", note="")


class Addresses(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [(name, value or "") for name, value in attrs if name in ("href", "src")]


def test_nothing_is_fetched_from_anywhere(tmp_path: Path) -> None:
    text = shown(hit(picture(tmp_path / "a.png")))
    assert all(value.startswith("data:image/") for name, value in Addresses(text).found if name == "src")
    assert not re.search(r"<script|<link|url\(|@import", text)


def test_a_picture_links_to_its_file(tmp_path: Path) -> None:
    file = tmp_path / "50% off #1? 그림.png"
    text = shown(hit(picture(file)))
    address = next(value for name, value in Addresses(text).found if name == "href")
    assert address.isascii()
    assert unquote(urlsplit(address).path) == str(file)


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("file:///a b.png", "file:///a%20b.png"),
        ("https://example.org/a%20b.png?x=1&y=2", "https://example.org/a%20b.png?x=1&y=2"),
        ("https://example.org/그림 1.png", "https://example.org/%EA%B7%B8%EB%A6%BC%201.png"),
        ("s3://bucket/a.png", None),
        ("file:///a.tar#bytes=512+20", None),
        ("javascript:alert(1)", None),
    ],
)
def test_only_what_browsers_open_is_linked(uri: str, address: str | None) -> None:
    assert link(uri) == address


def test_text_is_escaped_everywhere(tmp_path: Path) -> None:
    evil = '"><script>alert(1)</script>'
    text = page(
        [Answer(evil, [hit(f"file://{tmp_path}/{evil}", caption=evil, columns={"name": evil})])],
        outside=TRUSTED,
        title=evil,
        note=evil,
    )
    assert "<script" not in text


def test_braces_in_a_name_are_only_braces(tmp_path: Path) -> None:
    assert "{title}" in shown(hit(picture(tmp_path / "a.png"), columns={"name": "{title}"}))


def test_thumbnails_are_small(tmp_path: Path) -> None:
    PIL.Image.effect_noise((2000, 1500), 90).convert("RGB").save(tmp_path / "noise.png")
    assert len(shown(hit(f"file://{tmp_path}/noise.png"))) < 250_000


@pytest.mark.parametrize("content", [None, b"no picture"])
def test_a_picture_that_cannot_be_read_leaves_a_placeholder(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    assert "picture not readable" in shown(hit(f"file://{tmp_path}/a.png"))


def test_a_member_of_a_tar_is_shown_by_its_name(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.tar").write_bytes(tar_of({"d/a.png": content}))
    uri = f"file://{tmp_path}/a.tar#bytes=512+{len(content)}"
    text = shown(hit(uri, key=f"file://{tmp_path}/a.tar#d/a.png"), outside=Outside((f"file://{tmp_path}/a.tar",)))
    assert "data:image/" in text and ">a.png<" in text and not Addresses(text).found[1:]
    assert "data:image/" not in shown(hit(uri), outside=Outside((f"file://{tmp_path}/b.tar",)))


def test_a_text_is_shown_as_words(tmp_path: Path) -> None:
    text = shown(hit(f"file://{tmp_path}/rows.csv#7", modality="text", caption="nine lives"))
    assert "nine lives" in text
    assert "picture not readable" not in text


def test_a_tile_says_what_matched(tmp_path: Path) -> None:
    text = shown(hit(picture(tmp_path / "a.png"), modality="keyword"))
    assert "<span>keyword</span>" in text


@pytest.mark.parametrize("modality", ["image", "text"])
def test_what_is_cut_is_whole_in_the_tip(tmp_path: Path, modality: str) -> None:
    name = "a very long name " * 40
    text = shown(hit(f"file://{tmp_path}/rows.csv#7", modality=modality, columns={"name": name}))
    assert f'title="{name}"' in text


def test_a_query_picture_is_shown(tmp_path: Path) -> None:
    text = shown(query="mine.png", picture=picture(tmp_path / "mine.png"))
    assert text.count("<img") == 1


def test_a_picture_elsewhere_than_the_sources_is_neither_read_nor_linked(tmp_path: Path) -> None:
    (tmp_path / "sources").mkdir()
    inside, elsewhere = picture(tmp_path / "sources" / "a.png"), picture(tmp_path / "b.png")
    text = shown(hit(inside), hit(elsewhere), outside=Outside((f"file://{tmp_path}/sources",)))
    assert text.count("<img") == 1
    assert [value for name, value in Addresses(text).found if name == "href"] == [inside]


def test_a_query_picture_is_read_wherever_it_lies(tmp_path: Path) -> None:
    assert "<img" in shown(picture=picture(tmp_path / "mine.png"), outside=Outside(()))


def test_an_answer_without_hits_says_so() -> None:
    assert "nothing found" in shown()


def test_the_page_replaces_what_was_there_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text("old")
    write(file, page([Answer("q", [])], outside=TRUSTED, title="Results", note="n"))
    assert file.read_text().startswith("<!doctype html>")
    assert list(tmp_path.iterdir()) == [file]


def test_a_page_can_be_read_by_others(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write(tmp_path / "page.html", page([], outside=TRUSTED, title="Results", note="n"))
    assert (tmp_path / "page.html").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("place", ["", "nowhere/page.html"])
def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, place: str) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        write(tmp_path / place, page([], outside=TRUSTED, title="Results", note="n"))


def test_a_name_whose_bytes_are_no_text_is_shown_with_a_placeholder(tmp_path: Path) -> None:
    write(tmp_path / "page.html", page([Answer("bad\udcff.png", [])], outside=TRUSTED, title="Results", note=""))
    assert "bad\N{REPLACEMENT CHARACTER}.png" in (tmp_path / "page.html").read_text(encoding="utf-8")

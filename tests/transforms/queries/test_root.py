"""`import pixdex`: a root answers programs as it answers the command line."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import pixdex
from tests.pipelines.test_search import CompassEncoder, compass_root
from tests.roots import Row, make_root, unit
from transforms.search.searcher import Searcher


@pytest.fixture
def root(tmp_path: Path) -> str:
    return compass_root(tmp_path / "root")


def keys(hits: list["pixdex.Hit"]) -> list[str]:
    return [hit.key for hit in hits]


def test_texts_pictures_and_vectors_find_what_the_command_finds(root: str, tmp_path: Path) -> None:
    PIL.Image.new("RGB", (9, 7), "blue").save(tmp_path / "blue.png")
    with pixdex.open(root) as opened:
        assert keys(opened.search("east")) == ["e", "n"]
        assert keys(opened.search(image=tmp_path / "blue.png")) == ["n", "e"]
        assert keys(opened.search(vector=unit(0))) == ["words", "e", "n"]
        assert keys(opened.search("east", modality="any", k=1)) == ["words"]


def test_many_are_one_table_in_the_order_asked(root: str, tmp_path: Path) -> None:
    opened = pixdex.open(root)
    table = opened.search_many(["north", "east"], k=2)
    assert table.column_names == ["query", "rank", "score", "id", "key", "uri", "modality", "part", "caption", "exact"]
    assert table["query"].to_pylist() == [0, 0, 1, 1]
    assert table["rank"].to_pylist() == [1, 2, 1, 2]
    assert table["key"].to_pylist() == ["n", "e", "e", "n"]
    by_vectors = opened.search_many(np.array([unit(90), unit(0)], np.float32), k=2, modality="image")
    assert by_vectors.equals(table)
    PIL.Image.new("RGB", (9, 7), "blue").save(tmp_path / "blue.png")
    assert opened.search_many(images=[tmp_path / "blue.png"], k=1)["key"].to_pylist() == ["n"]
    assert len(opened.search_many([])) == 0


@pytest.mark.parametrize("given", [{}, {"text": "east", "vector": (1.0, 0.0)}])
def test_one_search_is_one_query(root: str, given: dict[str, object]) -> None:
    with pixdex.open(root) as opened, pytest.raises(pixdex.UsageError, match="give one query"):
        opened.search(**given)  # type: ignore[arg-type]


def test_what_cannot_be_answered_is_refused_as_on_the_command_line(root: str) -> None:
    opened = pixdex.open(root)
    with pytest.raises(pixdex.UsageError, match="the query is empty"):
        opened.search(" ")
    with pytest.raises(pixdex.UsageError, match="this index has none"):
        opened.search("east", modality="keyword")
    with pytest.raises(pixdex.UsageError, match="not several of them"):
        opened.search_many(["east"], images=["x.png"])
    with pytest.raises(pixdex.UsageError, match="no such folder"):
        pixdex.open(f"{root}/nowhere")


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda root: root.search_many("east"), "takes a list"),
        (lambda root: root.search_many([None, "east"]), "None is no text"),
        (lambda root: root.search_many([b"east"]), "array of numbers"),
        (lambda root: root.search_many(images="x.png"), "takes a list"),
        (lambda root: root.search(vector=["a"]), "array of numbers"),
        (lambda root: root.search(vector=[[1.0], [1.0, 2.0]]), "not of one length"),
        (lambda root: root.search("east", modality="picture"), "is none of image, text, keyword"),
        (lambda root: root.search("east", k=2.0), "k is 2.0"),
        (lambda root: root.search(np.array([1.0, 0.0])), "is no text"),
    ],
)
def test_what_is_no_query_is_refused(root: str, ask: Callable[[pixdex.Root], object], said: str) -> None:
    with pixdex.open(root) as opened, pytest.raises(pixdex.UsageError, match=said):
        ask(opened)


def test_numbers_of_any_library_are_taken_as_they_are(root: str) -> None:
    opened = pixdex.open(root)
    assert opened.search_many([unit(90), unit(0)], k=np.int64(1))["key"].to_pylist() == ["n", "words"]  # type: ignore[arg-type]
    assert opened.search_many(np.array(["north"]), k=1)["key"].to_pylist() == ["n"]


def test_a_root_that_was_closed_while_it_was_refreshed_stays_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_root(tmp_path, [Row("old", unit(0))])
    opened = pixdex.open(tmp_path)
    make_root(tmp_path, [Row("new", unit(0))], number=2)
    again = opened._searcher

    def closing() -> Searcher:
        opened.close()
        return again()

    monkeypatch.setattr(opened, "_searcher", closing)
    with pytest.raises(pixdex.UsageError, match="is closed"):
        opened.refresh()
    with pytest.raises(pixdex.UsageError, match="is closed"):
        opened.search(vector=unit(0))


def test_a_new_generation_is_followed_when_that_is_asked_for(tmp_path: Path) -> None:
    make_root(tmp_path, [Row("old", unit(0))])
    opened = pixdex.open(tmp_path)
    assert not opened.refresh()
    make_root(tmp_path, [Row("new", unit(0))], number=2)
    assert keys(opened.search(vector=unit(0))) == ["old"]
    assert opened.refresh() and opened.generation == 2
    assert keys(opened.search(vector=unit(0))) == ["new"]


def test_a_root_that_is_closed_says_so(root: str) -> None:
    opened = pixdex.open(root)
    opened.close()
    with pytest.raises(pixdex.UsageError, match="is closed"):
        opened.search("east")


def test_threads_share_it_and_open_one_encoder(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opens, made = threading.Barrier(8), []
    init = CompassEncoder.__init__

    def count(self: CompassEncoder) -> None:
        made.append(self)
        time.sleep(0.1)  # others come meanwhile
        init(self)

    monkeypatch.setattr(CompassEncoder, "__init__", count)
    opened = pixdex.open(root)

    def ask(place: int) -> list[str]:
        opens.wait()
        return keys(opened.search("east" if place % 2 else "north"))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [["n", "e"], ["e", "n"]] * 4
    assert len(made) == 1


def test_a_class_that_only_the_root_names_is_not_imported(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIXDEX_TRUSTED_ENCODERS")
    with pytest.raises(pixdex.UsageError, match="if you trust it"):
        pixdex.open(root).search("east")
    named = f"{CompassEncoder.__module__}:{CompassEncoder.__name__}"
    assert keys(pixdex.open(root, encoder=named).search("east")) == ["e", "n"]


def test_what_is_not_there_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(pixdex, "nothing")  # noqa: B009 - mypy would refuse the attribute itself

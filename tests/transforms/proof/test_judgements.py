"""Judgements of a CSV: what people write is read as they meant it, or refused in a line."""

from pathlib import Path

import pytest

from transforms.errors import UsageError
from transforms.proof import judgements


def read(folder: Path, content: str | bytes) -> judgements.Judgements:
    file = folder / "judgements.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return judgements.read(str(file))


def test_queries_have_items_with_their_relevance(tmp_path: Path) -> None:
    text = "query,key,relevance\nred,a.png,2\nred,b.png,0.5\nblue,a.png,-1\n"
    assert read(tmp_path, text) == {"red": {"a.png": 2.0, "b.png": 0.5}, "blue": {"a.png": -1.0}}


@pytest.mark.parametrize(
    "content",
    [
        "key,query\na,red\nb,red\n",
        "\ufeffquery,key\nred,a\nred,b\n",
        "query,key\r\nred,a\r\nred,b\r\n",
        "query,note,key,relevance\nred,7,a,1\nred,,b,1.0\n",
        '"query","key"\n"red","a"\n"red","b"\n',
        "query,key\nred,a\nred,b\nred,a\n",  # twice, and of the same mind
    ],
)
def test_however_it_is_written(tmp_path: Path, content: str) -> None:
    assert read(tmp_path, content) == {"red": {"a": 1.0, "b": 1.0}}


def test_texts_are_taken_as_they_are(tmp_path: Path) -> None:
    text = '\ufeffquery,key,relevance\n"빨간, ""동그라미""",그림/1.png,3\n"two\nlines",007,1\nNA,null,1\n1.50,1e3,1\n'
    assert read(tmp_path, text) == {
        '빨간, "동그라미"': {"그림/1.png": 3.0},
        "two\nlines": {"007": 1.0},
        "NA": {"null": 1.0},
        "1.50": {"1e3": 1.0},
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("key,relevance\na,1\n", "has no column query; it has key, relevance: name the columns"),
        ("query,relevance\na,1\n", "has no column key"),
        ("query;key\na;1\n", "has no column query; did you mean query;key? it has query;key"),
        ("query,key,relevance\nred,a,1\nred,b,good\n", "row 2: the relevance 'good' is no number"),
        ("query,key,relevance\nred,a,\n", "row 1: the relevance '' is no number"),
        ("query,key,relevance\nred,a,nan\n", "row 1: the relevance 'nan' is no number"),
        ("query,key,relevance\nred,a,inf\n", "row 1: the relevance 'inf' is no number"),
        ("query,key,relevance\nred,a,1\nred,a,2\n", "row 2: 'a' is judged twice for 'red'"),
        ("query,key\n ,a\n", "row 1, names no query"),
        ("query,key,key\nred,a,b\n", "has more than one column key"),
        ("query,key,relevance,relevance\nred,a,1,2\n", "has more than one column relevance"),
        ("query,key\nred,a,b\n", "cannot be read"),
        ("", "cannot be read"),
        ("query,key,relevance\n", "has no rows"),
        (b"query,key\n\xbb\xa1,a\n", "cannot be read"),
    ],
)
def test_what_is_not_understood_is_refused_in_a_line(tmp_path: Path, content: str | bytes, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        read(tmp_path, content)
    assert said in str(refused.value) and "\n" not in str(refused.value)
    assert str(refused.value).startswith(f"--judgements {tmp_path}/judgements.csv")


@pytest.mark.parametrize("location", ["gone.csv", ".", "foo://a.csv"])
def test_a_file_that_is_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=f"--judgements {location} cannot be read"):
        judgements.read(location)

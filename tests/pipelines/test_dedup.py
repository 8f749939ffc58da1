"""`--dedup`, on the command line and of `import pixdex`: near results once by a score, the same ones by content."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import pixdex
from pipelines import batch_search, search
from tests.pipelines.test_search import compass_root, found, refused, vector_file
from tests.roots import Row, unit

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def root(tmp_path: Path) -> str:
    """Pictures of which one is there twice, and one looks like it; and a text that is there twice."""
    pictures = tmp_path / "root" / "pictures"
    pictures.mkdir(parents=True)
    for name, content in (("a", b"one"), ("b", b"two"), ("c", b"one"), ("d", b"one")):
        (pictures / f"{name}.png").write_bytes(content)
    rows = [
        Row(key, unit(degrees), uri=f"file://{pictures}/{key}.png")
        for key, degrees in (("a", 1), ("b", 1), ("c", 1), ("d", 2))
    ]
    texts = [Row(key, unit(5), "text", caption="east") for key in ("t", "u")]
    return compass_root(tmp_path / "root", *rows, *texts)


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ((), ["a", "b", "c", "d"]),
        (("--dedup", "1"), ["a", "d"]),
        (("--dedup", "content"), ["a", "b", "d"]),
        (("--dedup=content", "-k", "2"), ["a", "b"]),
        (("--dedup", "content", "--modality", "any"), ["a", "b", "d", "t"]),
        (("--dedup", "content", "--modality", "text"), ["t"]),
    ],
)
def test_what_is_there_twice_is_shown_once(root: str, capsys: Capture, words: tuple[str, ...], keys: list[str]) -> None:
    assert found(capsys, "--root", root, "east", *words) == keys


def test_many_queries_are_answered_as_each_is(root: str, tmp_path: Path, capsys: Capture) -> None:
    queries, output = vector_file(tmp_path, np.array([unit(0), unit(90)], np.float32)), tmp_path / "results.parquet"
    words = ("--queries", queries, "--output", str(output), "--no-progress", "--modality", "any", "--dedup", "content")
    assert batch_search.main(["--root", root, *words]) == 0
    with pixdex.open(root) as opened:
        expected = opened.search_many(np.load(queries), modality="any", dedup="content")
    rows = pq.read_table(output)
    assert rows.select(["query", "key"]).to_pylist() == expected.select(["query", "key"]).to_pylist()
    assert rows["key"].to_pylist() == ["a", "b", "d", "t", "t", "d", "a", "b"]


def test_pictures_that_only_a_trusted_root_may_have_read_are_compared_for_whoever_trusts_it(
    root: str, tmp_path: Path, capsys: Capture
) -> None:
    Path(root, "pictures").rename(tmp_path / "elsewhere")
    Path(root, "pictures").symlink_to(tmp_path / "elsewhere")
    rows = [Row(key, unit(1), uri=f"file://{tmp_path}/elsewhere/{key}.png") for key in "ac"]
    other = compass_root(tmp_path / "other", *rows)
    assert found(capsys, "--root", other, "east", "--dedup", "content") == ["a", "c"]
    words = ("--root", other, "east", "--dedup", "content")
    assert found(capsys, *words, "--trust-uris") == ["a"]
    for trust_uris, keys in ((False, ["a", "c"]), (True, ["a"])):
        with pixdex.open(other, trust_uris=trust_uris) as opened:
            assert [hit.key for hit in opened.search("east", dedup="content")] == keys


@pytest.mark.parametrize("word", ["contents", "", "nan", "0,9"])
@pytest.mark.parametrize("command", [search, batch_search])
def test_another_word_is_refused_with_the_way_out(root: str, capsys: Capture, command: object, word: str) -> None:
    words = ["--root", root, *(["east"] if command is search else ["--queries", "q.npy", "--output", "o.parquet"])]
    if command is search:
        said = refused(capsys, *words, "--dedup", word)
    else:
        assert batch_search.main([*words, "--dedup", word]) == 2
        (said,) = capsys.readouterr().err.splitlines()
    assert f"{word!r} is neither a score, such as 0.98, nor content" in said


@pytest.mark.parametrize("wrong", ["contents", "0.9", float("nan"), ["content"]])
def test_programs_are_told_what_to_take(root: str, wrong: object) -> None:
    with (
        pixdex.open(root) as opened,
        pytest.raises(pixdex.UsageError, match=r"dedup is .*: take a (score, or content|number)"),
    ):
        opened.search("east", dedup=wrong)  # type: ignore[arg-type]

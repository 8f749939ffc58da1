"""`pixdex batch-search`: what `search` finds for each query, in one file that appears when it is whole."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

import pixdex
from pipelines import batch_search, hide
from tests.pipelines.test_search import NAMED, compass_root
from tests.roots import Row, make_root, unit
from transforms.batch import plan, publish
from transforms.batch.request import Batch
from transforms.errors import PixdexError
from transforms.search.searcher import Searcher

Capture = pytest.CaptureFixture[str]
ROWS = [Row(f"k{number:02}", unit(number * 7), columns={"name": f"row {number}"}) for number in range(40)]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "_LEAST", 3)
    monkeypatch.setattr(plan, "ENCODED_A_PART", 3)


def directions(count: int) -> NDArray[np.float32]:
    return np.array([unit(number * 11.5) for number in range(count)], np.float32)


def vector_file(folder: Path, vectors: NDArray[Any]) -> str:
    np.save(folder / "queries.npy", vectors)
    return str(folder / "queries.npy")


def asked(capsys: Capture, *words: object) -> dict[str, Any]:
    """What the last line says."""
    assert batch_search.main([*map(str, words), "--no-progress"]) == 0
    said: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return said


def refused(capsys: Capture, *words: object) -> str:
    assert batch_search.main([*map(str, words), "--no-progress"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def rows_of(file: object) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(file).to_pylist()
    return rows


def expected(root: object, *queries: Any, **how: Any) -> list[dict[str, Any]]:
    with pixdex.open(str(root)) as opened:
        table = opened.search_many(*queries, **how)
    rows: list[dict[str, Any]] = table.select(["query", "rank", "score", "id", "key"]).to_pylist()
    return rows


def test_vectors_find_what_a_search_finds(tmp_path: Path, capsys: Capture) -> None:
    make_root(tmp_path / "root", ROWS[:25], ROWS[25:], key="IVF4,Flat")
    queries, output = directions(50), tmp_path / "results.parquet"
    argv = ("--root", tmp_path / "root", "--queries", vector_file(tmp_path, queries), "--output", output, "-k", 3)
    said = asked(capsys, *argv)
    assert said.pop("seconds") >= 0
    assert said == {"queries": 50, "results": 150, "output": str(output), "unanswered": 0, "generation": 1}
    assert rows_of(output) == expected(tmp_path / "root", queries, k=3)
    assert pq.read_schema(output).remove_metadata() == publish.SCHEMA
    assert sorted(path.name for path in tmp_path.iterdir()) == ["queries.npy", "results.parquet", "root"]


@pytest.mark.parametrize(
    "words", [("--min-score", "0.9"), ("--where", "name < 'row 3'"), ("--nprobe", "1"), ("-k", "60")]
)
def test_what_else_is_asked_is_asked_of_each(tmp_path: Path, capsys: Capture, words: tuple[str, str]) -> None:
    make_root(tmp_path / "root", ROWS, key="IVF4,Flat")
    queries, output = directions(20), tmp_path / "results.parquet"
    asked(capsys, "--root", tmp_path / "root", "--queries", vector_file(tmp_path, queries), "--output", output, *words)
    value: Any = float(words[1]) if words[0] == "--min-score" else words[1] if words[0] == "--where" else int(words[1])
    how = {words[0].lstrip("-").replace("-", "_"): value}
    assert rows_of(output) == expected(tmp_path / "root", queries, **how)


def test_a_parquet_of_vectors_with_columns_of_what_is_found(tmp_path: Path, capsys: Capture) -> None:
    rows = [
        Row("a", unit(0), columns={"name": "x", "size": "3"}),
        Row("b", unit(90), columns={"name": None, "size": "4"}),
    ]
    make_root(tmp_path / "root", rows[:1], rows[1:])
    column = pa.FixedSizeListArray.from_arrays(pa.array(directions(9).reshape(-1)), 2)
    pq.write_table(pa.table({"vec": column}), tmp_path / "q.parquet")
    output = tmp_path / "results.parquet"
    files = ("--queries", tmp_path / "q.parquet", "--vector-column", "vec", "--output", output)
    asked(capsys, "--root", tmp_path / "root", *files, "--columns", "size,name,uri")
    found = pq.read_table(output)
    assert found.column_names == ["query", "rank", "score", "id", "key", "size", "name", "uri"]
    assert {(row["key"], row["size"], row["name"]) for row in found.to_pylist()} == {("a", "3", "x"), ("b", "4", None)}
    assert "no row has a column colour" in refused(
        capsys, "--root", tmp_path / "root", *files[:-1], tmp_path / "o.parquet", "--columns", "colour"
    )


def test_texts_of_a_csv_or_of_lines_keep_their_numbers(tmp_path: Path, capsys: Capture) -> None:
    root = compass_root(tmp_path / "root")
    (tmp_path / "q.csv").write_text(
        '\ufeffno,text\n1,north\n2,east\n3\n4," "\n5,north\n6,else\n7,east\n', encoding="utf-8"
    )
    (tmp_path / "q.txt").write_text("north\neast\n\n \nnorth\nelse\r\neast\n", encoding="utf-8")
    texts = {0: "north", 1: "east", 4: "north", 5: "else", 6: "east"}
    wanted = expected(root, [*texts.values()])
    for name, words in (("q.csv", ("--text-column", "text")), ("q.txt", ())):
        output = tmp_path / f"{name}.parquet"
        assert (
            batch_search.main(
                ["--root", root, "--queries", str(tmp_path / name), "--output", str(output), *words, "--no-progress"]
            )
            == 0
        )
        out, err = capsys.readouterr()
        assert json.loads(out.splitlines()[-1])["unanswered"] == 2
        assert "2 of 7 queries have no answer: query 2: it is empty" in err
        assert rows_of(output) == [row | {"query": [*texts][row["query"]]} for row in wanted]


def test_pictures_of_a_csv_lie_beside_it_and_one_that_is_none_has_no_answer(tmp_path: Path, capsys: Capture) -> None:
    root = compass_root(tmp_path / "root", Row("e", unit(1), columns=NAMED), Row("n", unit(89)))
    (tmp_path / "in").mkdir()
    for colour in ("red", "blue"):
        PIL.Image.new("RGB", (9, 7), colour).save(tmp_path / "in" / f"{colour}.png")
    (tmp_path / "in" / "none.png").write_bytes(b"no picture")
    (tmp_path / "q.csv").write_text("file\nin/red.png\nin/none.png\n\nin/blue.png\nin/gone.png\nin/red.png\n")
    output = tmp_path / "results.parquet"
    said = asked(
        capsys, "--root", root, "--queries", tmp_path / "q.csv", "--image-column", "file", "--output", output, "-k", 1
    )
    assert (said["queries"], said["unanswered"]) == (5, 2)
    assert [(row["query"], row["key"]) for row in rows_of(output)] == [(0, "e"), (2, "n"), (4, "e")]


def test_a_vector_without_direction_has_no_answer(tmp_path: Path, capsys: Capture) -> None:
    make_root(tmp_path / "root", ROWS)
    queries = directions(10)
    queries[3], queries[7, 0] = 0, np.nan
    output = tmp_path / "results.parquet"
    said = asked(
        capsys, "--root", tmp_path / "root", "--queries", vector_file(tmp_path, queries), "--output", output, "-k", 1
    )
    assert (said["queries"], said["results"], said["unanswered"]) == (10, 8, 2)
    assert {row["query"] for row in rows_of(output)} == {*range(10)} - {3, 7}


def test_no_query_is_no_result(tmp_path: Path, capsys: Capture) -> None:
    make_root(tmp_path / "root", ROWS)
    output = tmp_path / "results.parquet"
    queries = vector_file(tmp_path, np.empty((0, 2), np.float32))
    assert asked(capsys, "--root", tmp_path / "root", "--queries", queries, "--output", output)["results"] == 0
    assert pq.read_table(output).num_rows == 0


def test_a_job_that_was_stopped_goes_on_with_its_generation(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    make_root(root, ROWS, key="IVF4,Flat")
    queries = vector_file(tmp_path, directions(40))

    def argv(name: str) -> list[str]:
        return ["--root", str(root), "--queries", queries, "--output", str(tmp_path / name), "--no-progress"]

    asked(capsys, *argv("whole.parquet"))
    answered: list[int] = []
    nearest = Searcher.nearest

    def dying(self: Searcher, vectors: NDArray[np.float32], *how: Any) -> Any:
        answered.append(len(vectors))
        if sum(answered) == 12:
            raise PixdexError("stopped")
        return nearest(self, vectors, *how)

    monkeypatch.setattr(Searcher, "nearest", dying)
    assert batch_search.main(argv("results.parquet")) == 1
    assert not (tmp_path / "results.parquet").exists()
    assert sum(answered) == 12
    capsys.readouterr()
    assert "is of another command that was stopped" in refused(capsys, *argv("results.parquet")[:-1], "-k", 3)

    assert hide.main(["--root", str(root), "k00"]) == 0  # another generation
    capsys.readouterr()
    assert asked(capsys, *argv("results.parquet"))["generation"] == 1
    assert sum(answered) == 12 + 40 - 9
    assert (tmp_path / "results.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert asked(capsys, *argv("later.parquet"))["generation"] == 2


def test_the_same_command_again_leaves_its_results(tmp_path: Path, capsys: Capture) -> None:
    make_root(tmp_path / "root", ROWS)
    output = tmp_path / "results.parquet"
    argv = ("--root", tmp_path / "root", "--queries", vector_file(tmp_path, directions(7)), "--output", output)
    first = asked(capsys, *argv)
    stat = output.stat()
    assert asked(capsys, *argv) == first | {"seconds": 0.0}
    assert output.stat() == stat
    assert "of something else: choose another --output" in refused(capsys, *argv, "-k", 3)
    output.write_bytes(b"mine")
    assert "of something else: choose another --output" in refused(capsys, *argv)
    assert output.read_bytes() == b"mine"


def test_queries_that_change_while_a_job_is_stopped_are_refused(tmp_path: Path, capsys: Capture) -> None:
    make_root(tmp_path / "root", ROWS)
    queries, output = vector_file(tmp_path, directions(7)), tmp_path / "results.parquet"
    argv = ("--root", tmp_path / "root", "--queries", queries, "--output", output)
    asked(capsys, *argv)
    batch = Batch.folder_of(f"file://{output}")
    assert batch.endswith("results.parquet.unfinished")
    vector_file(tmp_path, directions(8))
    assert "of something else" in refused(capsys, *argv)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--queries is missing"),
        (("--queries", "gone.npy"), "cannot be read"),
        (("--queries", "q.json"), "name a file that ends in"),
        (("--queries", "q3.npy"), "holds vectors of 3 components, this root takes 2"),
        (("--queries", "q.csv"), "name its column with --text-column or --image-column"),
        (("--queries", "q.csv", "--text-column", "text"), "the encoder of this root is the class tests:None"),
        (("--queries", "q.npy", "--text-column", "text"), "--text-column names a column"),
        (("--queries", "q.npy", "--vector-column", "v"), "--vector-column names a column"),
        (("--queries", "q.npy", "--output", "out/"), "give it a name that ends in .parquet"),
        (("--queries", "q.npy", "--output", ""), "--output is missing"),
        (("--queries", "q.npy", "-k", "0"), "-k"),
        (("--queries", "q.npy", "--where", "1 +"), "the condition '1 +' is not understood"),
        (("--queries", "q.npy", "--modality", "keyword"), "modality keyword: this index has none"),
        (("--queries", "q.npy", "--per-group", "2"), "per_group needs group_by"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_line(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    make_root(tmp_path / "root", ROWS)
    monkeypatch.chdir(tmp_path)
    np.save("q.npy", directions(3))
    np.save("q3.npy", np.ones((2, 3), np.float32))
    Path("q.csv").write_text("text\neast\n")
    output = () if "--output" in words else ("--output", "results.parquet")
    assert said in refused(capsys, "--root", "root", *words, *output)
    assert not Path("results.parquet").exists()


def test_a_command_that_answered_nothing_does_not_stand_in_the_way(tmp_path: Path, capsys: Capture) -> None:
    make_root(tmp_path / "root", ROWS)
    argv = ("--root", tmp_path / "root", "--queries", vector_file(tmp_path, directions(7)))
    output = ("--output", tmp_path / "results.parquet")
    assert "no row has a column colour" in refused(capsys, *argv, *output, "--columns", "colour")
    assert (tmp_path / "results.parquet.unfinished").is_dir()
    assert asked(capsys, *argv, *output)["results"] == 70

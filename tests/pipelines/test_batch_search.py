"""`pixdex batch-search`: what `search` finds for each query, in one file that appears when it is whole."""

import json
import shutil
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
    "words",
    [("--min-score", "0.9"), ("--where", "name < 'row 3'"), ("--nprobe", "1"), ("-k", "60"), ("--modality", "any")],
)
def test_what_else_is_asked_is_asked_of_each(tmp_path: Path, capsys: Capture, words: tuple[str, str]) -> None:
    make_root(tmp_path / "root", ROWS, key="IVF4,Flat")
    queries, output = directions(20), tmp_path / "results.parquet"
    asked(capsys, "--root", tmp_path / "root", "--queries", vector_file(tmp_path, queries), "--output", output, *words)
    value: Any = {"--min-score": float, "--nprobe": int, "-k": int}.get(words[0], str)(words[1])
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
    assert "has no column colour" in refused(
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


class Stopping:
    """Has searches stop after so many queries, and counts those that were answered."""

    def __init__(self, patch: pytest.MonkeyPatch, after: int) -> None:
        self.after, self.answered = after, 0
        nearest = Searcher.nearest

        def counted(searcher: Searcher, vectors: NDArray[np.float32], *how: Any) -> Any:
            if self.answered + len(vectors) > self.after:
                raise PixdexError("stopped")
            self.answered += len(vectors)
            return nearest(searcher, vectors, *how)

        patch.setattr(Searcher, "nearest", counted)


def job(folder: Path, name: str = "results.parquet") -> list[str]:
    files = ("--queries", folder / "queries.npy", "--output", folder / name)
    return [*map(str, ("--root", folder / "root", *files)), "--no-progress"]


@pytest.fixture
def stopped(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> Stopping:
    """A root, 40 queries, their results, and a job that was stopped after nine of them."""
    make_root(tmp_path / "root", ROWS, key="IVF4,Flat")
    vector_file(tmp_path, directions(40))
    asked(capsys, *job(tmp_path, "whole.parquet"))
    stopping = Stopping(monkeypatch, 10)
    assert batch_search.main(job(tmp_path)) == 1
    assert not (tmp_path / "results.parquet").exists()
    assert (stopping.answered, len(list(tmp_path.glob("results.parquet.*.unfinished")))) == (9, 1)
    capsys.readouterr()
    stopping.after = 1000
    return stopping


def test_a_job_that_was_stopped_goes_on_with_its_generation(tmp_path: Path, capsys: Capture, stopped: Stopping) -> None:
    assert hide.main(["--root", str(tmp_path / "root"), "k00"]) == 0  # another generation
    capsys.readouterr()
    assert asked(capsys, *job(tmp_path))["generation"] == 1
    assert stopped.answered == 40
    assert (tmp_path / "results.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not list(tmp_path.glob("*.unfinished"))
    assert "of another command or another generation than 2" in refused(capsys, *job(tmp_path))
    assert asked(capsys, *job(tmp_path, "later.parquet"))["generation"] == 2


def test_another_command_with_the_same_output_leaves_a_stopped_job_alone(
    tmp_path: Path, capsys: Capture, stopped: Stopping
) -> None:
    assert asked(capsys, *job(tmp_path), "-k", 3)["results"] == 120
    assert "of another command" in refused(capsys, *job(tmp_path))
    (tmp_path / "results.parquet").unlink()
    assert asked(capsys, *job(tmp_path))["results"] == 400
    assert stopped.answered == 9 + 40 + 31


@pytest.mark.usefixtures("stopped")
def test_a_root_that_was_made_anew_is_not_mixed_with_what_was_found_in_it(tmp_path: Path, capsys: Capture) -> None:
    shutil.rmtree(tmp_path / "root")
    make_root(tmp_path / "root", [Row(f"new{number}", unit(number * 9)) for number in range(40)], key="IVF4,Flat")
    assert "another generation 1 of" in refused(capsys, *job(tmp_path))
    assert not (tmp_path / "results.parquet").exists()
    assert "of another command or another generation" in refused(capsys, *job(tmp_path, "whole.parquet"))
    asked(capsys, *job(tmp_path, "other.parquet"))
    assert {row["key"][:3] for row in rows_of(tmp_path / "other.parquet")} == {"new"}


@pytest.mark.usefixtures("stopped")
def test_a_damaged_or_missing_part_is_answered_anew_or_named(tmp_path: Path, capsys: Capture) -> None:
    (folder,) = tmp_path.glob("*.unfinished")
    next((folder / "results").iterdir()).unlink()
    marker = next((folder / "parts").iterdir())
    good = marker.read_bytes()
    marker.write_bytes(b"{}")
    assert batch_search.main(job(tmp_path)) == 1
    assert f"remove file://{folder}, and run the same command again" in capsys.readouterr().err
    marker.write_bytes(good)
    asked(capsys, *job(tmp_path))
    assert (tmp_path / "results.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_a_launcher_whose_job_another_one_ends_is_content(tmp_path: Path, capsys: Capture, stopped: Stopping) -> None:
    nearest = Searcher.nearest

    def overtaken(searcher: Searcher, *how: Any) -> Any:
        (folder,) = tmp_path.glob("*.unfinished")
        shutil.rmtree(folder)
        (tmp_path / "results.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes())
        raise PixdexError("its folder is gone")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Searcher, "nearest", overtaken)
        assert asked(capsys, *job(tmp_path))["results"] == 400
    assert (stopped.answered, Searcher.nearest) == (9, nearest)
    assert not list(tmp_path.glob("*.unfinished"))


def test_the_same_command_again_leaves_its_results(tmp_path: Path, capsys: Capture) -> None:
    make_root(tmp_path / "root", ROWS)
    vector_file(tmp_path, directions(7))
    output = tmp_path / "results.parquet"
    first = asked(capsys, *job(tmp_path))
    stat = output.stat()
    assert asked(capsys, *job(tmp_path)) == first | {"seconds": 0.0}
    assert output.stat() == stat
    assert "of another command" in refused(capsys, *job(tmp_path), "-k", 3)
    output.write_bytes(b"mine")
    assert "of another command" in refused(capsys, *job(tmp_path))
    assert output.read_bytes() == b"mine"
    assert not list(tmp_path.glob("*.unfinished"))


@pytest.mark.usefixtures("stopped")
def test_other_queries_of_the_same_name_are_another_job(tmp_path: Path, capsys: Capture) -> None:
    vector_file(tmp_path, directions(8))
    assert asked(capsys, *job(tmp_path))["queries"] == 8


def test_a_query_that_is_less_than_nothing_has_no_answer(tmp_path: Path, capsys: Capture) -> None:
    root = compass_root(tmp_path / "root")
    (tmp_path / "q.txt").write_text("north\neast\nelse\nnorth\neast\n")
    output = tmp_path / "results.parquet"
    words = ("--queries", tmp_path / "q.txt", "--output", output, "-k", 1, "--not", "east")
    said = asked(capsys, "--root", root, *words)
    assert (said["queries"], said["unanswered"]) == (5, 2)
    assert [row["query"] for row in rows_of(output)] == [0, 2, 3]


def test_columns_have_the_type_that_they_have_or_text(tmp_path: Path, capsys: Capture) -> None:
    make_root(tmp_path / "root", ROWS[:20], ROWS[20:])
    vector_file(tmp_path, directions(30))
    asked(capsys, *job(tmp_path), "--columns", "name,part,name,id", "--min-score", "0.999")
    table = pq.read_table(tmp_path / "results.parquet")
    assert table.column_names == ["query", "rank", "score", "id", "key", "name", "part"]
    assert (table.schema.field("part").type, table.schema.field("name").type) == (pa.int32(), pa.string())
    assert "--columns score: results have a column of that name" in refused(
        capsys, *job(tmp_path, "other.parquet"), "--columns", "score"
    )


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
        (("--queries", "q.npy", "--output", "folder.parquet"), "is a folder"),
        (("--queries", "q.npy", "--output", "root/o.parquet"), "name another place"),
        (("--queries", "q.npy", "--output", "memory://o.parquet"), "name another place"),
        (("--queries", "q.npy", "--output", "~nobody_x/o.parquet"), "there is no such user"),
        (("--queries", "q.npy", "--output", "/proc/o.parquet"), "cannot be written"),
        (("--queries", "q.npy", "--not", "text"), "the encoder of this root is the class tests:None"),
        (("--queries", "q.npy", "--columns", "colour"), "has no column colour"),
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
    Path("folder.parquet").mkdir()
    output = () if "--output" in words else ("--output", "results.parquet")
    assert said in refused(capsys, "--root", "root", *words, *output)
    assert not Path("results.parquet").exists() and not list(tmp_path.glob("*.unfinished"))

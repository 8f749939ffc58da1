"""A CSV beside ready embeddings is counted, and read by row from a copy that is made once."""

import csv
import gzip
import io
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.ready import random_vectors, save_npy
from transforms.errors import PixdexError, UsageError
from transforms.records import Source
from transforms.shards import ready_files
from transforms.sources.ready import csv_copy, vectors
from transforms.storage.cache_folder import cache_folder

cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=12)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    return cache_folder() / "metadata"


def write(file: Path, rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    data = text.getvalue().encode()
    file.write_bytes(gzip.compress(data) if file.suffix == ".gz" else data)
    return f"file://{file}"


def copy_of(uri: str) -> Path:
    return csv_copy.parquet_of(uri, ready_files.stat(uri)[1])


def beside(folder: Path, metadata: str, rows: int = 2) -> list[vectors.ReadyFile]:
    save_npy(folder / "v.npy", random_vectors(rows, 4))
    source = Source("vectors", f"file://{folder}/v.npy", metadata=metadata)
    return list(vectors.read_heads([source], vectors.files_of([source])))


@given(rows=st.lists(st.tuples(cells, cells), max_size=9), packed=st.booleans())
def test_a_copy_has_the_cells_of_its_csv_as_they_are_spelled(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], packed: bool
) -> None:
    file = tmp_path_factory.mktemp("csv") / ("m.csv.gz" if packed else "m.csv")
    written = [[f"x{one}", other] for one, other in rows]  # a row of nothing is a blank line, which is no row
    uri = write(file, [["name", "caption"], *written])
    count, names = csv_copy.read_head(uri)
    assert (count, names) == (len(rows), ["name", "caption"])
    table = pq.read_table(copy_of(uri))
    assert [list(row.values()) for row in table.to_pylist()] == written


def test_a_copy_is_made_once_and_anew_of_another_version(tmp_path: Path, cache: Path) -> None:
    uri = write(tmp_path / "m.csv", [["a"], ["1"]])
    first = copy_of(uri)
    made = first.stat().st_mtime_ns
    assert copy_of(uri) == first and first.stat().st_mtime_ns == made
    write(tmp_path / "m.csv", [["a"], ["1"], ["2"]])
    second = copy_of(uri)
    assert second != first and pq.read_table(second)["a"].to_pylist() == ["1", "2"]
    assert list(cache.iterdir()) == [second]


def test_what_a_process_left_half_made_goes_and_what_is_being_made_stays(tmp_path: Path, cache: Path) -> None:
    cache.mkdir(parents=True)
    old, young = cache / ".making-old", cache / ".making-young"
    for file in (old, young):
        file.write_bytes(b"half")
    os.utime(old, (1, 1))
    copy_of(write(tmp_path / "m.csv", [["a"], ["1"]]))
    assert not old.exists() and young.exists()


def test_a_csv_that_is_written_meanwhile_leaves_no_copy(tmp_path: Path, cache: Path) -> None:
    uri = write(tmp_path / "m.csv", [["a"], ["1"]])
    with pytest.raises(PixdexError, match=r"m\.csv was written while it was read"):
        csv_copy.parquet_of(uri, "stat:another")
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(PixdexError, match=r"cannot take the copy of a CSV .*: set XDG_CACHE_HOME"):
        copy_of(write(tmp_path / "m.csv", [["a"], ["1"]]))


def test_a_csv_is_metadata_with_a_row_for_each_vector(tmp_path: Path) -> None:
    uri = write(tmp_path / "m.csv", [["caption"], ["one\nand more"], ["two"]])
    (head,) = beside(tmp_path, uri)
    assert (head.vectors.metadata, head.vectors.metadata_version) == (uri, ready_files.stat(uri)[1])


def test_a_csv_goes_with_the_file_of_its_name(tmp_path: Path) -> None:
    for number in (1, 2):
        save_npy(tmp_path / f"v_{number}.npy", random_vectors(number, 4))
        write(tmp_path / f"m_0{number}.csv.gz", [["caption"], *[["x"]] * number])
    source = Source("vectors", f"file://{tmp_path}/*.npy", metadata=f"file://{tmp_path}/*.csv.gz")
    found = list(vectors.read_heads([source], vectors.files_of([source])))
    assert [str(head.vectors.metadata)[-11:] for head in found] == ["m_01.csv.gz", "m_02.csv.gz"]


REFUSED = {
    "too few rows": ([["a"], ["1"]], r"m\.csv has 1 rows, .*v\.npy has 2 vectors"),
    "an odd row": ([["a", "b"], ["1", "2"], ["3"]], r"m\.csv, line 3: the row has 1 cells, the header 2"),
    "a name twice": ([["a", "a"], ["1", "2"], ["3", "4"]], r"m\.csv has several columns a"),
    "nothing": ([], r"m\.csv has 0 rows"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_metadata_is_refused_in_one_line(tmp_path: Path, what: str) -> None:
    rows, words = REFUSED[what]
    with pytest.raises(UsageError, match=f"^--metadata file://.*{words}") as refused:
        beside(tmp_path, write(tmp_path / "m.csv", rows))
    assert "\n" not in str(refused.value) and "--csv" not in str(refused.value)


def test_a_quotation_mark_that_nothing_closes_is_named_by_its_flag(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text('a\n"1\n2\n')
    with pytest.raises(UsageError, match=r"^--metadata file://.*m\.csv: no quotation mark closes the one in line 2"):
        beside(tmp_path, f"file://{tmp_path}/m.csv")

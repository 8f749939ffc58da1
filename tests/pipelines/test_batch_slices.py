"""`pixdex batch-search` of an index in slices: it finds what the whole does, and no worker has it all."""

import csv
import fcntl
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import batch_search, build, reindex
from transforms.batch import plan, slices, vectors
from transforms.errors import PixdexError
from transforms.generations.published import open_generation
from transforms.index.lists import merge, writer
from transforms.index.lists.format import fence_spacing
from transforms.search import slices as search_slices
from transforms.search.searcher import Searcher
from transforms.search.slices import slices_of
from transforms.storage.cache_folder import cache_folder
from transforms.storage.store import Store

Capture = pytest.CaptureFixture[str]
ENCODER = ("--encoder", "tests.encoders:TinyEncoder", "--no-progress")
WORDS = ("red", "green", "blue", "round", "square", "small", "large", "old", "new", "loud")
SLICE = "8K"


def table(path: Path, numbers: range) -> Path:
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["id", "text", "tags", "price", "group"])
        for number in numbers:
            words = [WORDS[number // 10**place % 10] for place in range(3)]
            out.writerow([number, f"{' '.join(words)} {number}", ";".join(words), number % 97, f"g{number % 7}"])
    return path


@pytest.fixture(scope="module", params=["IVF16,SQ8", pytest.param("IVF16,Flat", marks=pytest.mark.gate)])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A root on an object store, of texts and keywords; a night has added some and removed others."""
    folder, url = tmp_path_factory.mktemp("slices"), f"memory://slices-{uuid.uuid4().hex}/root"
    file = table(folder / "rows.csv", range(600))
    source = ("--csv", str(file), "--key-column", "id", "--text-column", "text", "--keyword-column", "tags")
    words = ("--keyword-separator", ";", "--index-key", request.param, *ENCODER)
    with pytest.MonkeyPatch.context() as patch:
        for module in (writer, merge):  # of few rows as much as of many
            patch.setattr(module, "fence_spacing", lambda lists, size, _: fence_spacing(lists, size, 1))
        assert build.main(["--root", url, *source, *words]) == 0
    table(file, range(15, 650))
    assert reindex.main(["--root", url, "--max-tombstones", "1", "--no-progress", "--max-gone-ratio", "1"]) == 0
    store = Store.at(url)
    generation = open_generation(store)
    assert generation.totals.tombstones > 0 and generation.is_segmented
    assert len(slices_of(store, generation, 8 << 10)) > 3
    yield url


@pytest.fixture
def queries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(plan, "ENCODED_A_PART", 9)
    monkeypatch.setattr(slices, "PARTS_AT_ONCE", 2)
    file = tmp_path / "q.txt"
    file.write_text("\n".join(["red round old", "", "blue large", "loud 7", *(f"new {word}" for word in WORDS * 4)]))
    return file


def answered(root: str, queries: Path, name: str, *words: str) -> pa.Table:
    output = queries.parent / name
    argv = ["--root", root, "--queries", str(queries), "--output", str(output), "--no-progress", *words]
    assert batch_search.main(argv) == 0
    assert not list(queries.parent.glob("*.unfinished"))
    return pq.read_table(output).replace_schema_metadata(None)


def are_close(one: pa.Table, other: pa.Table) -> bool:
    """The same results; the last bits of scores may differ."""
    same: bool = one.drop_columns("score").equals(other.drop_columns("score"))
    return same and one["score"].to_pylist() == pytest.approx(other["score"].to_pylist(), abs=1e-6)


@pytest.fixture
def only_slices(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Has no worker open the whole index from when it is called."""

    def refused(*_: Any) -> None:
        raise AssertionError("the whole index was opened")

    return lambda: monkeypatch.setattr(search_slices, "open_index", refused)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--modality", "text"),
        ("--modality", "keyword", "-k", "3"),
        ("--where", "price < 90"),
        ("--where", "price < 3"),
        ("--modality", "text", "--min-score", "0.5"),
        ("--nprobe", "2", "--columns", "text"),
        ("--not", "green"),
    ],
    ids=" ".join,
)
def test_slices_find_what_the_whole_finds(
    root: str, queries: Path, only_slices: Callable[[], None], words: tuple[str, ...]
) -> None:
    whole = answered(root, queries, "whole.parquet", *words)
    assert whole.num_rows > 30
    only_slices()
    assert are_close(answered(root, queries, "sliced.parquet", *words, "--slice-bytes", SLICE), whole)


@pytest.mark.parametrize(
    "words",
    # Where many codes are equal, any of them are ranked by their vectors: which may differ from slice to slice.
    [("-k", "400"), ("--modality", "any", "--min-score", "0.5", "--shortlist", "0"), ("--expand", "3")],
    ids=" ".join,
)
def test_what_must_look_further_looks_at_the_whole(root: str, queries: Path, words: tuple[str, ...]) -> None:
    whole = answered(root, queries, "whole.parquet", *words)
    assert are_close(answered(root, queries, "sliced.parquet", *words, "--slice-bytes", SLICE), whole)


def test_a_job_that_is_stopped_scans_no_slice_twice(
    root: str, queries: Path, only_slices: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    whole = answered(root, queries, "whole.parquet")
    only_slices()
    first_scan, most = Searcher.first_scan, 7
    scanned: list[int] = []

    def stopping(searcher: Searcher, *how: Any) -> Any:
        if len(scanned) == most:
            raise PixdexError("stopped")
        scanned.append(len(scanned))
        return first_scan(searcher, *how)

    monkeypatch.setattr(Searcher, "first_scan", stopping)
    argv = ["--root", root, "--queries", str(queries), "--output", str(queries.parent / "o.parquet"), "--no-progress"]
    assert batch_search.main([*argv, "--slice-bytes", SLICE]) == 1
    assert "stopped" in capsys.readouterr().err
    most = 10_000
    assert are_close(answered(root, queries, "o.parquet", "--slice-bytes", SLICE), whole)
    store = Store.at(root)
    parts = -(-len(queries.read_text().splitlines()) // plan.ENCODED_A_PART)
    assert len(scanned) == parts * len(slices_of(store, open_generation(store), 8 << 10))


def test_what_a_slice_found_is_named_when_it_is_damaged_and_is_not_needed_when_it_is_gone(
    root: str, queries: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    whole = answered(root, queries, "whole.parquet")

    def damaging(*_: Any) -> None:
        (folder,) = queries.parent.glob("*.unfinished")
        file = next(folder.glob("slices-*/slice-*/*.npz"))
        file.write_bytes(bytes(file.stat().st_size))
        raise PixdexError("stopped")

    argv = ["--root", root, "--queries", str(queries), "--output", str(queries.parent / "o.parquet"), "--no-progress"]
    with monkeypatch.context() as patched:
        patched.setattr(Searcher, "nearest", damaging)
        assert batch_search.main([*argv, "--slice-bytes", SLICE]) == 1
    capsys.readouterr()
    assert batch_search.main([*argv, "--slice-bytes", SLICE]) == 1
    (folder,) = queries.parent.glob("*.unfinished")
    assert f"remove file://{folder}, and run the same command again" in capsys.readouterr().err
    for file in folder.glob("slices-*/slice-*/*.npz"):
        file.unlink()
    assert are_close(answered(root, queries, "o.parquet", "--slice-bytes", "1G"), whole)  # not in slices now


def test_a_slice_leaves_no_file_behind_and_sweeps_what_the_dead_left(
    root: str, queries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(queries.parent / "cache"))
    slices_made = cache_folder() / "slices"
    dead, living = (slices_made / f".making-{name}" for name in ("dead", "living"))
    for folder in (dead, living):
        folder.mkdir(parents=True)
        os.utime(folder, (0, 0))
    lock = os.open(living, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    answered(root, queries, "o.parquet", "--slice-bytes", SLICE)
    os.close(lock)
    assert list(slices_made.iterdir()) == [living]


def test_no_room_for_a_slice_is_said_with_the_way_out(
    root: str, queries: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (queries.parent / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(queries.parent / "file"))
    argv = ["--root", root, "--queries", str(queries), "--output", str(queries.parent / "o.parquet"), "--no-progress"]
    assert batch_search.main([*argv, "--slice-bytes", SLICE]) == 1
    said = capsys.readouterr().err
    assert "of the index (take smaller slices, --slice-bytes" in said and "set XDG_CACHE_HOME to a folder" in said
    monkeypatch.undo()
    answered(root, queries, "o.parquet", "--slice-bytes", "4K")  # a way out: other slices, of the same job


def test_what_was_found_for_other_vectors_is_not_taken(
    root: str, queries: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def stopped(*_: Any) -> None:
        raise PixdexError("stopped")

    whole = answered(root, queries, "whole.parquet")
    argv = ["--root", root, "--queries", str(queries), "--output", str(queries.parent / "o.parquet"), "--no-progress"]
    with monkeypatch.context() as patched:
        patched.setattr(Searcher, "nearest", stopped)
        patched.setattr(vectors, "_prepared", lambda _, made, __: (made[::-1].copy(), np.arange(len(made)), {}))
        assert batch_search.main([*argv, "--slice-bytes", SLICE]) == 1
    capsys.readouterr()
    (folder,) = queries.parent.glob("*.unfinished")
    for file in folder.glob("vectors/*.npz"):
        file.unlink()
    assert are_close(answered(root, queries, "o.parquet", "--slice-bytes", SLICE), whole)


def test_a_condition_that_leaves_few_rows_opens_no_slice(
    root: str, queries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "SQ8" not in open_generation(Store.at(root)).trained.key:
        pytest.skip("codes that are exact are scanned")
    monkeypatch.setattr(slices, "open_slice", None)
    monkeypatch.setattr(search_slices, "open_index", None)
    found = answered(root, queries, "o.parquet", "--where", "price < 3", "--slice-bytes", SLICE)
    assert found.num_rows > 40
    assert not answered(root, queries, "none.parquet", "--where", "price < 0", "--slice-bytes", SLICE).num_rows

"""Ready embeddings are found by file, folder or glob, and their headers say what they hold."""

import os
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.transforms.ready import random_vectors, save_npy, save_parquet
from transforms.errors import UsageError
from transforms.records import Source
from transforms.shards import ready_files
from transforms.sources import vectors
from transforms.sources.vectors import ReadyFile


def source(pattern: Path, metadata: Path | None = None) -> Source:
    beside = f"file://{metadata}" if metadata else None
    return Source("vectors", f"file://{pattern}", vector_column="embedding", metadata=beside)


def heads(*sources: Source) -> list[ReadyFile]:
    return list(vectors.read_heads(sources, vectors.files_of(sources)))


def names(*sources: Source) -> list[str]:
    return [file.uri.rpartition("/")[2] for file in vectors.files_of(sources)]


def test_a_folder_means_every_npy_and_parquet_file_below_it(tmp_path: Path) -> None:
    for name in ("b.npy", "a/deep/c.npy", ".hidden.npy", ".hidden/d.npy", "a b.NPY"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        with (tmp_path / name).open("wb") as stream:
            np.save(stream, random_vectors(1, 4))
    save_parquet(tmp_path / "z.parquet", random_vectors(1, 4))
    (tmp_path / "notes.txt").write_text("no vectors")
    assert names(source(tmp_path)) == ["c.npy", "a b.NPY", "b.npy", "z.parquet"]


def test_a_glob_means_exactly_the_files_it_matches_in_order_of_their_paths(tmp_path: Path) -> None:
    for name in ("x_10.npy", "x_2.npy", "y.npy", "deep/x_1.npy"):
        save_npy(tmp_path / name, random_vectors(1, 4))
    assert names(source(tmp_path / "x_*.npy")) == ["x_10.npy", "x_2.npy"]


def test_a_name_with_a_bracket_is_a_name_where_there_is_such_a_file(tmp_path: Path) -> None:
    save_npy(tmp_path / "x[1].npy", random_vectors(1, 4))
    assert names(source(tmp_path / "x[1].npy")) == ["x[1].npy"]


def test_a_file_that_two_globs_match_counts_once(tmp_path: Path) -> None:
    for name in ("a.npy", "b.npy"):
        save_npy(tmp_path / name, random_vectors(1, 4))
    found = vectors.files_of([source(tmp_path / "b.npy"), source(tmp_path / "*.npy")])
    assert [(file.source, file.uri[-5:]) for file in found] == [(0, "b.npy"), (1, "a.npy")]


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("dtype", ["<f2", "<f4"])
def test_every_version_of_the_header_is_read(tmp_path: Path, version: tuple[int, int], dtype: str) -> None:
    array = random_vectors(7, 3, dtype)
    file = tmp_path / "a.npy"
    with file.open("wb") as stream:
        np.lib.format.write_array(stream, array, version)
    head = ready_files.npy_head(f"file://{file}", file.stat().st_size)
    assert (head.rows, head.dim, head.dtype) == (7, 3, dtype)
    assert file.read_bytes()[head.offset :] == array.tobytes()


def test_a_long_header_is_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    header = b"{'descr': '<f2', 'fortran_order': False, 'shape': (1, 2), }".ljust(9000) + b"\n"
    file.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(4))
    assert heads(source(file))[0].dim == 2


def test_headers_say_rows_dimension_and_version(tmp_path: Path) -> None:
    npy = save_npy(tmp_path / "a.npy", random_vectors(9, 4))
    parquet = save_parquet(tmp_path / "b.parquet", random_vectors(5, 4, "<f4"), "fixed")
    one, other = heads(source(tmp_path))
    assert (one.vectors.format, one.vectors.start, one.vectors.stop, one.dim) == ("npy", 0, 9, 4)
    assert (other.vectors.format, other.vectors.column, other.vectors.stop, other.dim) == (
        "parquet", "embedding", 5, 4,
    )  # fmt: skip
    assert one.vectors.version == f"stat:{npy.stat().st_size}-{npy.stat().st_mtime}"
    assert other.vectors.uri == f"file://{parquet}"


def test_the_version_is_that_of_the_file_behind_a_link(tmp_path: Path) -> None:
    file = save_npy(tmp_path / "real" / "a.npy", random_vectors(2, 4))
    (tmp_path / "link.npy").symlink_to(file)
    before = heads(source(tmp_path / "*.npy"))[0].vectors.version
    os.utime(file, (1, 1))
    assert heads(source(tmp_path / "*.npy"))[0].vectors.version != before


def test_the_dimension_of_lists_is_that_of_the_first_vector(tmp_path: Path) -> None:
    file = save_parquet(tmp_path / "a.parquet", [None, [], [1.0, 2.0, 3.0]])
    assert heads(source(file))[0].dim == 3


def test_files_without_rows_are_fine_and_leave_the_dimension_to_others(tmp_path: Path) -> None:
    save_parquet(tmp_path / "a.parquet", np.empty((0, 4), np.float32))
    save_npy(tmp_path / "b.npy", np.empty((0, 4), np.float16))
    assert [(file.vectors.stop, file.dim) for file in heads(source(tmp_path))] == [(0, None), (0, 4)]
    assert vectors.dimension([source(tmp_path)]) == 4


def test_the_dimension_is_asked_of_no_more_sources_than_needed(tmp_path: Path) -> None:
    save_npy(tmp_path / "one" / "a.npy", random_vectors(0, 5))
    save_npy(tmp_path / "two" / "a.npy", random_vectors(3, 7))
    (tmp_path / "two" / "b.npy").write_bytes(b"")
    sources = [Source("vectors", f"file://{tmp_path}/{name}") for name in ("one", "two", "none")]
    assert vectors.dimension(sources[:1]) == vectors.dimension(sources) == 5
    assert vectors.dimension(sources[1:]) == 7


def test_objects_of_a_store_are_listed_and_read_too(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/ready/a.npy", save_npy(tmp_path / "a.npy", random_vectors(3, 4)).read_bytes())
    memory.pipe_file("/ready/b.parquet", save_parquet(tmp_path / "b.parquet", random_vectors(2, 4)).read_bytes())
    try:
        for pattern in ("memory://ready", "memory://ready/*"):
            found = heads(Source("vectors", pattern, vector_column="embedding"))
            assert [(file.vectors.uri, file.vectors.stop, file.dim) for file in found] == [
                ("memory:///ready/a.npy", 3, 4), ("memory:///ready/b.parquet", 2, 4),
            ]  # fmt: skip
    finally:
        memory.rm("/ready", recursive=True)


def test_metadata_follow_the_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    for number in (0, 1):
        save_npy(tmp_path / f"v/{number}.npy", random_vectors(number + 1, 4))
        (tmp_path / "m").mkdir(exist_ok=True)
        pq.write_table(pa.table({"caption": ["x"] * (number + 1)}), tmp_path / f"m/{number}.parquet")
    found = heads(source(tmp_path / "v", tmp_path / "m"))
    beside = [f"file://{tmp_path}/m/{number}.parquet" for number in (0, 1)]
    assert [file.vectors.metadata for file in found] == beside
    assert [file.vectors.metadata_version for file in found] == [ready_files.stat(uri)[1] for uri in beside]


def long_header(file: Path) -> None:
    file.write_bytes(b"\x93NUMPY\x02\x00" + (1 << 31).to_bytes(4, "little") + b"{")


def cut_short(file: Path) -> None:
    save_npy(file, random_vectors(8, 4))
    file.write_bytes(file.read_bytes()[:-1])


def fortran(file: Path) -> None:
    np.save(file, np.asfortranarray(random_vectors(8, 4)))


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "not npy": (lambda file: file.write_bytes(b"no"), "is no .npy file: write one with numpy.save"),
    "empty": (lambda file: file.write_bytes(b""), "is no .npy file"),
    "npz": (lambda file: file.write_bytes(b"PK\x03\x04" + bytes(99)), "is no .npy file"),
    "damaged": (lambda file: file.write_bytes(b"\x93NUMPY\x01\x00\x04\x00{'a}"), "damaged .npy header"),
    "endless header": (long_header, "damaged .npy header"),
    "one vector": (lambda file: np.save(file, np.ones(4, np.float32)), r"shape \(4,\): vectors are rows"),
    "no components": (lambda file: np.save(file, np.ones((4, 0), np.float32)), r"shape \(4, 0\)"),
    "double": (lambda file: np.save(file, np.ones((2, 4))), r"holds <f8, .*: save array.astype\('<f4'\)"),
    "integers": (lambda file: np.save(file, np.ones((2, 4), np.int8)), r"holds \|i1, .*astype"),
    "big endian": (lambda file: np.save(file, np.ones((2, 4), ">f4")), "holds >f4, .*astype"),
    "objects": (lambda file: np.save(file, np.array([[None]]), allow_pickle=True), r"holds \|O"),
    "records": (lambda file: np.save(file, np.zeros((2, 2), [("a", "<f4")])), "holds records"),
    "columns first": (fortran, "column by column: save numpy.ascontiguousarray"),
    "cut short": (cut_short, "8 vectors of 4 <f2 take 192 bytes, it has 191: copy it again"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_npy_file_that_holds_no_vectors_is_refused_by_name(tmp_path: Path, what: str) -> None:
    make, words = REFUSED[what]
    make(tmp_path / "bad.npy")
    with pytest.raises(UsageError, match=rf"bad\.npy .*{words}") as refused:
        heads(source(tmp_path))
    assert "\n" not in str(refused.value)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npy")
    with pytest.raises(UsageError, match=r"a\.npy cannot be read \(not a regular file\)"):
        heads(source(tmp_path / "a.npy"))


def no_parquet(file: Path) -> None:
    file.write_bytes(b"PAR1 and no more")


def no_column(file: Path) -> None:
    save_parquet(file, random_vectors(1, 4), column="vector")


def doubles(file: Path) -> None:
    pq.write_table(pa.table({"embedding": pa.array([[1.0]], pa.list_(pa.float64()))}), file)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (no_parquet, "cannot be read as parquet .*: write it anew"),
        (no_column, "has no column embedding; it has vector: name one with --vector-column"),
        (doubles, r"column embedding is list<.*double>, vectors are lists of halffloat or float"),
    ],
)
def test_a_parquet_file_that_holds_no_vectors_is_refused_by_name(
    tmp_path: Path, make: Callable[[Path], None], words: str
) -> None:
    make(tmp_path / "bad.parquet")
    with pytest.raises(UsageError, match=rf"bad\.parquet.* {words}") as refused:
        heads(source(tmp_path))
    assert "\n" not in str(refused.value)


def test_files_of_another_dimension_are_refused_by_name(tmp_path: Path) -> None:
    save_npy(tmp_path / "a.npy", random_vectors(1, 4))
    save_npy(tmp_path / "b.npy", random_vectors(1, 5))
    with pytest.raises(UsageError, match=r"b\.npy has vectors of 5 components, the first file of 4"):
        vectors.check_dimension(heads(source(tmp_path)), 4)


def test_nothing_to_read_is_refused(tmp_path: Path) -> None:
    for pattern in (tmp_path / "none", tmp_path / "*.npy", tmp_path):
        with pytest.raises(UsageError, match="matches no file"):
            vectors.files_of([source(pattern)])
    save_npy(tmp_path / "a.npy", random_vectors(1, 4))
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UsageError, match=r"a\.txt, which is not \.npy or \.parquet"):
        vectors.files_of([source(tmp_path / "a.*")])
    with pytest.raises(UsageError, match="nosuch"):
        vectors.files_of([Source("vectors", "nosuch://x")])


def test_metadata_that_do_not_fit_are_refused_with_counts(tmp_path: Path) -> None:
    save_npy(tmp_path / "a.npy", random_vectors(3, 4))
    pq.write_table(pa.table({"caption": ["x"] * 2}), tmp_path / "m.parquet")
    with pytest.raises(UsageError, match=r"m\.parquet has 2 rows, .*a\.npy has 3 vectors"):
        heads(source(tmp_path / "*.npy", tmp_path / "m.parquet"))
    pq.write_table(pa.table({"caption": ["x"] * 2}), tmp_path / "n.parquet")
    with pytest.raises(UsageError, match=r"--metadata .* matches 2 files, --vectors .* 1: they must be as many"):
        heads(source(tmp_path / "*.npy", tmp_path / "*.parquet"))
    save_parquet(tmp_path / "v" / "b.parquet", random_vectors(3, 4))
    with pytest.raises(UsageError, match=r"goes with \.npy files, .*b\.parquet is none"):
        heads(source(tmp_path / "v", tmp_path / "m.parquet"))

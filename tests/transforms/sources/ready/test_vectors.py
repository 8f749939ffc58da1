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
from transforms.sources.ready import vectors
from transforms.sources.ready.vectors import ReadyFile


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


def test_metadata_go_with_the_files_of_their_names(tmp_path: Path) -> None:
    for number in (0, 1):
        save_npy(tmp_path / f"v/{number}.npy", random_vectors(number + 1, 4))
        (tmp_path / "m").mkdir(exist_ok=True)
        pq.write_table(pa.table({"caption": ["x"] * (number + 1)}), tmp_path / f"m/{number}.parquet")
    found = heads(source(tmp_path / "v", tmp_path / "m"))
    beside = [f"file://{tmp_path}/m/{number}.parquet" for number in (0, 1)]
    assert [file.vectors.metadata for file in found] == beside
    assert [file.vectors.metadata_version for file in found] == [ready_files.stat(uri)[1] for uri in beside]


PAIRS = {
    "padded on one side": ([f"img_emb_{n:02d}" for n in range(12)], [f"metadata_{n}" for n in range(12)]),
    "words": (["cats_emb", "cows_emb"], ["meta-cats", "meta-cows"]),
    "folders": (["a/v_0", "b/v_0"], ["a/m_0", "b/m_0"]),
    "numbers that begin alike": (["v_100", "v_101"], ["m_101", "m_100"]),
    "one of each": (["v_3"], ["anything"]),
    "a name that is the beginning of another": (["v", "v_2"], ["m", "m_2"]),
}
NO_PAIRS = {
    "other numbers": (["v_100", "v_101"], ["m_0", "m_1"]),
    "numbers and words": (["v_0", "v_1"], ["m_a", "m_b"]),
    "one number twice": (["v_1", "v_2"], ["m_1", "m_01"]),
    "counted from another start": ([f"v_{n}" for n in range(3)], [f"m_{n}" for n in range(1, 4)]),
    "no common part": (["x", "y"], ["m", "n"]),
}


def write_pairs(folder: Path, stems: tuple[list[str], list[str]]) -> Source:
    for stem in stems[0]:
        save_npy(folder / f"v/{stem}.npy", random_vectors(1, 4))
    for stem in stems[1]:
        (folder / f"m/{stem}").parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"caption": [stem]}), folder / f"m/{stem}.parquet")
    return source(folder / "v", folder / "m")


@pytest.mark.parametrize("case", PAIRS)
def test_files_are_paired_by_what_their_names_say_and_not_by_their_order(tmp_path: Path, case: str) -> None:
    found = vectors.files_of([write_pairs(tmp_path, PAIRS[case])])
    pairs = {(file.uri.rpartition("/v/")[2][:-4], str(file.metadata).rpartition("/m/")[2][:-8]) for file in found}
    wanted = {"numbers that begin alike": {("v_100", "m_100"), ("v_101", "m_101")}}
    assert pairs == wanted.get(case, set(zip(*PAIRS[case], strict=True)))


@pytest.mark.parametrize("case", NO_PAIRS)
def test_files_whose_names_do_not_agree_are_refused_with_both_lists(tmp_path: Path, case: str) -> None:
    with pytest.raises(UsageError, match=r"no names that belong together.*Vectors: .*\.npy.*Metadata: .*\.parquet"):
        vectors.files_of([write_pairs(tmp_path, NO_PAIRS[case])])


def saved_three_times(file: Path) -> None:
    with file.open("wb") as stream:
        for _ in range(3):
            np.save(stream, random_vectors(10, 4))


def two_arrays(file: Path) -> None:
    with file.open("wb") as stream:
        np.save(stream, random_vectors(2, 4))
        np.save(stream, np.arange(16))


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
    "saved three times": (saved_three_times, "has 416 bytes behind the 10 vectors .* save numpy.concatenate"),
    "one byte too many": (
        lambda file: file.write_bytes(save_npy(file, random_vectors(2, 4)).read_bytes() + b"\0"),
        "has 1 bytes behind the 2 vectors",
    ),
    "padded to a page": (
        lambda file: file.write_bytes(save_npy(file, random_vectors(2, 4)).read_bytes().ljust(4096, b"\0")),
        "has 3952 bytes behind the 2 vectors",
    ),
    "another array behind it": (two_arrays, "has 256 bytes behind the 2 vectors"),
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


@pytest.mark.parametrize("twice", ["url", "embedding"])
def test_a_table_with_two_columns_of_one_name_is_refused_with_the_name(tmp_path: Path, twice: str) -> None:
    column = {"url": pa.array(["a", "b"]), "embedding": pa.array([[1.0, 0.0], [0.0, 1.0]], pa.list_(pa.float32()))}
    table = pa.Table.from_arrays([*column.values(), column[twice]], [*column, twice])
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(UsageError, match=rf"t\.parquet has several columns {twice}"):
        heads(source(tmp_path / "t.parquet"))
    save_npy(tmp_path / "v.npy", random_vectors(2, 4))
    with pytest.raises(UsageError, match=rf"--metadata .*t\.parquet has several columns {twice}"):
        heads(source(tmp_path / "v.npy", tmp_path / "t.parquet"))


@pytest.mark.parametrize("twice", ["image", "images", "map"])
def test_a_struct_with_two_fields_of_one_name_is_refused_with_the_name(tmp_path: Path, twice: str) -> None:
    struct = pa.struct([("url", pa.string()), ("url", pa.string())])
    kind = {"image": struct, "images": pa.list_(pa.struct([("one", struct)])), "map": pa.map_(pa.string(), struct)}[
        twice
    ]
    vector = pa.array([[1.0, 0.0]], pa.list_(pa.float32()))
    pq.write_table(pa.table({"embedding": vector, twice: pa.nulls(1, kind)}), tmp_path / "t.parquet")
    with pytest.raises(
        UsageError, match=rf"t\.parquet has several columns {twice}.*\.?url: give each a name of its own"
    ):
        heads(source(tmp_path / "t.parquet"))


@pytest.mark.parametrize("odd", [[1.0], [1.0] * 9, []])
def test_one_odd_row_at_the_beginning_does_not_decide_the_dimension(tmp_path: Path, odd: list[float]) -> None:
    rows = pa.array([odd, None, *[[0.0, 1.0, 2.0]] * 5], pa.list_(pa.float32()))
    pq.write_table(pa.table({"embedding": rows}), tmp_path / "t.parquet")
    assert vectors.dimension([source(tmp_path / "t.parquet")]) == 3


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

"""A file that is compressed is read as what it holds; one that is damaged or cut short is refused, whole."""

import gzip
import struct
from argparse import Namespace
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.running.batch import queries_of
from tests.transforms.sources.csv_files import rows, source
from transforms.batch.plan import texts_of
from transforms.batch.request import Queries
from transforms.errors import UsageError
from transforms.proof import judgements
from transforms.sources import items, table_rows

TEXT = b"id,text\n" + b"".join(b"%d,red %d\n" % (number, number * 7919 % 1013) for number in range(2000))


def zstd(content: bytes) -> bytes:
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "zstd") as stream:
        stream.write(content)
    return bytes(out.getvalue().to_pybytes())


def texts(file: Path) -> list[str]:
    table_rows.check(source(file, text_column="text"))
    return [row[items.TEXT] for row in rows(file, text_column="text")]


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
@pytest.mark.parametrize("name", ["rows.csv.gz", "rows.csv.zst", "rows.csv"])
def test_a_file_is_read_whatever_it_is_called(tmp_path: Path, pack: object, name: str) -> None:
    assert callable(pack)
    (tmp_path / name).write_bytes(pack(TEXT))
    assert len(texts(tmp_path / name)) == 2000


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(TEXT[:9000]) + gzip.compress(TEXT[9000:]),
        zstd(TEXT[:9000]) + zstd(TEXT[9000:]),
        struct.pack("<II", 0x184D2A50, 4) + b"size" + zstd(TEXT),
        TEXT,
    ],
    ids=["members", "frames", "skippable frame", "not at all"],
)
def test_what_is_compressed_in_parts_is_one_file(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "rows.csv.gz"
    file.write_bytes(content)
    assert len(texts(file)) == 2000


def test_tabs_stand_between_the_cells_of_a_tsv_that_is_compressed(tmp_path: Path) -> None:
    (tmp_path / "rows.tsv.gz").write_bytes(gzip.compress(b"text\tn\na,b\t1\n"))
    assert texts(tmp_path / "rows.tsv.gz") == ["a,b"]


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_a_file_that_is_cut_short_anywhere_is_refused(tmp_path: Path, pack: object) -> None:
    assert callable(pack)
    whole = pack(TEXT)
    file = tmp_path / "rows.csv.gz"
    for size in (5, 11, 400, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(UsageError, match=rf"--csv file://{file} is (damaged or cut short: .* again|empty: its)"):
            texts(file)


def test_a_damaged_byte_is_found_by_the_checksum(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(TEXT))
    whole[-6] ^= 1
    (tmp_path / "rows.csv.gz").write_bytes(whole)
    with pytest.raises(UsageError, match="damaged or cut short: it is compressed with gzip"):
        texts(tmp_path / "rows.csv.gz")


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_what_unpacks_to_one_endless_row_is_refused_by_its_limit(tmp_path: Path, pack: object) -> None:
    assert callable(pack)
    bomb = pack(b"a" * (40 << 20))
    assert len(bomb) < 1 << 16
    (tmp_path / "rows.csv.gz").write_bytes(pack(b"id,text\n1,") + bomb)
    with pytest.raises(UsageError, match="a row of more than 16777216 characters, which begins in line 2"):
        texts(tmp_path / "rows.csv.gz")


def test_what_is_compressed_twice_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(gzip.compress(TEXT)))
    with pytest.raises(UsageError, match="is compressed with gzip: unpack it with gunzip"):
        texts(tmp_path / "rows.csv.gz")


def test_queries_and_judgements_may_be_compressed_too(tmp_path: Path) -> None:
    file = tmp_path / "queries.csv.gz"
    file.write_bytes(gzip.compress(b"text\nred\nblue\n"))
    assert list(texts_of(Queries(f"file://{file}", "v", "csv", "text"))) == ["red", "blue"]
    (tmp_path / "queries.txt.zst").write_bytes(zstd(b"red\nblue\n"))
    assert list(texts_of(Queries(f"file://{tmp_path}/queries.txt.zst", "v", "txt", None))) == ["red", "blue"]
    file.write_bytes(gzip.compress(b"query,key\nred,a\n"))
    assert judgements.read(str(file)) == {"red": {"a": 1.0}}
    file.write_bytes(gzip.compress(b"query,key\nred,a\n")[:-4])
    with pytest.raises(UsageError, match=r"--judgements .* is damaged or cut short"):
        judgements.read(str(file))


@pytest.mark.parametrize(
    ("name", "kind"), [("q.csv.gz", "csv"), ("q.TSV.zst", "csv"), ("q.txt.gz", "txt"), ("q.npy.gz", ""), ("gz", "")]
)
def test_a_file_of_queries_is_known_by_the_ending_below_that_of_its_compression(
    tmp_path: Path, name: str, kind: str
) -> None:
    (tmp_path / name).touch()
    column = "t" if kind == "csv" else None
    options = Namespace(queries=str(tmp_path / name), text_column=column, image_column=None, vector_column=None)
    if kind:
        assert queries_of(options).kind == kind
    else:
        with pytest.raises(UsageError, match=r"the last three perhaps compressed \(\.gz, \.zst\)"):
            queries_of(options)

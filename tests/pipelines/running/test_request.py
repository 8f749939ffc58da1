"""From options to a request: its sources, and the index that is asked for."""

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.running.request import request_of_vectors, sources_of, versioned
from pipelines.terminal import command_line, options
from tests.transforms.small_runs import TINY
from transforms.errors import UsageError
from transforms.records import FORMAT_VERSION, TABLES_VERSION, IndexSettings, Request, Source
from transforms.sources.vectors import DEFAULT_COLUMN
from transforms.storage import uris


def parse(*argv: str) -> Namespace:
    return command_line.parse("build", "manual", argv, options.BUILD)


def test_sources_are_named_once_in_the_order_of_kinds_and_flags() -> None:
    asked = parse("--csv", "/r.csv", "--images", "/b", "--images", "/a", "--images", "/b", "--text-column", "t",
                   "--key-pattern", "(?P<x>.)")  # fmt: skip
    assert sources_of(asked) == (
        Source("images", "file:///b", key_pattern="(?P<x>.)"),
        Source("images", "file:///a", key_pattern="(?P<x>.)"),
        Source("csv", "file:///r.csv", text_column="t"),
    )


def test_files_of_rows_are_sources_of_their_formats(tmp_path: Path) -> None:
    pq.write_table(pa.table({"i": [b"x"]}), tmp_path / "x.parquet")
    files = ("--parquet", f"{tmp_path}/*.parquet", "--jsonl", "/r.jsonl", "--csv", "s3://b/{a,b}/*.csv.gz")
    asked = parse(*files, "--image-column", "i")
    found = sources_of(asked)
    assert found == (
        Source("csv", "s3://b/{a,b}/*.csv.gz", image_column="i"),
        Source("jsonl", "file:///r.jsonl", image_column="i"),
        Source("parquet", f"file://{tmp_path}/*.parquet", image_column="i", image_bytes=True),
    )
    (tars,) = sources_of(parse("--tars", "t/*.tar", "--text-column", "txt"))
    assert tars == Source("tars", uris.absolute("t/*.tar"), text_column="txt", image_bytes=True)
    request = Request(found[:1], TINY, IndexSettings())
    assert versioned(request).format_version == FORMAT_VERSION
    for source in (*found[1:], tars):  # an older pixdex refuses it by that
        assert versioned(replace(request, sources=(source,))).format_version == TABLES_VERSION
    with pytest.raises(UsageError, match="--key-column names a column of a file of rows: give the file with --csv or"):
        sources_of(parse("--images", "/p", "--key-column", "k"))
    with pytest.raises(UsageError, match="--image-column i is of no use to --tars, whose members are the pictures"):
        sources_of(parse("--tars", "/t.tar", "--image-column", "i"))


def test_a_list_of_urls_has_a_column_of_its_own_and_a_folder_means_its_parquet_files(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    asked = ("--urls", f"{tmp_path}/folder", "--urls", "s3://b/{a,b}.txt.gz", "--urls", "https://h/list.csv")
    found = sources_of(parse(*asked, "--text-column", "caption"))
    patterns = (f"file://{tmp_path}/folder/**/*.parquet", "s3://b/{a,b}.txt.gz", "https://h/list.csv")
    assert found == tuple(Source("urls", one, image_column="url", text_column="caption") for one in patterns)
    assert sources_of(parse("--urls", "/l.csv", "--image-column", "link"))[0].image_column == "link"
    assert versioned(Request(found, TINY, IndexSettings())).format_version == TABLES_VERSION


def test_ready_embeddings_are_sources_of_their_own_kind() -> None:
    asked = parse("--vectors", "/b/*.npy", "--vectors", "s3://x/a", "--metadata", "/m", "--metadata", "/n",
                   "--vector-column", "v", "--modality", "text")  # fmt: skip
    assert sources_of(asked) == (
        Source("vectors", "file:///b/*.npy", vector_column="v", metadata="file:///m", modality="text"),
        Source("vectors", "s3://x/a", vector_column="v", metadata="file:///n", modality="text"),
    )
    asked = parse("--vectors", "/b")
    assert sources_of(asked) == (Source("vectors", "file:///b", vector_column="embedding"),)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--vectors", "/v", "--images", "/p"], "--vectors does not go with --images: a root has one encoder"),
        (["--vectors", "/v", "--csv", "/r", "--text-column", "t"], "--vectors does not go with --csv"),
        (["--vectors", "/v", "--encoder", "demo"], "--encoder demo has nothing to encode"),
        (["--images", "/p", "--vector-column", "v"], "--vector-column is about ready embeddings: .* --vectors"),
        (["--images", "/p", "--metadata", "/m"], "--metadata is about ready embeddings"),
        (["--images", "/p", "--modality", "image"], "--modality is about ready embeddings"),
        (["--vectors", "/v", "--vectors", "/w", "--metadata", "/m"], "given 1 times, --vectors 2 times: give one for"),
    ],
)
def test_options_of_ready_embeddings_that_do_not_go_together_are_refused(argv: list[str], words: str) -> None:
    asked = parse(*argv)
    with pytest.raises(UsageError, match=words):
        sources_of(asked)


def test_the_help_names_the_column_that_is_read_unless_another_is_named() -> None:
    (flag,) = [flag for flag in options.SOURCES.flags if flag.name == "--vector-column"]
    assert flag.help.endswith(f"(default {DEFAULT_COLUMN})")


def test_index_settings_are_those_of_the_flags() -> None:
    asked = parse("--vectors", "/v", "--index-key", "IVF4,Flat", "--metric-type", "l2", "--max-index-memory", "1G")
    assert request_of_vectors(asked, sources_of(asked), 16, 1).index == IndexSettings("IVF4,Flat", "l2")
    asked = parse("--vectors", "/v", "--max-index-memory", "1G", "--code-size", "8")
    assert request_of_vectors(asked, sources_of(asked), 16, 1).index == IndexSettings("auto", "ip", 1 << 30, 8, "f16")
    asked = parse("--vectors", "/v", "--index-key", "IVF4,PQ8", "--refine-store", "sq8")
    assert request_of_vectors(asked, sources_of(asked), 16, 1).index == IndexSettings("IVF4,PQ8", refine="sq8")

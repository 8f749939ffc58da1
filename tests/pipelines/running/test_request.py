"""From options to a request: its sources, and the index that is asked for."""

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.running.request import request_of_vectors, sources_of, versioned
from pipelines.terminal import command_line, options
from tests.transforms.clip_folders import write_part
from tests.transforms.small_runs import TINY
from transforms.errors import UsageError
from transforms.records import (
    FORMAT_VERSION,
    NO_ENCODER,
    TABLES_VERSION,
    EncoderSettings,
    IndexSettings,
    Request,
    Source,
)
from transforms.sources.ready.vectors import DEFAULT_COLUMN
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


def test_each_source_of_ready_embeddings_has_its_modality() -> None:
    asked = parse("--vectors", "/a", "--vectors", "/b", "--modality", "text", "--modality", "image")
    assert [source.modality for source in sources_of(asked)] == ["text", "image"]
    asked = parse("--vectors", "/a", "--vectors", "/b", "--modality", "text")
    assert [source.modality for source in sources_of(asked)] == ["text", "text"]


PAIR = ("--vectors", "/i", "--metadata", "/m", "--modality", "image", "--vectors", "/t", "--metadata", "/m")


def test_pictures_and_texts_with_the_same_metadata_are_pairs_whatever_their_order() -> None:
    wanted = Source(
        "vectors", "file:///i", vector_column="embedding", metadata="file:///m", text_vectors="file:///t"
    )  # fmt: skip
    assert sources_of(parse(*PAIR, "--modality", "text")) == (wanted,)
    texts_first = parse("--vectors", "/t", "--metadata", "/m", "--modality", "text", "--vectors", "/i",
                        "--metadata", "/m", "--modality", "image")  # fmt: skip
    assert sources_of(texts_first) == (wanted,)
    of_one_kind = sources_of(parse(*PAIR, "--modality", "image"))
    assert [source.text_vectors for source in of_one_kind] == [None, None]
    apart = parse(*PAIR[:-1], "/n", "--modality", "text")
    assert [source.text_vectors for source in sources_of(apart)] == [None, None]


def test_a_folder_of_clip_retrieval_is_a_pair_by_its_name_alone(tmp_path: Path) -> None:
    write_part(tmp_path, 0, 3)
    (source,) = sources_of(parse("--vectors", str(tmp_path), "--image-base", "/far=/near"))
    url = f"file://{tmp_path}"
    assert source == Source(
        "vectors", f"{url}/img_emb", vector_column="embedding", metadata=f"{url}/metadata",
        text_vectors=f"{url}/text_emb", uri_column="image_path", image_base="file:///near", image_was="/far",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "base", "was"),
    [
        ("/p", "file:///p", None),
        ("s3://b/p/", "s3://b/p", None),
        ("/old=/new/", "file:///new", "/old"),
        ("/old/=s3://b", "s3://b", "/old"),
        ("s3://old=/new", "file:///new", "s3://old"),
        ("old/pictures=/new", "file:///new", "old/pictures"),
        ("s3://b/lang=ko", "s3://b/lang=ko", None),
        ("{folder}/lang=ko", "file://{folder}/lang=ko", None),
        ("{folder}/size={folder}/x", "file://{folder}/x", "{folder}/size"),
    ],
)
def test_the_place_of_pictures_is_a_folder_or_what_was_another(
    tmp_path: Path, asked: str, base: str, was: str | None
) -> None:
    (tmp_path / "lang=ko").mkdir()
    named = ["--vectors", "/v", "--uri-column", "c", "--image-base", asked.format(folder=tmp_path)]
    (source,) = sources_of(parse(*named))
    assert source.image_base == base.format(folder=tmp_path)
    assert source.image_was == (was and was.format(folder=tmp_path))


def test_a_later_source_has_a_later_version() -> None:
    plain = Source("vectors", "file:///v", metadata="file:///m.parquet")
    encoder = EncoderSettings(NO_ENCODER, "f" * 64, 4, ())
    request = Request((plain,), encoder, IndexSettings())
    assert versioned(request).format_version == FORMAT_VERSION
    for source in (
        replace(plain, text_vectors="file:///t"),
        replace(plain, uri_column="c"),
        replace(plain, metadata="file:///m.csv"),
    ):
        assert versioned(replace(request, sources=(source,))).format_version == TABLES_VERSION
    assert versioned(replace(request, encoder=replace(encoder, spec="demo"))).format_version == TABLES_VERSION


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (
            [*PAIR, "--modality", "text", "--vectors", "/u", "--metadata", "/m", "--modality", "text"],
            "--metadata file:///m is that of 1 --vectors of pictures and 2 of texts: pairs have one of each",
        ),
        (["--vectors", "/v", "--images", "/p"], "--vectors does not go with --images: a root has one encoder"),
        (["--vectors", "/v", "--csv", "/r", "--text-column", "t"], "--vectors does not go with --csv"),
        (["--images", "/p", "--uri-column", "u"], "--uri-column is about ready embeddings"),
        (["--vectors", "/v.npy", "--uri-column", "u"], "--uri-column u is a column of metadata, and .* has none"),
        (["--vectors", "/v", "--image-base", "/p"], "--image-base /p is where pictures of a column lie.*--uri-column"),
        (["--vectors", "/v", "--modality", "text", "--modality", "text"], "--modality is given 2 times, --vectors 1"),
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

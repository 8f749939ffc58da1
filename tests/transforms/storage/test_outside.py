"""What a root may have read outside of it: what lies where its sources are."""

from dataclasses import replace
from pathlib import Path

import pytest

from transforms.errors import UsageError
from transforms.ready_range import VectorRange
from transforms.records import NO_ENCODER, EncoderSettings, IndexSettings, Request, Source
from transforms.storage.outside import Outside, check_sources


def request(*sources: Source) -> Request:
    return Request(sources, EncoderSettings(NO_ENCODER, "", 2, ("image",)), IndexSettings())


def images(pattern: str) -> Request:
    return request(Source("images", pattern))


@pytest.mark.parametrize(
    ("pattern", "uri"),
    [
        ("file:///d/pics", "file:///d/pics/sub/a.png"),
        ("file:///d/pics/", "file:///d/pics/a b#1%.png"),
        ("file:///d/x/../pics", "file:///d/pics/a.png"),
        ("file:///d/pics/*/small/*.png", "file:///d/pics/cats/small/a.png"),
        ("file:///d/pics[1]/*.png", "file:///d/pics[1]/a.png"),
        ("file:///", "file:///a.png"),
        ("file:///d/a.png", "file:///d/a.png"),
        ("file:///d/\u1100\u1161", "file:///d/\uac00/a.png"),
        ("s3://bucket/pics", "s3://bucket/pics//double.png"),
        ("gs://bucket/**/*.png", "gs://bucket/a.png"),
        ("memory://pics", "memory://pics/a.png"),
        ("memory://pics/*.png", "memory:///pics/a.png"),
        ("s3a://bucket/pics", "s3://bucket/pics/a.png"),
    ],
)
def test_what_lies_where_a_source_is_may_be_read(pattern: str, uri: str) -> None:
    assert Outside.of(images(pattern)).refusal(uri) is None
    check_sources(images(pattern), trusted=False)


@pytest.mark.parametrize(
    "uri",
    [
        "file:///d/picsother/a.png", "file:///d/pics/../secret.png", "file:///d/pics/./../secret.png",
        "file:///d/pics/%2e%2e/secret.png", "file:///d/pics/%2E%2E%2fsecret.png", "file:////d/pics/a.png", "file://d/pics/a.png",
        "FILE:///d/pics/a.png", "file:/d/pics/a.png", "/d/pics/a.png", "a.png", "", "s3://bucket/a.png", "ftp://host/a.png",
        "simplecache::file:///d/pics/a.png", "reference://", "data:image/png;base64,AA", "HTTP://127.0.0.1/a.png",
        "http://localhost/a.png", "https://169.254.169.254/latest/meta-data",
    ],
)  # fmt: skip
def test_nothing_else_may(uri: str) -> None:
    outside = Outside.of(images("file:///d/pics"))
    assert outside.refusal(uri)
    with pytest.raises(PermissionError):
        outside.read(uri)
    assert replace(outside, trusted=True).refusal(uri) is None


def test_a_csv_brings_the_pictures_of_its_folder() -> None:
    outside = Outside.of(request(Source("csv", "file:///d/rows.csv", image_column="image")))
    assert outside.holds("file:///d/images/a.png") and outside.holds("file:///d/rows.csv")
    assert not outside.holds("file:///e/a.png")


def test_a_csv_of_texts_brings_none() -> None:
    assert not Outside.of(request(Source("csv", "file:///d/rows.csv", text_column="text"))).holds("file:///d/a.png")


def test_what_may_be_read_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"content")
    assert Outside.of(images(f"file://{tmp_path}")).read(f"file://{tmp_path}/a.png") == b"content"


def test_ready_embeddings_lie_where_their_sources_are_and_metadata_too() -> None:
    outside = Outside.of(request(Source("vectors", "file:///v/*.npy", metadata="file:///m/*.parquet")))
    range_ = VectorRange("file:///v/a.npy", "npy", 0, 1, "stat:1", metadata="file:///m/a.parquet")
    outside.check_ready(range_)
    wrong_texts = replace(range_, text_uri="file:///t/a.npy")
    for wrong in (
        replace(range_, uri="file:///w/a.npy"),
        replace(range_, metadata="file:///m/../etc/a.parquet"),
        wrong_texts,
    ):
        with pytest.raises(UsageError, match="is not among the sources"):
            replace(outside, trusted=True).check_ready(wrong)


def test_texts_of_pairs_lie_where_the_source_says() -> None:
    outside = Outside.of(request(Source("vectors", "file:///v/img_emb", text_vectors="file:///v/text_emb")))
    pair = VectorRange("file:///v/img_emb/a.npy", "npy", 0, 1, "stat:1", text_uri="file:///v/text_emb/a.npy")
    outside.check_ready(pair)
    with pytest.raises(UsageError, match="is not among the sources"):
        outside.check_ready(replace(pair, text_uri="file:///v/other/a.npy"))


@pytest.mark.parametrize(
    ("base", "inside", "elsewhere"),
    [
        ("file:///pics", "file:///pics/a.png", "file:///m/a.png"),
        ("file:///pics/", "file:///pics/b/a.png", "file:///pics-too/a.png"),
        ("s3://b/pics", "s3://b/pics/a.png", "s3://b/other/a.png"),
        (None, "file:///m/a.png", "file:///pics/a.png"),
    ],
)
def test_a_column_of_pictures_brings_the_folder_where_they_lie(base: str | None, inside: str, elsewhere: str) -> None:
    source = Source("vectors", "file:///v/*.npy", metadata="file:///m/m.parquet", uri_column="p", image_base=base)
    outside = Outside.of(request(source))
    assert outside.refusal(inside) is None and outside.refusal(elsewhere) is not None
    assert Outside.of(request(replace(source, uri_column=None))).refusal(inside) is not None


@pytest.mark.parametrize(
    "pattern", ["http://127.0.0.1:9/*.png", "https://localhost/pics", "sftp://host/pics", "zip://a"]
)
def test_sources_that_only_this_machine_reaches_want_trust(pattern: str) -> None:
    with pytest.raises(UsageError, match="--trust-uris"):
        check_sources(images(pattern), trusted=False)
    check_sources(images(pattern), trusted=True)

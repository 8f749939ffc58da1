"""A folder of clip-retrieval is one source: pictures with their texts, and what is known of them."""

from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.transforms.clip_folders import write_part
from tests.transforms.ready import random_vectors, save_npy
from transforms.errors import UsageError
from transforms.records import Modality, Source
from transforms.sources.ready import vectors
from transforms.sources.ready.clip_folder import ClipFolder


def source_of(folder: Path, modality: Modality | None = None, like: Source | None = None) -> Source:
    found = ClipFolder.at(f"file://{folder}")
    assert found is not None
    return found.source(like or Source("vectors", f"file://{folder}"), modality)


def test_pictures_with_their_texts_and_metadata_are_one_source(tmp_path: Path) -> None:
    write_part(tmp_path, 0, 3)
    url = f"file://{tmp_path}"
    assert source_of(tmp_path) == Source(
        "vectors",
        f"{url}/img_emb",
        metadata=f"{url}/metadata",
        text_vectors=f"{url}/text_emb",
        uri_column="image_path",
    )


def test_a_slash_at_the_end_changes_nothing(tmp_path: Path) -> None:
    write_part(tmp_path, 0, 3)
    assert ClipFolder.at(f"file://{tmp_path}/") == ClipFolder.at(f"file://{tmp_path}")


def test_pictures_or_texts_may_be_alone(tmp_path: Path) -> None:
    write_part(tmp_path / "pictures", 0, 3, texts=False, metadata=False)
    found = source_of(tmp_path / "pictures")
    assert (found.pattern[-8:], found.modality, found.text_vectors) == ("/img_emb", "image", None)
    assert (found.metadata, found.uri_column) == (None, None)
    save_npy(tmp_path / "texts/text_emb/text_emb_0.npy", random_vectors(3, 4))
    found = source_of(tmp_path / "texts")
    assert (found.pattern[-9:], found.modality, found.text_vectors) == ("/text_emb", "text", None)


def test_a_modality_takes_the_vectors_of_its_kind_alone(tmp_path: Path) -> None:
    write_part(tmp_path, 0, 3)
    for modality, name in (("image", "img_emb"), ("text", "text_emb")):
        found = source_of(tmp_path, modality)  # type: ignore[arg-type]  # the loop's names are what it takes
        assert (found.pattern.rpartition("/")[2], found.modality, found.text_vectors) == (name, modality, None)
        assert found.metadata == f"file://{tmp_path}/metadata"
    write_part(tmp_path / "pictures", 0, 3, texts=False)
    with pytest.raises(UsageError, match=r"--modality text: .* has img_emb only"):
        source_of(tmp_path / "pictures", "text")


def test_what_a_person_names_is_taken_instead(tmp_path: Path) -> None:
    write_part(tmp_path, 0, 3)
    like = Source("vectors", f"file://{tmp_path}", metadata="file:///m/*.parquet", image_base="file:///p")
    found = source_of(tmp_path, like=like)
    assert (found.metadata, found.uri_column, found.image_base) == ("file:///m/*.parquet", None, None)
    like = Source("vectors", f"file://{tmp_path}", uri_column="caption")
    assert source_of(tmp_path, like=like).uri_column == "caption"


@pytest.mark.parametrize(
    ("columns", "wanted"), [(["url", "key"], "url"), (["url", "image_path"], "image_path"), (["key"], None)]
)
def test_the_column_of_pictures_is_one_that_such_metadata_have(
    tmp_path: Path, columns: list[str], wanted: str | None
) -> None:
    write_part(tmp_path, 0, 2)
    pq.write_table(pa.table({name: ["a", "b"] for name in columns}), tmp_path / "metadata/metadata_0.parquet")
    assert source_of(tmp_path).uri_column == wanted


def test_another_folder_is_none(tmp_path: Path) -> None:
    save_npy(tmp_path / "plain/a.npy", random_vectors(3, 4))
    (tmp_path / "empty/img_emb").mkdir(parents=True)
    write_part(tmp_path / "more", 0, 3)
    save_npy(tmp_path / "more/other/a.npy", random_vectors(3, 4))
    for name in ("plain", "empty", "more", "missing", "plain/a.npy", "*"):
        assert ClipFolder.at(f"file://{tmp_path}/{name}") is None, name
    assert ClipFolder.at("nowhere://x") is None


def test_objects_of_a_store_are_seen_too(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    for name in ("img_emb/img_emb_0.npy", "text_emb/text_emb_0.npy"):
        memory.pipe_file(f"/clip/{name}", save_npy(tmp_path / "a.npy", random_vectors(3, 4)).read_bytes())
    try:
        found = ClipFolder.at("memory://clip")
        assert found == ClipFolder("memory://clip/img_emb", "memory://clip/text_emb", None)
        source = found.source(Source("vectors", "memory://clip"), None)
        (file,) = vectors.files_of([source])
        named = [f"memory:///clip/{name}/{name}_0.npy" for name in ("img_emb", "text_emb")]
        assert [file.uri, file.texts] == named
    finally:
        memory.rm("/clip", recursive=True)


def test_the_output_of_clip_retrieval_itself_is_pairs(shared_data: Path) -> None:
    folder = shared_data / "clip-retrieval-output" / "embeddings"
    if not folder.is_dir():
        pytest.skip(f"an output of clip-retrieval is not here: {folder}")
    source = source_of(folder)
    (head,) = vectors.read_heads([source], vectors.files_of([source]))
    assert (head.vectors.items, head.vectors.rows, head.dim, head.vectors.uri_column) == (9, 18, 512, "image_path")

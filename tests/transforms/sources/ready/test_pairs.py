"""Vectors of pictures and of texts, file by file and row for row, are pairs; what does not fit is refused in a line."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.clip_folders import write_part
from tests.transforms.ready import random_vectors, save_npy, save_parquet
from transforms.errors import UsageError
from transforms.ready_range import row_key
from transforms.records import Source
from transforms.shards import ready_files
from transforms.sources.ready import vectors
from transforms.sources.ready.clip_folder import ClipFolder
from transforms.sources.ready.vectors import ReadyFile


def pairs_of(folder: Path) -> Source:
    return Source("vectors", f"file://{folder}/img", vector_column="embedding", text_vectors=f"file://{folder}/txt")


def heads(source: Source) -> list[ReadyFile]:
    return list(vectors.read_heads([source], vectors.files_of([source])))


def test_a_pair_has_two_rows_and_one_key(tmp_path: Path) -> None:
    image, text = (save_npy(tmp_path / name / "a.npy", random_vectors(5, 4)) for name in ("img", "txt"))
    (head,) = heads(pairs_of(tmp_path))
    ready = head.vectors
    assert (ready.items, ready.rows, ready.uri, ready.text_uri) == (5, 10, f"file://{image}", f"file://{text}")
    assert ready.text_version == ready_files.stat(f"file://{text}")[1]
    assert row_key(ready, 3) == row_key(ready, 8) == f"file://{image}#3"
    pictures, texts = ready.of_each_file
    assert [(one.uri, one.modality, one.rows) for one in (pictures, texts)] == [
        (f"file://{image}", "image", 5), (f"file://{text}", "text", 5),
    ]  # fmt: skip
    assert texts.version == ready.text_version


@pytest.mark.parametrize("changed", ["img", "txt"])
def test_a_pair_is_read_again_when_either_file_is_another(tmp_path: Path, changed: str) -> None:
    for name in ("img", "txt"):
        save_npy(tmp_path / name / "a.npy", random_vectors(5, 4))
    source = pairs_of(tmp_path)
    (first,) = heads(source)
    known = {first.vectors.uri: first.vectors}
    (same,) = vectors.read_heads([source], vectors.files_of([source]), known)
    assert same.dim is None and same.vectors == first.vectors
    save_npy(tmp_path / changed / "a.npy", random_vectors(6, 4))
    with pytest.raises(UsageError, match="they must be as many, row for row"):
        list(vectors.read_heads([source], vectors.files_of([source]), known))
    for name in ("img", "txt"):
        save_npy(tmp_path / name / "a.npy", random_vectors(6, 4))
    (other,) = vectors.read_heads([source], vectors.files_of([source]), known)
    assert (other.dim, other.vectors.items) == (4, 6)


REFUSED = {
    "rows": (random_vectors(4, 4), "a.npy has 4 vectors of texts, .*a.npy has 5 of pictures: they must be as many"),
    "components": (random_vectors(5, 3), "a.npy has vectors of 3 components, .*a.npy of 4: pairs are vectors of one"),
    "doubles": (np.ones((5, 4)), "a.npy holds <f8"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_texts_that_do_not_fit_are_refused(tmp_path: Path, what: str) -> None:
    texts, words = REFUSED[what]
    save_npy(tmp_path / "img/a.npy", random_vectors(5, 4))
    save_npy(tmp_path / "txt/a.npy", texts)
    with pytest.raises(UsageError, match=words) as refused:
        heads(pairs_of(tmp_path))
    assert "\n" not in str(refused.value)


def test_pictures_in_parquet_have_no_texts_beside_them(tmp_path: Path) -> None:
    save_parquet(tmp_path / "img/a.parquet", random_vectors(5, 4))
    save_npy(tmp_path / "txt/a.npy", random_vectors(5, 4))
    with pytest.raises(UsageError, match=r"a\.parquet: pairs of pictures and texts are \.npy files"):
        heads(pairs_of(tmp_path))


def test_a_column_of_pictures_must_be_in_every_file(tmp_path: Path) -> None:
    write_part(tmp_path, 0, 3)
    found = ClipFolder.at(f"file://{tmp_path}")
    assert found is not None
    source = found.source(Source("vectors", f"file://{tmp_path}", uri_column="place"), None)
    with pytest.raises(UsageError, match=r"--uri-column place: .*0\.parquet has no column place; it has image_path"):
        heads(source)
    save_parquet(tmp_path / "own/a.parquet", random_vectors(3, 4), columns={"where": ["a", "b", "c"]})
    source = Source("vectors", f"file://{tmp_path}/own", vector_column="embedding", uri_column="place")
    with pytest.raises(UsageError, match=r"--uri-column place: .*a\.parquet has no column place; it has where, embed"):
        heads(source)


counts = st.lists(st.integers(0, 6), min_size=1, max_size=4)


@given(pictures=counts, texts=counts, first=st.integers(0, 99), digits=st.integers(1, 3))
def test_files_are_pairs_where_there_are_as_many_with_as_many_rows(
    tmp_path_factory: pytest.TempPathFactory, pictures: list[int], texts: list[int], first: int, digits: int
) -> None:
    folder = tmp_path_factory.mktemp("pairs")
    for name, rows_of in (("img", pictures), ("txt", texts)):
        for number, rows in enumerate(rows_of, first):
            width = digits if name == "img" else 1  # numbers may be padded on one side
            save_npy(folder / name / f"{name}_emb_{number:0{width}}.npy", random_vectors(rows, 4, seed=rows))
    if pictures == texts:
        found = {
            str(head.vectors.uri).rpartition("_")[2].removesuffix(".npy").lstrip("0") or "0": head.vectors
            for head in heads(pairs_of(folder))
        }
        assert {int(number): (one.items, one.rows) for number, one in found.items()} == {
            number: (rows, 2 * rows) for number, rows in enumerate(pictures, first)
        }
        assert all(str(one.text_uri).endswith(f"txt_emb_{number}.npy") for number, one in found.items())
    else:
        with pytest.raises(UsageError, match="they must be as many") as refused:
            heads(pairs_of(folder))
        assert "\n" not in str(refused.value)

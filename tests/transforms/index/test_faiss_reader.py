"""Faiss files of strangers: an index is all in its own file, and of a kind that is built here."""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from transforms.errors import UsageError
from transforms.index import faiss_reader

VECTORS = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
FLAGS = (0, faiss.IO_FLAG_MMAP, faiss.IO_FLAG_MMAP_IFC)


def index_of(key: str) -> Any:
    faiss.omp_set_num_threads(1)
    index = faiss.index_factory(8, key)
    index.train(VECTORS)
    index.add(VECTORS)
    return index


def written(index: Any, file: Path) -> Path:
    faiss.write_index(index, str(file))
    return file


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """An index whose lists are in a file of their own, which is gone: whoever opened it would fail."""
    index = index_of("PCA4,IVF2,Flat")
    inner = faiss.downcast_index(faiss.extract_index_ivf(index))
    lists = faiss.OnDiskInvertedLists(inner.nlist, inner.code_size, str(tmp_path / "lists"))
    lists.merge_from_1(inner.invlists)
    inner.replace_invlists(lists)
    file = written(index, tmp_path / "index.faiss")
    (tmp_path / "lists").unlink()
    return file


@pytest.mark.parametrize("key", ["IVF4,Flat", "PCA4,IVF4,SQ8", "OPQ2_4,IVF4,PQ2x4np", "IVF4_HNSW8,Flat", "IVF4,RaBitQ"])
@pytest.mark.parametrize("flags", FLAGS)
def test_an_index_that_is_built_here_is_read(tmp_path: Path, key: str, flags: int) -> None:
    file = written(index_of(key), tmp_path / "index.faiss")
    assert faiss_reader.read(file, flags).ntotal == len(VECTORS)
    assert faiss_reader.from_bytes(file.read_bytes(), "a name").ntotal == len(VECTORS)


@pytest.mark.parametrize("flags", FLAGS)
def test_lists_in_another_file_are_not_opened(elsewhere: Path, flags: int) -> None:
    with pytest.raises(UsageError, match="keeps its lists in another file"):
        faiss_reader.read(elsewhere, flags)
    with pytest.raises(UsageError, match="a name keeps its lists in another file"):
        faiss_reader.from_bytes(elsewhere.read_bytes(), "a name", flags)


@pytest.mark.parametrize("flags", FLAGS)
def test_the_word_for_such_lists_may_stand_among_vectors(tmp_path: Path, flags: int) -> None:
    index = index_of("IVF4,Flat")
    quantizer = faiss.downcast_index(index.quantizer)
    centroid = np.frombuffer(b"ilod" * 8, np.float32)[None]
    vectors = faiss.rev_swig_ptr(quantizer.get_xb(), 4 * 8).reshape(4, 8)
    vectors[0] = centroid
    file = written(index, tmp_path / "index.faiss")
    assert b"ilod" in file.read_bytes()
    assert faiss_reader.read(file, flags).ntotal == len(VECTORS)
    assert faiss_reader.from_bytes(file.read_bytes(), "a name").ntotal == len(VECTORS)


@pytest.mark.parametrize("key", ["Flat", "HNSW8", "IVF4(IVF2,Flat),Flat", "IDMap,Flat"])
def test_what_is_not_built_here_is_not_taken(tmp_path: Path, key: str) -> None:
    index = faiss.index_factory(8, key)
    if key.startswith("IVF4("):
        index = faiss.IndexIVFFlat(faiss.index_factory(8, "IVF2,Flat"), 8, 4)
        faiss.downcast_index(index.quantizer).train(VECTORS)
    file = written(index, tmp_path / "index.faiss")
    with pytest.raises(UsageError, match="a kind that pixdex does not build"):
        faiss_reader.read(file)


def test_an_empty_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "index.faiss").touch()
    with pytest.raises(RuntimeError):
        faiss_reader.read(tmp_path / "index.faiss")

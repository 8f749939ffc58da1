"""The merged index is what one faiss index over the same vectors is, bit for bit, and stock faiss opens it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from faiss.contrib.ondisk import merge_ondisk
from numpy.typing import NDArray

from tests import corpora
from tests.end_to_end.builds import TINY, generation_of, make_work_small, rows_of, run_here
from transforms.generations.manifest import Generation
from transforms.index.lists.reader import ListFile
from transforms.storage import parquet_files
from transforms.storage.store import Store

ROWS = 700
KEYS = [
    ("Flat", "ip"),
    ("IVF8,Flat", "ip"),
    ("IVF8,Flat", "l2"),
    ("IVF16,SQ8", "l2"),
    ("PCA8,IVF8,PQ4", "l2"),
    ("OPQ4_8,IVF8,PQ4", "ip"),
]

EVERY_TIME = [("OPQ4_8,IVF8,PQ4", "ip")]


@dataclass(frozen=True)
class Built:
    """A root of several blocks, and all that it stores, in order of id."""

    root: Path
    generation: Generation
    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]

    @property
    def file(self) -> Path:
        return self.root / self.generation.index.path

    def trained(self) -> Any:
        """Opens the trained index, which holds no vector."""
        return faiss.read_index(str(self.root / self.generation.trained.index.path))

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]]:
        """Yields sizes of all lists, codes and ids of every shard index."""
        store = Store.at(str(self.root))
        for path in parquet_files.read(store, self.generation.tables.blocks)["path"].to_pylist():
            with store.open(path) as stream:
                lists = ListFile(stream, path)
                yield lists.read(lists.lists).unpack()


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("texts") / "rows.csv"
    file.write_text("text\n" + "".join(f"words {number}\n" for number in range(ROWS)), encoding="utf-8")
    return file


@pytest.fixture(
    scope="module",
    params=[pytest.param(each, marks=() if each in EVERY_TIME else pytest.mark.gate) for each in KEYS],
    ids="-".join,
)
def built(request: pytest.FixtureRequest, csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    from pipelines import build  # noqa: PLC0415 - with the patch in place

    key, metric = request.param
    root = tmp_path_factory.mktemp("index") / "root"
    with pytest.MonkeyPatch.context() as patch:
        make_work_small(patch)
        argv = ["--root", root, "--csv", csv, "--text-column", "text", "--index-key", key, "--metric-type", metric]
        assert build.main([str(word) for word in (*argv, *TINY)]) == 0
    rows = rows_of(root, ["id", "embedding"])
    yield Built(
        root,
        generation_of(root),
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.float32),
    )


def queries(built: Built) -> NDArray[np.float32]:
    generator = np.random.default_rng(1)
    near = built.vectors[::50] + generator.normal(0, 0.01, built.vectors[::50].shape)
    far = generator.standard_normal((16, built.vectors.shape[1]))
    return np.concatenate([near, far]).astype(np.float32)


def whole(built: Built) -> Any:
    """One faiss index over the same stored vectors, made by faiss alone."""
    index = built.trained()
    index.add_with_ids(built.vectors, built.ids)
    return index


def lists_of(index: Any) -> list[tuple[list[int], bytes]]:
    inner = faiss.extract_index_ivf(index)
    lists = inner.invlists
    found = []
    for number in range(inner.nlist):
        size = lists.list_size(number)
        ids = faiss.rev_swig_ptr(lists.get_ids(number), size).copy() if size else np.empty(0, np.int64)
        codes = faiss.rev_swig_ptr(lists.get_codes(number), size * lists.code_size).copy() if size else np.empty(0)
        found.append((ids.tolist(), codes.astype(np.uint8).tobytes()))
    return found


def test_several_blocks_were_merged(built: Built) -> None:
    assert built.generation.totals.blocks > 5
    segments = parquet_files.read(Store.at(str(built.root)), built.generation.tables.segments)
    assert len(segments) > 3 or built.generation.trained.nlist == 1


@pytest.mark.parametrize("nprobe", [1, 3, 100])
def test_it_returns_what_one_index_over_the_same_vectors_returns(built: Built, nprobe: int) -> None:
    merged, alone = faiss.read_index(str(built.file)), whole(built)
    for index in (merged, alone):
        faiss.extract_index_ivf(index).nprobe = nprobe
    scores, ids = merged.search(queries(built), 20)
    expected_scores, expected_ids = alone.search(queries(built), 20)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_array_equal(scores, expected_scores)


def test_list_for_list_it_is_the_index_that_faiss_makes(built: Built) -> None:
    merged, alone = faiss.read_index(str(built.file)), whole(built)
    assert lists_of(merged) == lists_of(alone)
    assert merged.ntotal == alone.ntotal == faiss.extract_index_ivf(merged).ntotal == ROWS


def test_it_is_byte_for_byte_the_file_that_faiss_writes(built: Built, tmp_path: Path) -> None:
    faiss.write_index(whole(built), str(tmp_path / "alone.faiss"))
    assert built.file.read_bytes() == (tmp_path / "alone.faiss").read_bytes()


def test_every_id_is_in_exactly_one_list(built: Built) -> None:
    found = [id for ids, _ in lists_of(faiss.read_index(str(built.file))) for id in ids]
    assert sorted(found) == built.ids.tolist()


def test_list_for_list_it_equals_merge_ondisk_of_its_blocks(built: Built, tmp_path: Path) -> None:
    files = []
    for number, (list_nos, codes, ids) in enumerate(built.blocks()):
        index = built.trained()
        lists = faiss.extract_index_ivf(index).invlists
        for list_no, code, id in zip(list_nos.tolist(), codes, ids.tolist(), strict=True):
            lists.add_entry(list_no, id, faiss.swig_ptr(np.ascontiguousarray(code)))
        index.ntotal = faiss.extract_index_ivf(index).ntotal = len(ids)
        files.append(str(tmp_path / f"block-{number}.faiss"))
        faiss.write_index(index, files[-1])
    expected = built.trained()
    merge_ondisk(expected, files, str(tmp_path / "merged.ivfdata"))
    assert lists_of(faiss.read_index(str(built.file))) == lists_of(expected)


@pytest.mark.parametrize("flags", ["0", "faiss.IO_FLAG_MMAP", "faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY"])
def test_stock_faiss_opens_it_from_any_directory(built: Built, tmp_path: Path, flags: str) -> None:
    np.save(tmp_path / "queries.npy", queries(built))
    code = (
        "import faiss, numpy as np\n"
        f"index = faiss.read_index('root/index/000001/index.faiss', {flags})\n"
        f"np.save({str(tmp_path / 'found.npy')!r}, index.search(np.load({str(tmp_path / 'queries.npy')!r}), 5)[1])\n"
    )
    subprocess.run(
        [sys.executable, "-c", code], cwd=built.root.parent, check=True, env={**os.environ, "PYTHONPATH": ""}
    )
    _, expected = whole(built).search(queries(built), 5)
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), expected)


def test_pictures_give_the_same_file_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpora.write_pictures(tmp_path / "pictures", 120)
    done = run_here(
        capsys, "--root", tmp_path / "root", "--images", tmp_path / "pictures", "--index-key", "IVF2,Flat", *TINY
    )
    assert done.code == 0 and done.said["index_key"] == "IVF2,Flat", done.err
    rows = rows_of(tmp_path / "root", ["id", "embedding"])
    generation = generation_of(tmp_path / "root")
    index = faiss.read_index(str(tmp_path / "root" / generation.trained.index.path))
    index.add_with_ids(np.array([row[1] for row in rows], np.float32), np.array([row[0] for row in rows], np.int64))
    faiss.write_index(index, str(tmp_path / "alone.faiss"))
    assert Path(done.said["index"]).read_bytes() == (tmp_path / "alone.faiss").read_bytes()

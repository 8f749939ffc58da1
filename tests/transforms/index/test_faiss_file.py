"""The merged file is faiss's own: byte for byte what faiss writes, opened by stock faiss from anywhere."""

import io
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from faiss.contrib.ondisk import merge_ondisk
from numpy.typing import NDArray

from tests.transforms.index.stored_by_faiss import stored_by_faiss
from transforms.errors import PixdexError
from transforms.index.faiss_file import (
    TrainedLayout,
    body_offset,
    describe_trained,
    flat_head,
    head,
    write_head,
    write_head_of,
)
from transforms.index.lists.merge import merge_range, merged_sizes, plan_pieces
from transforms.index.lists.reader import ListFile
from transforms.index.lists.writer import write_lists

DIMENSION, ROWS, NLIST = 32, 1500, 16
KEYS = [
    "Flat",
    "PQ8np",
    "PQ8x4np",
    "SQ4",
    "SQ6",
    "SQ8",
    "SQfp16",
    "RaBitQ",
    "OPQ8_16,IVF,PQ8np",
    "PCA16,IVF,SQ8",
    "RR32,IVF,RaBitQ",
    "PCAR16,IVF,Flat",
    "IVF_HNSW8,PQ8x8np",
]


def factory_key(short: str) -> str:
    full = short if "IVF" in short else f"IVF,{short}"
    return full.replace("IVF", f"IVF{NLIST}")


def normalised(rows: int, seed: int) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).standard_normal((rows, DIMENSION)).astype(np.float32)
    faiss.normalize_L2(vectors)
    return vectors


# Any, here and below: faiss's stubs lack most members.
def trained_index(key: str, metric: int = faiss.METRIC_INNER_PRODUCT) -> Any:
    faiss.omp_set_num_threads(1)
    index = faiss.index_factory(DIMENSION, key, metric)
    ivf: Any = faiss.extract_index_ivf(index)
    ivf.cp.min_points_per_centroid = 1
    ivf.cp.niter = 2
    index.train(normalised(1000, 1))
    return index


def serialized(index: faiss.Index) -> bytes:
    raw: bytes = faiss.serialize_index(index).tobytes()
    return raw


def copy_of(trained: bytes) -> Any:
    return faiss.deserialize_index(np.frombuffer(trained, np.uint8))


def block(index: faiss.Index, vectors: NDArray[np.float32], ids: NDArray[np.int64], batch_rows: int) -> ListFile:
    list_nos, codes = stored_by_faiss(index, vectors, batch_rows)
    out = io.BytesIO()
    write_lists(out, list_nos=list_nos, codes=codes, ids=ids, nlist=NLIST, fingerprint="ab", fence_bytes=500)
    return ListFile(out, "block.ivf")


def write_merged(path: Path, trained: bytes, layout: TrainedLayout, inputs: list[ListFile]) -> None:
    """As the merge does: the pieces in the wrong order, each at its own place, then the head."""
    sizes = merged_sizes(inputs)
    path.touch()
    for piece in reversed(plan_pieces(inputs, 5000)):
        with path.open("r+b") as out:
            out.seek(body_offset(layout, sizes, piece.start))
            merge_range(inputs, piece, out)
    with path.open("r+b") as out:
        out.write(head(trained, layout, sizes))
    assert path.stat().st_size == body_offset(layout, sizes, NLIST)


@pytest.mark.parametrize("metric", [faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2])
@pytest.mark.parametrize("key", KEYS)
def test_the_merged_file_is_the_one_faiss_writes(key: str, metric: int, tmp_path: Path) -> None:
    index = trained_index(factory_key(key), metric)
    trained, layout = serialized(index), describe_trained(index)
    assert serialized(index) == trained, "describing changed the index"
    vectors, ids = normalised(ROWS, 2), np.arange(ROWS, dtype=np.int64) * 3 + (7 << 16)
    inputs = [block(index, vectors[rows], ids[rows], 500) for rows in (slice(0, 500), slice(500, 1500))]
    merged = tmp_path / "elsewhere" / "index.faiss"
    merged.parent.mkdir()
    write_merged(merged, trained, layout, inputs)

    expected = copy_of(trained)
    for start in range(0, ROWS, 500):
        expected.add_with_ids(vectors[start : start + 500], ids[start : start + 500])
    assert merged.read_bytes() == serialized(expected)

    queries = normalised(20, 3)
    distances, labels = expected.search(queries, 5, params=search_parameters(expected))
    for flags in (0, faiss.IO_FLAG_MMAP):
        opened = faiss.read_index(str(merged), flags)
        got_distances, got_labels = opened.search(queries, 5, params=search_parameters(opened))
        assert opened.ntotal == ROWS and (got_labels == labels).all() and (got_distances == distances).all()


def search_parameters(index: Any) -> Any:
    """Four probes, also behind a vector transform."""
    library: Any = faiss
    inner = library.SearchParametersIVF(nprobe=4)
    return library.SearchParametersPreTransform(index_params=inner) if hasattr(index, "chain") else inner


def test_list_for_list_it_equals_faiss_merge_ondisk(tmp_path: Path) -> None:
    index = trained_index(f"OPQ8,IVF{NLIST},PQ8np")
    trained, layout = serialized(index), describe_trained(index)
    vectors, ids = normalised(ROWS, 4), np.arange(ROWS, dtype=np.int64)
    parts = [slice(0, 600), slice(600, 1500)]
    for number, rows in enumerate(parts):
        shard = copy_of(trained)
        shard.add_with_ids(vectors[rows], ids[rows])
        faiss.write_index(shard, str(tmp_path / f"shard{number}"))
    outer = copy_of(trained)  # owns the inner index
    theirs: Any = faiss.extract_index_ivf(outer)
    merge_ondisk(theirs, [str(tmp_path / f"shard{number}") for number in range(2)], str(tmp_path / "lists"))
    write_merged(
        tmp_path / "index.faiss", trained, layout, [block(index, vectors[rows], ids[rows], 300) for rows in parts]
    )
    opened = faiss.read_index(str(tmp_path / "index.faiss"), faiss.IO_FLAG_MMAP)
    ours: Any = faiss.extract_index_ivf(opened)
    assert ours.ntotal == theirs.ntotal == ROWS
    for list_no in range(NLIST):
        assert invlist(ours, list_no) == invlist(theirs, list_no)


def invlist(index: Any, list_no: int) -> tuple[bytes, bytes]:
    size = index.invlists.list_size(list_no)
    if not size:
        return b"", b""
    codes = faiss.rev_swig_ptr(index.invlists.get_codes(list_no), size * index.code_size)
    return codes.tobytes(), faiss.rev_swig_ptr(index.invlists.get_ids(list_no), size).tobytes()


@pytest.mark.parametrize("occupied", [0, 1, NLIST // 2, NLIST // 2 + 1, NLIST])
def test_sparse_and_full_sizes_are_chosen_as_faiss_does(occupied: int) -> None:
    index = trained_index(f"IVF{NLIST},Flat")
    trained, layout = serialized(index), describe_trained(index)
    expected = copy_of(trained)
    sizes = np.zeros(NLIST, np.int64)
    sizes[:occupied] = 1
    if occupied:
        vectors, ids, lists = normalised(occupied, 5), np.arange(occupied), np.arange(occupied)
        expected.add_core(occupied, *(faiss.swig_ptr(array) for array in (vectors, ids, lists)))
    raw = serialized(expected)
    assert raw.startswith(head(trained, layout, sizes)) and len(raw) == body_offset(layout, sizes, NLIST)


def test_lists_beyond_four_gigabytes_are_found(tmp_path: Path) -> None:
    index = trained_index(f"IVF{NLIST},Flat")
    layout = describe_trained(index)
    sizes = np.zeros(NLIST, np.int64)
    sizes[0], sizes[9] = (5 << 30) // (layout.code_size + 8), 1
    centroid = index.quantizer.reconstruct(9).reshape(1, -1)
    path = tmp_path / "index.faiss"
    with path.open("wb") as out:  # a hole of 5 GiB: takes no space
        write_head(io.BytesIO(serialized(index)), out, layout, sizes)
        out.seek(body_offset(layout, sizes, 9))
        out.write(centroid.tobytes() + (77).to_bytes(8, "little"))
        out.truncate(body_offset(layout, sizes, NLIST))
    opened = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
    assert opened.ntotal == sizes.sum()
    assert opened.search(centroid, 1)[1].tolist() == [[77]]


@pytest.mark.parametrize("key", [f"IVF{NLIST},PQ8x4fs", "Flat", f"IVF{NLIST},PQ8+4"])
def test_indexes_without_plain_lists_are_refused(key: str) -> None:
    with pytest.raises(PixdexError, match="IVF"):
        describe_trained(faiss.index_factory(DIMENSION, key))


def test_an_index_with_vectors_is_refused() -> None:
    index = trained_index(f"IVF{NLIST},Flat")
    index.add(normalised(3, 1))
    with pytest.raises(PixdexError, match="3 vectors"):
        describe_trained(index)


def test_another_trained_file_is_refused() -> None:
    index = trained_index(f"IVF{NLIST},Flat")
    trained, layout = serialized(index), describe_trained(index)
    sizes = np.ones(NLIST, np.int64)
    for damaged in (trained[:-1], trained[:100], trained + b"x", trained[:8] + b"\1" + trained[9:]):
        with pytest.raises(PixdexError, match=r"index\.faiss"):
            head(damaged, layout, sizes)


@pytest.mark.parametrize("key", ["IVF16,SQ8", "OPQ8_16,IVF16,PQ8np"])
def test_a_head_of_an_index_in_memory_has_one_length_and_takes_any_lists_behind_it(key: str, tmp_path: Path) -> None:
    index, vectors = trained_index(key), normalised(300, 2)
    inner: Any = faiss.extract_index_ivf(index)
    inner.nprobe = 5
    before = faiss.serialize_index(index)
    full = faiss.deserialize_index(before)
    full.add(vectors)
    lists = faiss.extract_index_ivf(full).invlists
    sizes = np.array([lists.list_size(number) for number in range(NLIST)])
    with (tmp_path / "index.faiss").open("wb") as out:
        length = write_head_of(index, out, np.zeros(NLIST, np.int64))
        for number, size in enumerate(sizes.tolist()):
            if size:
                out.write(faiss.rev_swig_ptr(lists.get_codes(number), size * lists.code_size).tobytes())
                out.write(faiss.rev_swig_ptr(lists.get_ids(number), size).tobytes())
        out.seek(0)
        assert write_head_of(index, out, sizes) == length
    assert np.array_equal(faiss.serialize_index(index), before)  # it is what it was
    for flags in (0, faiss.IO_FLAG_MMAP):
        read = faiss.read_index(str(tmp_path / "index.faiss"), flags)
        assert (read.ntotal, faiss.extract_index_ivf(read).nprobe) == (300, 5)
        for one, other in zip(read.search(vectors[:20], 7), full.search(vectors[:20], 7), strict=True):
            assert np.array_equal(one, other)


@pytest.mark.parametrize("metric", [faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2, faiss.METRIC_L1])
@pytest.mark.parametrize("rows", [0, 9])
def test_a_flat_head_and_vectors_are_the_file_that_faiss_writes(metric: int, rows: int) -> None:
    index, vectors = faiss.IndexFlat(DIMENSION, metric), normalised(rows, 3)
    index.add(vectors)
    assert flat_head(DIMENSION, metric, rows) + vectors.tobytes() == serialized(index)

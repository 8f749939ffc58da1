"""Every layout holds the living rows, each once, with the vectors and the words that the root has of them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import dear
from tests.roots import METRICS, Row
from tests.transforms.export.exported import (
    DIM,
    assert_same,
    by_faiss,
    by_pixdex,
    clip_metadata,
    clip_vectors,
    ids_of,
    living,
    made,
    root,
    shard,
    vector,
)
from transforms.export.run import LAYOUTS
from transforms.generations import manifest
from transforms.generations.published import open_generation
from transforms.generations.tuned import QueryKind, Setting, Tuned
from transforms.records import Metric
from transforms.storage import layout as layout_of_roots

TRAINED_ON = np.array([vector(seed) for seed in range(10_000, 10_320)], np.float32)
SHARDS = [
    shard(0, 40, texts=range(5, 25), keywords=3),
    shard(100, 30),
    shard(200, 0, texts=range(12)),
    [],
    shard(301, 20, texts=[0, 1, 50, 19], keywords=1),
]
DEAD = {3, 6, 39, 45, 60, (1 << 16) + 29, (2 << 16), (4 << 16) + 1, (4 << 16) + 24}
KEYS: list[tuple[str, Metric]] = [
    ("IVF1,Flat", "ip"),
    ("IVF1,Flat", "l1"),
    ("IVF1,Flat", "l2"),
    ("IVF5,Flat", "l2"),
    ("IVF4,PQ4x4np", "ip"),
    ("OPQ4_8,IVF4,PQ4x4np", "ip"),
    ("IVF4_HNSW8,SQ8", "ip"),
    ("PCA8,IVF3,SQfp16", "l2"),
    ("IVF4,RaBitQ", "l2"),
]


@pytest.mark.parametrize(("key", "metric"), KEYS, ids=lambda value: value)
def test_stock_faiss_finds_what_a_search_of_the_root_finds(tmp_path: Path, key: str, metric: Metric) -> None:
    store = root(tmp_path / "root", key, SHARDS, DEAD, metric=metric, nprobe=2, train_on=TRAINED_ON)
    done = made(store, tmp_path / "out", "faiss")
    rows = living(SHARDS, DEAD)
    assert (done.rows, done.files) == (len(rows), 2)
    table = ids_of(tmp_path / "out")
    assert table["pixdex_id"].to_pylist() == sorted(rows)
    assert table["key"].to_pylist() == [rows[one].key for one in sorted(rows)]
    for mapped in (True, False):
        found = by_faiss(tmp_path / "out/index.faiss", table["pixdex_id"].to_pylist(), 12, mapped=mapped)
        assert_same(found, by_pixdex(store, 12, nprobe=2))
    index = faiss.read_index(str(tmp_path / "out/index.faiss"))
    assert index.metric_type == METRICS[metric]
    if key == "IVF1,Flat":
        assert isinstance(index, faiss.IndexFlat)
    else:
        assert faiss.extract_index_ivf(index).nprobe == 2


def test_the_index_probes_as_many_lists_as_searches_that_were_tuned(tmp_path: Path) -> None:
    store = root(tmp_path / "root", "IVF5,Flat", SHARDS, DEAD, nprobe=1)
    generation = open_generation(store)
    kinds: list[tuple[QueryKind, int]] = [("image", 2), ("text", 4)]
    settings = [Setting(kind, "image", nprobe, 0, None, 1.0, None, 1.0) for kind, nprobe in kinds]
    tuned = Tuned(10, 0.9, None, tuple(settings))
    store.commit(layout_of_roots.generation(2), manifest.seal(replace(generation, generation=2, tuned=tuned)))
    made(store, tmp_path / "out", "faiss")
    assert faiss.read_index(str(tmp_path / "out/index.faiss")).nprobe == 4


def test_dense_ids_let_faiss_reconstruct_every_row(tmp_path: Path) -> None:
    store = root(tmp_path / "root", "IVF5,Flat", SHARDS, DEAD)
    made(store, tmp_path / "out", "faiss")
    index = faiss.read_index(str(tmp_path / "out/index.faiss"))
    index.make_direct_map()
    rows = living(SHARDS, DEAD)
    assert np.array_equal(index.reconstruct_n(0, len(rows)), np.array([rows[one].vector for one in sorted(rows)], "f4"))


def test_the_columns_of_all_shards_are_in_each_file_of_ids(tmp_path: Path) -> None:
    store = root(tmp_path / "root", "IVF5,Flat", SHARDS, DEAD)
    done = made(store, tmp_path / "out", "faiss", rows_per_file=50)
    files = sorted((tmp_path / "out/ids").iterdir())
    assert done.files == 1 + len(files) == 1 + -(-done.rows // 50)
    names = ["id", "pixdex_id", "key", "uri", "modality", "part", "caption", "width", "height", "name", "price", "url"]
    assert all(pq.read_schema(file).names == names for file in files)
    table = ids_of(tmp_path / "out")
    rows = living(SHARDS, DEAD)
    for name in ("name", "price"):
        assert table[name].to_pylist() == [rows[one].columns.get(name) for one in sorted(rows)]


def test_autofaiss_finds_its_index_its_figures_and_its_ids(tmp_path: Path) -> None:
    store_key = "OPQ4_8,IVF4,PQ4x4np"
    store = root(tmp_path / "root", store_key, SHARDS, DEAD, nprobe=3, train_on=TRAINED_ON)
    made(store, tmp_path / "out", "autofaiss")
    ids = ids_of(tmp_path / "out", "i")["pixdex_id"].to_pylist()
    assert_same(by_faiss(tmp_path / "out/knn.index", ids, 10), by_pixdex(store, 10, nprobe=3))
    infos = json.loads((tmp_path / "out/index_infos.json").read_text())
    size = (tmp_path / "out/knn.index").stat().st_size
    assert infos["index_key"] == store_key
    assert (infos["index_param"], infos["index_path"], infos["size in bytes"]) == ("nprobe=3", "knn.index", size)
    assert (infos["nb vectors"], infos["vectors dimension"]) == (len(ids), DIM)
    assert 0 < infos["reconstruction error %"] < 100 and infos["avg_search_speed_ms"] > 0


def test_codes_that_faiss_does_not_decode_have_no_error(tmp_path: Path) -> None:
    made(root(tmp_path / "root", "IVF4,RaBitQ", SHARDS, train_on=TRAINED_ON), tmp_path / "out", "autofaiss")
    assert "reconstruction error %" in json.loads((tmp_path / "out/index_infos.json").read_text())


@pytest.mark.parametrize("rows_per_file", [None, 7])
def test_each_item_is_one_row_of_clip_retrievals_metadata_with_the_vectors_that_it_has(
    tmp_path: Path, rows_per_file: int | None
) -> None:
    store = root(tmp_path / "root", "IVF1,Flat", SHARDS, DEAD)
    done = made(store, tmp_path / "out", "clip-retrieval", rows_per_file=rows_per_file)
    assert_clip_folder(tmp_path / "out", living(SHARDS, DEAD), done.rows)
    metadata = clip_metadata(tmp_path / "out")
    for modality, name in (("image", "image"), ("text", "text"), ("keyword", "text")):
        numbers = {row: number for number, row in enumerate(metadata["pixdex_id"].to_pylist())}
        of_pairs = zip(metadata["pixdex_text_id"].to_pylist(), range(len(metadata)), strict=True)
        numbers |= {row: number for row, number in of_pairs if row is not None}
        index = faiss.read_index(str(tmp_path / f"out/{name}.index"), faiss.IO_FLAG_MMAP)
        rows = {one: row for one, row in living(SHARDS, DEAD).items() if row.modality == modality}
        scores, found, vectors = index.search_and_reconstruct(np.array([row.vector for row in rows.values()], "f4"), 1)
        assert found[:, 0].tolist() == [numbers[one] for one in rows]
        assert np.allclose(scores[:, 0], 1, atol=1e-3)
        assert np.array_equal(vectors[:, 0], np.array([row.vector for row in rows.values()], "f4"))


def assert_clip_folder(folder: Path, rows: dict[int, Row], items: int) -> None:
    metadata = clip_metadata(folder)
    assert len(metadata) == items
    named = [*metadata["pixdex_id"].to_pylist(), *metadata["pixdex_text_id"].drop_null().to_pylist()]
    assert sorted(named) == sorted(rows)
    for one, text, key, caption, path in zip(
        *(metadata[name].to_pylist() for name in ("pixdex_id", "pixdex_text_id", "key", "caption", "image_path")),
        strict=True,
    ):
        row = rows[one]
        assert (row.key, row.caption) == (key, caption)
        assert path == (f"/pictures/{row.key}.png" if row.modality == "image" else "")
        if text is not None:
            assert (row.modality, rows[text].modality, rows[text].key) == ("image", "text", key)
    pictures = clip_vectors(folder, "img_emb", "pixdex_id")
    texts = clip_vectors(folder, "text_emb", "pixdex_text_id")
    assert pictures.keys() | texts.keys() == rows.keys()
    for one, found in (pictures | texts).items():
        assert np.array_equal(found, np.array(rows[one].vector, "f4"))
        assert (rows[one].modality == "image") == (one in pictures)
    pairs = {row.key for row in rows.values() if row.modality == "image"}
    paired = [row.key for row in rows.values() if row.modality == "text" and row.key in pairs]
    assert metadata["pixdex_text_id"].drop_null().to_pylist() != [] or not paired
    assert len(metadata["pixdex_text_id"].drop_null()) == len(paired)


def test_parquet_has_rows_of_each_kind_with_their_vectors(tmp_path: Path) -> None:
    store = root(tmp_path / "root", "IVF5,Flat", SHARDS, DEAD)
    done = made(store, tmp_path / "out", "parquet", rows_per_file=16)
    assert_data_set(tmp_path / "out", living(SHARDS, DEAD))
    assert done.files == len(list((tmp_path / "out").glob("*.parquet")))
    # A reader of the whole folder sees the data set, and nothing of what pixdex notes in it.
    assert pq.read_table(tmp_path / "out").num_rows == done.rows


def assert_data_set(folder: Path, rows: dict[int, Row]) -> None:
    found: dict[int, dict[str, Any]] = {}
    for file in sorted(folder.glob("*.parquet")):
        table = pq.read_table(file)
        assert table.schema.field("embedding").type == pa.list_(pa.float32(), DIM)
        assert set(table["modality"].to_pylist()) == {file.stem.partition("-")[0]}
        assert table["id"].to_pylist() == sorted(table["id"].to_pylist())
        found |= {row["id"]: row for row in table.to_pylist()}
    assert found.keys() == rows.keys()
    for one, row in rows.items():
        told = found[one]
        assert (told["key"], told["modality"], told["part"], told["caption"]) == (
            row.key, row.modality, row.part, row.caption,
        )  # fmt: skip
        assert told["embedding"] == list(row.vector)
        assert all(told.get(name) == row.columns.get(name) for name in ("name", "price"))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["image", "text"])
def test_a_root_of_one_kind(tmp_path: Path, layout: str, kind: str) -> None:
    rows = shard(0, 20) if kind == "image" else shard(0, 0, texts=range(20))
    done = made(root(tmp_path / "root", "IVF1,Flat", [rows]), tmp_path / "out", layout)
    assert (done.rows, done.note) == (20, "")
    if layout == "clip-retrieval":
        there = {path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")}
        emb = {"image": "img_emb", "text": "text_emb"}[kind]
        assert there == {emb, "metadata", f"{kind}.index", "indices_paths.json"}
        assert (tmp_path / f"out/{emb}/{emb}_0.npy").exists() and (
            tmp_path / "out/metadata/metadata_0.parquet"
        ).exists()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("key", ["IVF1,Flat", "IVF2,SQ8"])
def test_a_root_all_of_whose_rows_are_dead(tmp_path: Path, layout: str, key: str) -> None:
    store = root(tmp_path / "root", key, [shard(0, 4)], range(4), train_on=TRAINED_ON)
    assert made(store, tmp_path / "out", layout).rows == 0
    for file in (tmp_path / "out").rglob("*.parquet"):
        assert len(pq.read_table(file)) == 0
    for file in (*(tmp_path / "out").glob("*.faiss"), *(tmp_path / "out").glob("*.index")):
        assert faiss.read_index(str(file)).ntotal == 0


COUNTS = st.tuples(st.integers(0, 9), st.sets(st.integers(0, 12), max_size=6), st.integers(0, 3))
CHECKS: dict[str, Callable[[Path, dict[int, Row], int], None]] = {
    "clip-retrieval": assert_clip_folder,
    "parquet": lambda folder, rows, _: assert_data_set(folder, rows),
}


@dear
@given(st.lists(COUNTS, min_size=1, max_size=7), st.data())
def test_whatever_is_dead_and_however_rows_lie_in_deltas(
    tmp_path_factory: pytest.TempPathFactory, counts: list[tuple[int, set[int], int]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("drawn")
    shards = [
        shard(100 * number + number % 2, images, sorted(texts), keywords)
        for number, (images, texts, keywords) in enumerate(counts)
    ]
    rows = living(shards)
    if not rows:
        return
    dead = data.draw(st.sets(st.sampled_from(sorted(rows))))
    key, size = data.draw(st.sampled_from(["IVF1,Flat", "IVF3,Flat"])), data.draw(st.integers(1, 12))
    store = root(folder / "root", key, shards, dead, train_on=TRAINED_ON)
    alive = living(shards, dead)
    for layout, check in CHECKS.items():
        check_rows = made(store, folder / layout, layout, rows_per_file=size).rows
        if alive:
            check(folder / layout, alive, check_rows)
    made(store, folder / "faiss", "faiss", rows_per_file=size)
    ids = ids_of(folder / "faiss")["pixdex_id"].to_pylist()
    assert ids == sorted(alive)
    assert_same(by_faiss(folder / "faiss/index.faiss", ids, 5, nprobe=3), by_pixdex(store, 5, nprobe=3))

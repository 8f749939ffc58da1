"""`pixdex export` of roots that builds and nights made: what stock faiss finds in it is what a search finds."""

from functools import partial
from pathlib import Path

import faiss
import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines import build, export, reindex
from tests.end_to_end.builds import make_work_small
from tests.end_to_end.reindexing import generation_of
from tests.pipelines.export.exports import Capture, changed_root, exported, said
from tests.tiers import mostly_gate
from tests.transforms.clip_folders import write_part
from tests.transforms.export.exported import (
    assert_same,
    by_faiss,
    by_pixdex,
    clip_metadata,
    clip_vectors,
    content,
    ids_of,
)
from transforms.export.run import LAYOUTS
from transforms.generations import tables
from transforms.generations.published import open_generation
from transforms.stages import merge
from transforms.storage.store import Store
from transforms.tasks.merge.segments import plan_segments

KEYS = ["Flat", "IVF4,PQ4x4", "IVF4,Flat"]


@pytest.fixture(scope="module", params=mostly_gate(KEYS, quick=["Flat", "IVF4,PQ4x4"]))
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return changed_root(tmp_path_factory.mktemp("changed"), request.param)


def test_the_index_has_what_lives_and_what_searches_find(root: Path, tmp_path: Path, capsys: Capture) -> None:
    store, totals = Store.at(str(root)), generation_of(root).totals
    assert exported(root, "faiss", tmp_path / "out") == 0
    last = said(capsys)
    hidden = 3  # a picture, and a row with its picture and its text
    assert last == {
        "layout": "faiss", "rows": totals.vectors - hidden, "files": 2, "generation": generation_of(root).generation,
    }  # fmt: skip
    table = ids_of(tmp_path / "out")
    ids = table["pixdex_id"].to_pylist()
    for nprobe in (1, 4):
        found = by_faiss(tmp_path / "out/index.faiss", ids, 10, nprobe=nprobe)
        assert_same(found, by_pixdex(store, 10, nprobe=nprobe))
    keys = set(table["key"].to_pylist())
    assert not any(key.endswith(("p003.png", "p017.png", "#k001", "p000.png", "#k003")) for key in keys)
    assert any(key.endswith("p900.png") for key in keys) and any(key.endswith("#k900") for key in keys)


def test_hidden_items_are_exported_when_they_are_asked_for(root: Path, tmp_path: Path, capsys: Capture) -> None:
    assert exported(root, "faiss", tmp_path / "out", "--with-hidden") == 0
    assert said(capsys)["rows"] == generation_of(root).totals.vectors
    ids = ids_of(tmp_path / "out")["pixdex_id"].to_pylist()
    found = by_faiss(tmp_path / "out/index.faiss", ids, 10, nprobe=4)
    assert_same(found, by_pixdex(Store.at(str(root)), 10, with_hidden=True, nprobe=4))


def test_a_folder_for_clip_retrieval_has_an_index_of_each_kind(root: Path, tmp_path: Path, capsys: Capture) -> None:
    assert exported(root, "clip-retrieval", tmp_path / "out") == 0
    metadata = clip_metadata(tmp_path / "out")
    assert said(capsys)["rows"] == len(metadata)
    assert metadata["image_path"].to_pylist()[0].endswith(".png") and Path(metadata["image_path"][0].as_py()).is_file()
    pictures = metadata["pixdex_id"].to_pylist()
    found = [
        {pictures[row]: score for row, score in near.items()} for near in by_number(tmp_path / "out/image.index", 10)
    ]
    assert_same(found, by_pixdex(Store.at(str(root)), 10, "image", nprobe=4))
    texts = [text or row for row, text in zip(pictures, metadata["pixdex_text_id"].to_pylist(), strict=True)]
    found = [{texts[row]: score for row, score in near.items()} for near in by_number(tmp_path / "out/text.index", 10)]
    assert_same(found, by_pixdex(Store.at(str(root)), 10, "text", nprobe=4))


def by_number(file: Path, k: int) -> list[dict[int, float]]:
    """What stock faiss finds in all lists of an index, by its ids."""
    count = faiss.read_index(str(file)).ntotal
    return by_faiss(file, _Same(count), k, nprobe=4)


class _Same(list[int]):
    """Stands for a table in which every id is its own number, however large."""

    def __init__(self, count: int) -> None:
        super().__init__(range(count))

    def __getitem__(self, number: int) -> int:  # type: ignore[override]  # no slices are asked for
        return number


def test_what_is_there_is_left_alone(root: Path, tmp_path: Path, capsys: Capture) -> None:
    assert exported(root, "autofaiss", tmp_path / "out") == 0
    first = said(capsys)
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*.*")}
    assert exported(root, "autofaiss", tmp_path / "out") == 0
    output = capsys.readouterr()
    assert "nothing to do" in output.err and output.out.count("\n") == 1
    assert str(first["rows"]) in output.out
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*.*")} == times


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root of pairs of ready embeddings, two of which are rejected."""
    folder = tmp_path_factory.mktemp("ready")
    write_part(folder / "vectors", 0, 60, bad=("text:7", "image:20"))
    write_part(folder / "vectors", 1, 40)
    words = ("--vectors", str(folder / "vectors"), "--index-key", "IVF2,Flat", "--no-progress")
    assert build.main(["--root", str(folder / "root"), *words]) == 0
    return folder / "root"


def test_pairs_of_ready_embeddings_are_one_row_of_metadata(ready: Path, tmp_path: Path) -> None:
    assert exported(ready, "clip-retrieval", tmp_path / "out") == 0
    metadata = clip_metadata(tmp_path / "out")
    assert len(metadata) == 98
    kept = [f"thing 0.{row}" for row in range(60) if row not in (7, 20)] + [f"thing 1.{row}" for row in range(40)]
    assert metadata["caption"].to_pylist() == kept
    assert metadata["image_path"].to_pylist()[0] == "/far/0/0.png"
    assert metadata["source_image_path"].to_pylist()[0] == "/far/0/0.png"
    of_root = {**stored(ready, "image"), **stored(ready, "text")}
    for kind, column in (("img_emb", "pixdex_id"), ("text_emb", "pixdex_text_id")):
        vectors = clip_vectors(tmp_path / "out", kind, column)
        assert len(vectors) == 98 and all(np.allclose(of_root[row], one, atol=1e-6) for row, one in vectors.items())


def stored(root: Path, modality: str) -> dict[int, np.ndarray[tuple[int], np.dtype[np.float32]]]:
    """The vectors of ready embeddings of a kind, 1 long, by their ids."""
    found: dict[int, np.ndarray[tuple[int], np.dtype[np.float32]]] = {}
    for shard, (number, rows) in enumerate(((0, 60), (1, 40))):
        name = {"image": "img_emb", "text": "text_emb"}[modality]
        vectors = np.load(root.parent / f"vectors/{name}/{name}_{number}.npy").astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        first = (shard << 16) + (rows if modality == "text" else 0)
        found |= {first + row: vector for row, vector in enumerate(vectors)}
    return found


@pytest.mark.parametrize("layout", ["faiss", "autofaiss"])
def test_an_index_of_ready_embeddings(ready: Path, tmp_path: Path, layout: str) -> None:
    assert exported(ready, layout, tmp_path / "out") == 0
    ids = ids_of(tmp_path / "out", {"faiss": "id", "autofaiss": "i"}[layout])["pixdex_id"].to_pylist()
    file = tmp_path / "out" / {"faiss": "index.faiss", "autofaiss": "knn.index"}[layout]
    assert_same(by_faiss(file, ids, 10, nprobe=2), by_pixdex(Store.at(str(ready)), 10, nprobe=2))


def test_ready_embeddings_that_changed_are_refused(tmp_path: Path, capsys: Capture) -> None:
    write_part(tmp_path / "vectors", 0, 30)
    words = ("--vectors", str(tmp_path / "vectors"), "--index-key", "Flat", "--no-progress")
    assert build.main(["--root", str(tmp_path / "root"), *words]) == 0
    (tmp_path / "vectors/img_emb/img_emb_0.npy").touch()
    capsys.readouterr()
    assert exported(tmp_path / "root", "parquet", tmp_path / "out") == 1
    assert "img_emb_0.npy has changed" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.parquet"))


def test_a_root_on_an_object_store_is_exported_as_one_in_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_work_small(monkeypatch)
    monkeypatch.setattr(merge, "plan_segments", partial(plan_segments, segment_bytes=1024))
    places = (str(tmp_path / "root"), f"memory://{tmp_path.name}/root")
    for number, rows in enumerate((90, 30)):
        write_part(tmp_path / "vectors", number, rows, bad=("text:3",))
        for place in places:
            if number:
                words = ["--root", place, "--retrain", "never", "--max-tombstones", "1", "--no-progress"]
                assert reindex.main(words) == 0
            else:
                words = ["--vectors", str(tmp_path / "vectors"), "--index-key", "IVF8,SQ8", "--no-progress"]
                assert build.main(["--root", place, *words]) == 0
    stores = [Store.at(place) for place in places]
    (here, far) = (open_generation(store) for store in stores)
    assert not here.is_segmented and far.is_segmented and len(tables.segment_rows(stores[1], far)) > 1
    assert any(not block.merged for block in tables.blocks_of(stores[1], far))
    for layout in LAYOUTS:
        for name, place in zip("ab", places, strict=True):
            words = ["--root", place, "--layout", layout, "--no-progress", "--rows-per-file", "50"]
            assert export.main([*words, str(tmp_path / f"{name}-{layout}")]) == 0
        files = [content(tmp_path / f"{name}-{layout}") for name in "ab"]
        assert files[0].keys() == files[1].keys()
        assert all(files[0][name] == files[1][name] for name in files[0] if name != "index_infos.json")


def test_parquet_is_read_by_what_reads_data_sets(root: Path, tmp_path: Path) -> None:
    duckdb, pandas, polars = (pytest.importorskip(name) for name in ("duckdb", "pandas", "polars"))
    assert exported(root, "parquet", tmp_path / "out") == 0
    rows = sum(pq.ParquetFile(file).metadata.num_rows for file in (tmp_path / "out").glob("*.parquet"))
    frame = pandas.read_parquet(tmp_path / "out")
    assert len(frame) == rows and len(frame["embedding"][0]) == 16
    assert polars.read_parquet(tmp_path / "out/*.parquet").shape[0] == rows
    query = f"SELECT count(*), max(list_sum(embedding)) FROM '{tmp_path}/out/*.parquet'"
    assert duckdb.sql(query).fetchall()[0][0] == rows


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("out",), "--layout is missing: name one of faiss, autofaiss, clip-retrieval, parquet"),
        (("--layout", "faiss"), "DEST is missing: name a new or empty folder"),
        (("--layout", "lance", "out"), "invalid choice: 'lance'"),
        (("--layout", "faiss", "s3://b/x"), "s3://b/x is no folder of this machine"),
        (("--layout", "faiss", "out", "--rows-per-file", "0"), "'0' is not a whole number above 0"),
        (("--layout", "faiss", "out", "more"), "'more' is not expected here"),
    ],
)
def test_bad_usage_is_one_line(tmp_path: Path, capsys: Capture, words: tuple[str, ...], why: str) -> None:
    assert export.main(["--root", str(tmp_path), *words]) == 2
    error = capsys.readouterr().err
    assert why in error and error.count("\n") == 1


def test_the_command_offers_the_layouts_that_there_are() -> None:
    assert tuple(LAYOUTS) == export.LAYOUTS

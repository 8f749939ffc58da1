"""A folder of clip-retrieval, from the command line to results: pairs are one item, found by both of their vectors."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines import gc, hide, inspect, search, verify
from tests import s3
from tests.end_to_end import reindexing
from tests.end_to_end.builds import Finished, generation_of, rejects_of, run_here
from tests.end_to_end.test_bad_usage import check_refused
from tests.tiers import mostly_gate
from tests.transforms.clip_folders import text_seed, unit_vectors, write_part
from tests.transforms.ready import save_npy
from transforms.search.searcher import Searcher
from transforms.storage.store import Store

Capture = pytest.CaptureFixture[str]
PARTS = (60, 40, 25)
KEY = ("--index-key", "IVF4,SQ8", "--no-progress")


def build(capsys: Capture, root: object, *argv: object) -> Finished:
    return run_here(capsys, "--root", root, *KEY, *argv)


def last_line(capsys: Capture) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return record


def found_by(capsys: Capture, folder: Path, root: Path, vector: object, *flags: str) -> list[dict[str, Any]]:
    """Searches as another program would."""
    np.save(folder / "query.npy", np.asarray(vector))
    capsys.readouterr()
    assert search.main(["--root", str(root), "--vector", str(folder / "query.npy"), "--json", *flags]) == 0
    results: list[dict[str, Any]] = last_line(capsys)["results"]
    return results


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three parts, of which one pair has a bad picture and another a bad text."""
    for number, rows in enumerate(PARTS):
        write_part(tmp_path / "out", number, rows, bad=("image:7", "text:9") if number == 1 else ())
    return tmp_path / "out"


def test_pairs_are_items_found_by_both_and_told_apart(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    root = tmp_path / "root"
    done = build(capsys, root, "--vectors", folder)
    assert done.code == 0, done.err
    assert [done.said[name] for name in ("items", "embedded", "rejected", "vectors")] == [125, 123, 2, 246]
    totals = generation_of(root).totals
    assert (totals.images, totals.texts, totals.shards) == (123, 123, 3)
    named = f"file://{folder}/img_emb/img_emb_1.npy"
    assert [(row["key"], row["modality"]) for row in rejects_of(root)] == [
        (f"{named}#7", "image"),
        (f"{named}#9", "text"),
    ]
    assert verify.main(["--root", str(root)]) == 0

    for seed, modality in ((1, "image"), (text_seed(1), "text")):
        query = unit_vectors(40, seed)[12]
        for flags in ((), ("--modality", modality), ("--modality", "any")):
            best = found_by(capsys, tmp_path, root, query, "-k", "5", *flags)[0]
            assert (best["key"], best["modality"], best["exact"]) == (f"{named}#12", modality, True), flags
            assert (best["uri"], best["caption"]) == ("file:///far/1/12.png", "thing 1.12")
        (other,) = {"image", "text"} - {modality}
        assert {hit["modality"] for hit in found_by(capsys, tmp_path, root, query, "--modality", other)} == {other}
    every = found_by(capsys, tmp_path, root, query, "-k", "500", "--nprobe", "4")
    assert len({hit["key"] for hit in every}) == len(every) == 123

    capsys.readouterr()
    assert inspect.main(["--root", str(root), "--json"]) == 0
    assert last_line(capsys)["ready"] == {"shards": 3, "files": 6}


def test_a_condition_and_hiding_are_of_both_rows(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    root = tmp_path / "root"
    assert build(capsys, root, "--vectors", folder).code == 0
    searcher = Searcher.open(Store.at(str(root)))
    assert searcher.rows_of(None, "caption = 'thing 1.12'").ids().tolist() == [1 << 16 | 12, 1 << 16 | 52]
    key = f"file://{folder}/img_emb/img_emb_1.npy#12"
    assert hide.main(["--root", str(root), key]) == 0
    for seed in (1, text_seed(1)):
        found = found_by(capsys, tmp_path, root, unit_vectors(40, seed)[12], "-k", "200", "--nprobe", "4")
        assert len(found) == 122 and key not in {hit["key"] for hit in found}
    assert verify.main(["--root", str(root)]) == 0
    assert gc.main(["--root", str(root), "--keep", "1", "--older-than", "0s"]) == 0
    assert verify.main(["--root", str(root)]) == 0


@pytest.mark.parametrize("csv", mostly_gate([False, True], quick=[False]))
def test_pairs_may_be_said_with_flags(folder: Path, tmp_path: Path, capsys: Capture, csv: bool) -> None:
    whole = build(capsys, tmp_path / "whole", "--vectors", folder)
    metadata = folder / "metadata"
    words = [
        "--vectors",
        folder / "img_emb/*.npy",
        "--vectors",
        folder / "text_emb/*.npy",
        "--uri-column",
        "image_path",
    ]
    if csv:
        import pyarrow.csv as pa_csv  # noqa: PLC0415 - of this case alone

        for file in sorted(metadata.iterdir()):
            pa_csv.write_csv(pq.read_table(file), tmp_path / f"{file.stem}.csv")
        metadata = tmp_path / "metadata_*.csv"
    beside = ["--metadata", metadata, "--metadata", metadata, "--modality", "image", "--modality", "text"]
    said = build(capsys, tmp_path / "said", *words, *beside)
    assert said.code == 0, said.err
    bodies = [(tmp_path / name / generation_of(tmp_path / name).index.path).read_bytes() for name in ("whole", "said")]
    assert bodies[0] == bodies[1] and said.said["vectors"] == whole.said["vectors"] == 246
    query = unit_vectors(40, text_seed(1))[12]
    results = [found_by(capsys, tmp_path, tmp_path / name, query) for name in ("whole", "said")]
    assert results[0] == results[1]


@pytest.mark.gate
def test_files_of_an_object_store_are_read_where_they_are(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    memory = fsspec.filesystem("memory")
    for file in filter(Path.is_file, folder.rglob("*")):
        memory.pipe_file(f"/clip/{file.relative_to(folder)}", file.read_bytes())
    try:
        done = build(capsys, tmp_path / "root", "--vectors", "memory://clip")
        assert done.code == 0, done.err
        best = found_by(capsys, tmp_path, tmp_path / "root", unit_vectors(40, text_seed(1))[12])[0]
        assert (best["key"], best["modality"]) == ("memory:///clip/img_emb/img_emb_1.npy#12", "text")
    finally:
        memory.rm("/clip", recursive=True)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with s3.serving() as address, s3.bucket_of(address) as name:
        yield name


@pytest.mark.gate
def test_pairs_and_root_may_be_in_a_bucket(folder: Path, bucket: str, tmp_path: Path, capsys: Capture) -> None:
    Store.at(f"{bucket}/root").filesystem.put(str(folder), f"{bucket}/clip", recursive=True)
    done = build(capsys, f"{bucket}/root", "--vectors", f"{bucket}/clip")
    assert done.code == 0, done.err
    assert (done.said["items"], done.said["vectors"]) == (125, 246)
    np.save(tmp_path / "query.npy", unit_vectors(40, text_seed(1))[12])
    capsys.readouterr()
    assert search.main(["--root", f"{bucket}/root", "--vector", str(tmp_path / "query.npy"), "--json"]) == 0
    best = last_line(capsys)["results"][0]
    assert (best["key"], best["modality"]) == (f"{bucket}/clip/img_emb/img_emb_1.npy#12", "text")
    assert verify.main(["--root", f"{bucket}/root"]) == 0


REFUSED = {
    "a part without texts": (
        "text_emb/text_emb_2.npy",
        "text_emb matches 2 files, --vectors",
        "img_emb 3: they must be as",
    ),
    "a part without metadata": ("metadata/metadata_2.parquet", "--metadata", "matches 2 files"),
}


@pytest.mark.parametrize("what", mostly_gate(REFUSED, quick=["a part without texts"]))
def test_parts_that_do_not_fit_are_one_line(folder: Path, tmp_path: Path, capsys: Capture, what: str) -> None:
    missing, *words = REFUSED[what]
    (folder / missing).unlink()
    check_refused(build(capsys, tmp_path / "root", "--vectors", folder), *words)


def test_the_output_of_clip_retrieval_itself(tmp_path: Path, capsys: Capture, shared_data: Path) -> None:
    there = shared_data / "clip-retrieval-output"
    if not there.is_dir():
        pytest.skip(f"an output of clip-retrieval is not here: {there}")
    done = run_here(
        capsys, "--root", tmp_path / "root", "--no-progress", "--vectors", there / "embeddings",
        "--image-base", f"/content={there}",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert [done.said[name] for name in ("items", "rejected", "vectors")] == [9, 0, 18]
    texts = np.load(there / "embeddings/text_emb/text_emb_0.npy")
    page = tmp_path / "page.html"
    hits = found_by(
        capsys, tmp_path, tmp_path / "root", texts[3], "--modality", "image", "-k", "9", "--html", str(page)
    )
    assert len(hits) == 9
    assert hits[0]["uri"] == f"file://{there}/catalog/img4.jpg"
    assert hits[0]["caption"] == "a yellow top with a v neck and long sleeves"
    assert page.read_text().count("data:image/") == 9
    shutil.rmtree(tmp_path / "root")


@pytest.mark.gate
def test_a_root_of_before_there_were_pairs_goes_on(tmp_path: Path, capsys: Capture) -> None:
    for number in (0, 1):
        save_npy(tmp_path / f"v/{number}.npy", unit_vectors(60, number))
    root, words = tmp_path / "root", ("--vectors", tmp_path / "v", "--modality", "text")
    assert build(capsys, root, *words).code == 0
    shards = pq.read_schema(root / generation_of(root).tables.shards.path)
    assert shards.field("ready").type.get_field_index("text_uri") < 0
    manifest = root / "generations/000001.json"
    record = json.loads(manifest.read_text())
    for name in ("text_vectors", "uri_column", "image_base", "image_was"):
        del record["request"]["sources"][0][name]
    manifest.chmod(0o644)
    manifest.write_text(json.dumps(record, sort_keys=True))
    assert verify.main(["--root", str(root)]) == 0
    assert build(capsys, root, *words).said["embedded"] == 0
    save_npy(tmp_path / "v/2.npy", unit_vectors(60, 2))
    assert reindexing.run(root) == 0
    assert found_by(capsys, tmp_path, root, unit_vectors(60, 2)[7])[0]["key"] == f"file://{tmp_path}/v/2.npy#7"
    assert verify.main(["--root", str(root)]) == 0

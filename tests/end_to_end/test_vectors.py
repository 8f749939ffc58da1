"""An index of ready embeddings, from the command line to what a search finds."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import search
from tests.end_to_end.builds import REPOSITORY, Finished, every_file, generation_of, rejects_of, run_here
from tests.end_to_end.test_bad_usage import check_refused
from tests.tiers import mostly_gate
from tests.transforms.ready import Vectors, random_vectors, save_npy, save_parquet
from transforms.records import NO_ENCODER
from transforms.shards.lengths import TOO_LONG

Capture = pytest.CaptureFixture[str]
DIM = 16


def build(capsys: Capture, root: Path, *argv: object) -> Finished:
    return run_here(capsys, "--root", root, "--no-progress", *argv)


def found_by(capsys: Capture, folder: Path, root: Path, vector: Vectors, k: int = 3) -> list[dict[str, Any]]:
    """Searches as another program would."""
    query = folder / "query.npy"
    np.save(query, vector)
    capsys.readouterr()
    assert search.main(["--root", str(root), "--vector", str(query), "-k", str(k), "--json"]) == 0
    results: list[dict[str, Any]] = json.loads(capsys.readouterr().out.splitlines()[-1])["results"]
    return results


@pytest.mark.gate
def test_npy_and_parquet_of_both_widths_give_the_same_index(tmp_path: Path, capsys: Capture) -> None:
    vectors = random_vectors(3000, DIM)
    vectors[11], vectors[2500, 3] = 0, np.nan
    save_npy(tmp_path / "half.npy", vectors)
    save_parquet(tmp_path / "single.parquet", vectors.astype("<f4"), column="v", group=1000)
    trained, bodies = set(), set()
    for name in ("half.npy", "single.parquet"):
        root = tmp_path / "roots" / name
        argv = ["--vectors", tmp_path / name, "--vector-column", "v", "--index-key", "IVF16,Flat"]
        done = build(capsys, root, *argv)
        assert done.code == 0, done.err
        counts = ("items", "embedded", "rejected", "vectors")
        assert tuple(done.said[name] for name in counts) == (3000, 2998, 2, 2998)
        trained.add(done.said["trained"])
        bodies.add((root / generation_of(root).index.path).read_bytes())
    assert len(trained) == len(bodies) == 1


def test_bad_rows_are_rejects_in_no_list_and_the_ids_of_the_others_stay(tmp_path: Path, capsys: Capture) -> None:
    vectors = random_vectors(70, DIM)
    vectors[0], vectors[30, 2], vectors[31, 2] = 0, np.nan, np.inf
    file = save_npy(tmp_path / "a.npy", vectors)
    assert build(capsys, tmp_path / "root", "--vectors", file).code == 0
    assert [(row["key"], row["stage"], row["type"]) for row in rejects_of(tmp_path / "root")] == [
        (f"file://{file}#{number}", "read", "BadVector") for number in (0, 30, 31)
    ]
    found = found_by(capsys, tmp_path, tmp_path / "root", vectors[69], k=70)
    assert len(found) == 67
    assert (found[0]["id"], found[0]["key"]) == (69, f"file://{file}#69")
    assert {hit["id"] for hit in found} == set(range(70)) - {0, 30, 31}


@pytest.mark.parametrize("metric", mostly_gate(["ip", "l2"], quick=["ip"]))
def test_a_row_whose_products_overflow_is_a_reject_and_normalised_it_is_none(
    tmp_path: Path, capsys: Capture, metric: str
) -> None:
    vectors = random_vectors(900, DIM, "<f4")
    vectors[[5, 800]] = 3e38
    vectors[6] = 1e14
    save_npy(tmp_path / "a.npy", vectors)
    words = ["--vectors", tmp_path / "a.npy", "--index-key", "IVF16,SQ8", "--metric-type", metric]
    done = build(capsys, tmp_path / "root", *words, "--no-normalize")
    assert (done.code, done.said["rejected"], done.said["vectors"]) == (0, 2, 898), done.err
    found = rejects_of(tmp_path / "root")
    assert [row["key"].rpartition("#")[2] for row in found] == ["5", "800"]
    assert {row["message"] for row in found} == {TOO_LONG}
    hit = found_by(capsys, tmp_path, tmp_path / "root", vectors[6], k=1)[0]
    assert hit["id"] == 6
    np.save(tmp_path / "query.npy", vectors[5])
    argv = ["--root", str(tmp_path / "root"), "--vector", str(tmp_path / "query.npy")]
    assert search.main(argv) == 2
    assert "a query cannot be searched: the vector's squared norm" in capsys.readouterr().err
    unit = build(capsys, tmp_path / "unit", *words)
    assert (unit.code, unit.said["rejected"]) == (0, 0), unit.err


def test_the_metadata_beside_the_vectors_is_shown(tmp_path: Path, capsys: Capture) -> None:
    parts = [random_vectors(count, DIM, seed=count) for count in (40, 25)]
    for number, part in enumerate(parts):
        save_npy(tmp_path / f"v/{number}.npy", part)
        (tmp_path / "m").mkdir(exist_ok=True)
        columns = {
            "caption": [f"thing {number}.{row}" for row in range(len(part))],
            "key": list(range(len(part))),
            "ratio": [float("nan"), *[0.5] * (len(part) - 1)],
            "tags": [["a", "b"]] * len(part),
            "seen": pa.array([0] * len(part), pa.timestamp("s")),
            "thumbnail": [b"jpeg"] * len(part),
        }
        pq.write_table(pa.table(columns), tmp_path / f"m/{number}.parquet", row_group_size=7)
    root = tmp_path / "root"
    done = build(capsys, root, "--vectors", tmp_path / "v/*.npy", "--metadata", tmp_path / "m", "--modality", "text")
    assert done.code == 0, done.err
    (hit,) = found_by(capsys, tmp_path, root, parts[1][13], k=1)
    assert hit["key"] == f"file://{tmp_path}/v/1.npy#13"
    assert (hit["id"], hit["modality"], hit["caption"]) == (1 << 16 | 13, "text", "thing 1.13")
    assert hit["columns"] == {"source_key": 13, "ratio": 0.5, "tags": ["a", "b"], "seen": "1970-01-01 00:00:00"}
    (first,) = found_by(capsys, tmp_path, root, parts[0][0], k=1)
    assert first["columns"]["ratio"] is None
    assert generation_of(root).totals.texts == 65


@pytest.mark.parametrize(
    "captions", [pytest.param([7] * 30, id="int", marks=pytest.mark.gate), pytest.param([["a", "b"]] * 30, id="list")]
)
def test_captions_of_any_type_are_shown_and_a_changed_file_is_named(
    tmp_path: Path, capsys: Capture, captions: list[object]
) -> None:
    vectors, beside = random_vectors(30, DIM), tmp_path / "m.parquet"
    save_npy(tmp_path / "a.npy", vectors)
    pq.write_table(pa.table({"caption": captions, "name": list(range(30))}), beside)
    root = tmp_path / "root"
    words = ["--metadata", beside, "--modality", "text"]
    assert build(capsys, root, "--vectors", tmp_path / "a.npy", *words).code == 0
    np.save(tmp_path / "query.npy", vectors[3])
    page = tmp_path / "page.html"
    argv = ["--root", str(root), "--vector", str(tmp_path / "query.npy"), "--html", str(page)]
    shown = "7" if isinstance(captions[0], int) else "a, b"
    assert search.main(argv) == 0
    assert shown in capsys.readouterr().out and shown in page.read_text()
    pq.write_table(pa.table({"caption": ["other"] * 30}), beside)
    assert search.main(argv) == 1
    assert "m.parquet has changed" in capsys.readouterr().err


def test_the_other_columns_of_a_parquet_file_are_shown(tmp_path: Path, capsys: Capture) -> None:
    vectors = random_vectors(50, DIM, "<f4")
    columns = {"caption": ["x"] * 50, "place": [str(row) for row in range(50)]}
    file = save_parquet(tmp_path / "a.parquet", vectors, group=9, columns=columns)
    assert build(capsys, tmp_path / "root", "--vectors", file).code == 0
    hits = found_by(capsys, tmp_path, tmp_path / "root", vectors[33])
    assert (hits[0]["id"], hits[0]["caption"], hits[0]["columns"]) == (33, "x", {"place": "33"})


def test_files_of_an_object_store_are_read_where_they_are(tmp_path: Path, capsys: Capture) -> None:
    vectors = random_vectors(300, DIM)
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/ready/a.npy", save_npy(tmp_path / "a.npy", vectors).read_bytes())
    try:
        done = build(capsys, tmp_path / "root", "--vectors", "memory://ready/*.npy")
        assert done.code == 0, done.err
        hits = found_by(capsys, tmp_path, tmp_path / "root", vectors[123])
        assert hits[0]["key"] == "memory:///ready/a.npy#123"
    finally:
        memory.rm("/ready", recursive=True)
    assert not any((tmp_path / "root").rglob("shard-*"))


@pytest.mark.gate
def test_the_same_command_again_does_nothing_and_another_one_is_refused(tmp_path: Path, capsys: Capture) -> None:
    save_npy(tmp_path / "v/a.npy", random_vectors(30, DIM))
    save_npy(tmp_path / "w/a.npy", random_vectors(30, DIM + 1))
    root = tmp_path / "root"
    assert build(capsys, root, "--vectors", tmp_path / "v").code == 0
    before = every_file(root)
    again = build(capsys, root, "--vectors", tmp_path / "v")
    assert (again.code, again.said["embedded"], again.said["vectors"]) == (0, 0, 30)
    refused = build(capsys, root, "--vectors", tmp_path / "w")
    check_refused(refused, "ready embeddings of 16 dimensions, not ready embeddings of 17", "new root")
    assert every_file(root) == before


@pytest.mark.gate
def test_a_finished_root_needs_its_embeddings_no_more(tmp_path: Path, capsys: Capture) -> None:
    files = [save_npy(tmp_path / name / "a.npy", random_vectors(60, DIM)) for name in ("one", "two")]
    argv = ["--vectors", tmp_path / "one" / "*.npy", "--vectors", tmp_path / "two" / "*.npy"]
    assert build(capsys, tmp_path / "root", *argv).code == 0
    for file in files:
        file.rename(tmp_path / f"moved-{file.parent.name}.npy")
    again = build(capsys, tmp_path / "root", *argv)
    assert (again.code, again.said["embedded"]) == (0, 0)
    assert "nothing to do" in again.err[-1]


@pytest.mark.gate
def test_an_unfinished_run_goes_on_and_notices_a_file_that_changed(tmp_path: Path, capsys: Capture) -> None:
    file = save_npy(tmp_path / "v/a.npy", random_vectors(30, DIM))
    argv = ["embed", "--root", str(tmp_path / "root"), "--vectors", str(tmp_path / "v"), "--no-progress"]
    done = subprocess.run([sys.executable, "-m", "pipelines", *argv], cwd=REPOSITORY, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    content = file.read_bytes()
    save_npy(file, random_vectors(31, DIM))
    changed = build(capsys, tmp_path / "root", "--vectors", tmp_path / "v")
    assert changed.code == 1
    assert "a.npy has changed" in changed.err[-1] and "--abandon-plan" in changed.err[-1]
    file.write_bytes(content)
    anew = build(capsys, tmp_path / "root", "--vectors", tmp_path / "v", "--abandon-plan")
    assert (anew.code, anew.said["generation"], anew.said["vectors"]) == (0, 2, 30)


def test_a_root_of_ready_embeddings_says_that_it_has_no_encoder(tmp_path: Path, capsys: Capture) -> None:
    save_npy(tmp_path / "a.npy", random_vectors(30, DIM))
    done = run_here(capsys, "--root", tmp_path / "root", "--vectors", tmp_path / "a.npy")
    assert "ready embeddings, which workers will count, 16 dimensions" in done.err
    encoder = generation_of(tmp_path / "root").request.encoder
    assert (encoder.spec, encoder.modalities, encoder.dim) == (NO_ENCODER, (), DIM)


@pytest.mark.gate
def test_building_imports_no_model_and_no_picture_library(tmp_path: Path) -> None:
    save_npy(tmp_path / "a.npy", random_vectors(30, DIM))
    code = (
        "import sys; from pipelines import build; code = build.main(sys.argv[1:]);"
        "sys.exit(code or ' '.join({'torch', 'PIL', 'open_clip', 'timm'} & set(sys.modules)))"
    )
    argv = ["--root", str(tmp_path / "root"), "--vectors", str(tmp_path / "a.npy"), "--no-progress"]
    done = subprocess.run(
        [sys.executable, "-c", code, *argv], cwd=REPOSITORY, capture_output=True, check=False, encoding="utf-8"
    )
    assert done.stderr.strip() == ""


REFUSED: dict[str, tuple[list[str], list[str]]] = {
    "nothing matches": (["{folder}/*.bin"], ["*.bin matches no file"]),
    "doubles": (["{folder}/double.npy"], ["double.npy holds <f8", "astype('<f4')"]),
    "cut short": (["{folder}/short.npy"], ["short.npy is cut short", "copy it again"]),
    "another dimension": (["{folder}/v"], ["b.npy has vectors of 5 components, the first file of 4"]),
    "no rows": (["{folder}/empty.npy"], ["hold no vector"]),
    "rows of the metadata": (["{folder}/v/a.npy", "--metadata", "{folder}/m.parquet"], ["has 2 rows", "has 3 vectors"]),
    "files of the metadata": (["{folder}/v", "--metadata", "{folder}/m.parquet"], ["matches 1 files", "2: they must"]),
    "with pictures": (["{folder}/v", "--images", "{folder}"], ["one encoder"]),
    "with an encoder": (["{folder}/v", "--encoder", "demo"], ["--encoder demo makes vectors of 64", "have 4"]),
    "key for another dimension": (["{folder}/v/a.npy", "--index-key", "IVF4,PQ3"], ["PQ3", "4 dimensions"]),
}


@pytest.mark.parametrize("what", mostly_gate(REFUSED, quick=["another dimension"]))
def test_what_cannot_work_is_one_line_and_leaves_nothing_in_the_way(tmp_path: Path, capsys: Capture, what: str) -> None:
    save_npy(tmp_path / "double.npy", np.ones((3, 4)))
    short = save_npy(tmp_path / "short.npy", random_vectors(3, 4))
    short.write_bytes(short.read_bytes()[:-1])
    save_npy(tmp_path / "empty.npy", np.empty((0, 4), np.float16))
    save_npy(tmp_path / "v/a.npy", random_vectors(3, 4))
    save_npy(tmp_path / "v/b.npy", random_vectors(3, 5))
    pq.write_table(pa.table({"caption": ["x", "y"]}), tmp_path / "m.parquet")
    argv, words = REFUSED[what]
    root = tmp_path / "root"
    check_refused(build(capsys, root, "--vectors", *(word.format(folder=tmp_path) for word in argv)), *words)
    if not root.exists():
        return
    mended = run_here(capsys, "--root", root, "--vectors", tmp_path / "v/a.npy")
    assert mended.code == 0, mended.err
    assert "gave up the unfinished run" in mended.err[0]

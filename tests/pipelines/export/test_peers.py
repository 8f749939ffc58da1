"""Exports in the tools that they are for, each in an environment of its own, which a variable names by its interpreter.

    python3 -m venv ~/peers/faiss && ~/peers/faiss/bin/pip install faiss-cpu
    python3 -m venv ~/peers/clip && ~/peers/clip/bin/pip install clip-retrieval
    python3 -m venv ~/peers/autofaiss && ~/peers/autofaiss/bin/pip install \\
        autofaiss==2.18.0 faiss-cpu==1.13.2 "numpy<2" "pyarrow<24"
    PIXDEX_FAISS=~/peers/faiss/bin/python PIXDEX_CLIP_RETRIEVAL=~/peers/clip/bin/python \\
        PIXDEX_AUTOFAISS=~/peers/autofaiss/bin/python python -m pytest -n 0 -m slow tests/pipelines/export

clip-retrieval serves with an encoder of the tests in the place of its model (peers/serve_clip.py).
"""

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.conftest import REPOSITORY, skip_or_fail
from tests.encoders import TinyEncoder
from tests.pipelines.export.exports import changed_root, exported
from tests.transforms.export.exported import QUERIES, assert_same, by_pixdex, clip_metadata, ids_of
from transforms.search.rules import ID, Rules
from transforms.search.searcher import Searcher
from transforms.storage.store import Store

pytestmark = pytest.mark.slow

PEERS = Path(__file__).parent / "peers"


def interpreter(name: str) -> str:
    python = os.environ.get(f"PIXDEX_{name}")
    if not python:
        skip_or_fail(name, f"PIXDEX_{name} names no interpreter")
    return python


def asked(name: str, script: str, *words: object) -> Any:
    """What a script says in the environment of a tool."""
    argv = [interpreter(name), "-P", str(PEERS / script), *map(str, words)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": ""})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module", params=["Flat", "IVF4,PQ4x4", "OPQ4_8,IVF4,PQ4"])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return changed_root(tmp_path_factory.mktemp("changed"), request.param, pictures=300, rows=40)


def test_stock_faiss(root: Path, tmp_path: Path) -> None:
    assert exported(root, "faiss", tmp_path / "out") == 0
    np.save(tmp_path / "queries.npy", QUERIES)
    said = asked("FAISS", "search_stock.py", tmp_path / "out/index.faiss", tmp_path / "queries.npy", 20)
    ids = ids_of(tmp_path / "out")["pixdex_id"].to_pylist()
    assert said["ntotal"] == len(ids)
    found = [
        {ids[row]: score for row, score in zip(rows, scores, strict=True) if row >= 0}
        for rows, scores in zip(said["ids"], said["scores"], strict=True)
    ]
    assert_same(found, by_pixdex(Store.at(str(root)), 20, nprobe=nprobe_of(root)))


def nprobe_of(root: Path) -> int:
    return Searcher.open(Store.at(str(root))).generation.trained.nprobe


def test_autofaiss_scores_its_index(root: Path, tmp_path: Path) -> None:
    assert exported(root, "autofaiss", tmp_path / "out") == 0
    (tmp_path / "vectors").mkdir()
    ids = ids_of(tmp_path / "out", "i")["pixdex_id"].to_pylist()
    assert exported(root, "parquet", tmp_path / "rows") == 0
    table = pq.read_table(tmp_path / "rows").sort_by("id")
    assert table["id"].to_pylist() == ids
    np.save(tmp_path / "vectors/all.npy", np.array(table["embedding"].to_pylist(), np.float32))
    said = asked("AUTOFAISS", "score.py", tmp_path / "out/knn.index", tmp_path / "vectors")
    infos = json.loads((tmp_path / "out/index_infos.json").read_text())
    same = {"nb vectors", "vectors dimension", "size in bytes", "compression ratio", "reconstruction error %"}
    assert {name: said[name] for name in same} == pytest.approx({name: infos[name] for name in same}, rel=1e-4)
    assert infos.keys() >= said.keys() - {"1-recall@20", "1-recall@40", "20-recall@20", "40-recall@40"}
    assert said["1-recall@40"] > (0.99 if infos["index_key"] == "Flat" else 0.5)


def test_embedding_reader_reads_vectors_and_metadata_of_all_layouts(root: Path, tmp_path: Path) -> None:
    assert exported(root, "parquet", tmp_path / "rows", "--rows-per-file", "64") == 0
    said = asked("CLIP_RETRIEVAL", "read_embeddings.py", "parquet", tmp_path / "rows", "id,key,modality")
    files = sorted((tmp_path / "rows").glob("*.parquet"))
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    assert [(row["id"], row["key"], row["modality"]) for row in said["rows"]] == [
        (row["id"], row["key"], row["modality"]) for row in rows
    ]
    assert np.allclose(said["sums"], [np.sum(row["embedding"], dtype=np.float32) for row in rows], atol=1e-5)

    assert exported(root, "clip-retrieval", tmp_path / "clip", "--rows-per-file", "64") == 0
    metadata = clip_metadata(tmp_path / "clip")
    by_id = {row["id"]: np.sum(row["embedding"], dtype=np.float32) for row in rows}
    said = asked("CLIP_RETRIEVAL", "read_embeddings.py", "npy", tmp_path / "clip/img_emb", "")
    assert said["count"] == len(metadata) and said["dim"] == 16
    assert np.allclose(said["sums"], [by_id[one] for one in metadata["pixdex_id"].to_pylist()], atol=1e-5)
    beside = tmp_path / "clip/metadata"
    words = ("parquet_npy", tmp_path / "clip/img_emb", beside, "key,caption")
    said = asked("CLIP_RETRIEVAL", "read_embeddings.py", *words)
    assert [row["key"] for row in said["rows"]] == metadata["key"].to_pylist()
    assert [row["caption"] for row in said["rows"]] == metadata["caption"].to_pylist()


@pytest.fixture
def served(root: Path, tmp_path: Path) -> Iterator[str]:
    """The address of clip-retrieval, which serves an export."""
    assert exported(root, "clip-retrieval", tmp_path / "out", "--rows-per-file", "64") == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = [interpreter("CLIP_RETRIEVAL"), "-P", str(PEERS / "serve_clip.py"), str(REPOSITORY), str(port)]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            argv, cwd=tmp_path / "out", stdout=log, stderr=log, env=os.environ | {"PYTHONPATH": ""}
        )
    try:
        address, waited = f"http://127.0.0.1:{port}", time.monotonic() + 120
        while True:
            try:
                assert got(f"{address}/indices-list") == ["pixdex"]
                break
            except urllib.error.URLError:
                assert server.poll() is None and time.monotonic() < waited, (tmp_path / "log").read_text()
                time.sleep(0.2)
        yield address
    finally:
        server.kill()
        server.wait()


def got(url: str, question: dict[str, Any] | None = None) -> Any:
    data = None if question is None else json.dumps(question).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=30) as answer:
        return json.load(answer)


def test_clip_retrieval_serves_it_over_http(root: Path, served: str) -> None:
    store = Store.at(str(root))
    searcher = Searcher.open(store)
    settings = {"num_images": 8, "num_result_ids": 8, "indice_name": "pixdex"}
    for modality in ("image", "text"):
        for query in QUERIES[:4]:
            question = {"embedding_input": query.tolist(), "modality": modality, **settings}
            answer = got(f"{served}/knn-service", question)
            (hits,) = searcher.search(
                query[None], 8, searcher.generation.trained.nprobe, modality, shortlist=0, rules=Rules(group_by=ID)
            )
            assert answer
            if searcher.generation.trained.nlist == 1:
                assert [row["key"] for row in answer] == [hit.key for hit in hits]
                assert [row["caption"] for row in answer] == [hit.caption for hit in hits]
                assert np.allclose([row["similarity"] for row in answer], [hit.score for hit in hits], atol=1e-5)
            for row in answer:
                assert modality == "text" or row["image"]  # the picture itself, since it is on this machine
    words = "text 7"
    answer = got(f"{served}/knn-service", {"text": words, "modality": "text", **settings})
    vector = TinyEncoder().encode_texts([words])
    (hits,) = searcher.search(vector / np.linalg.norm(vector), 8, 99, "text", shortlist=0, rules=Rules(group_by=ID))
    assert answer[0]["caption"] == hits[0].caption == words
    number = answer[0]["id"]
    (told,) = got(f"{served}/metadata", {"ids": [number], "indice_name": "pixdex"})
    assert told["metadata"]["caption"] == words

"""Every kind of index is built, opened and searched, and finds what one faiss index over the same vectors finds."""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines import build
from tests.end_to_end.builds import TINY, generation_of, rows_of
from tests.tiers import mostly_gate
from transforms.generations.manifest import Generation
from transforms.index.assignment import padded
from transforms.index.index_key import IndexKey, code_size
from transforms.search.searcher import Searcher
from transforms.shards.vectors import BATCH_ROWS
from transforms.storage.store import Store

ROWS = 400
DIM = 16
KINDS = [
    ("IVF4,SQ4", "ip"),
    ("IVF4,SQ6", "l2"),
    ("IVF4,SQfp16", "l2"),
    ("IVF4,RaBitQ", "ip"),
    ("IVF4,RaBitQ4", "l2"),
    ("IVF4,PQ8x4", "ip"),
    ("PCAR8,IVF4,SQ8", "l2"),
    ("OPQ4_8,IVF4,PQ4", "ip"),
    ("RR,IVF8_HNSW8,SQ8", "ip"),
]
"""Flat, SQ8 and PQ by themselves are compared bit for bit in test_index_equality."""

EVERY_TIME = [("RR,IVF8_HNSW8,SQ8", "ip")]
"""What the quick tests build; the gate builds all."""

COARSE = ("RaBitQ", "PQ", "SQ4")
"""Codes so short that another vector may look nearer than the vector itself."""


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("texts") / "rows.csv"
    file.write_text("text\n" + "".join(f"words {number}\n" for number in range(ROWS)), encoding="utf-8")
    return file


def built(root: Path, csv: Path, key: str, metric: str, *more: str) -> Generation:
    argv = ["--root", root, "--csv", csv, "--text-column", "text", "--index-key", key, "--metric-type", metric]
    assert build.main([str(word) for word in (*argv, *TINY, *more)]) == 0
    return generation_of(root)


def stored(root: Path) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    rows = rows_of(root, ["id", "embedding"])
    return np.array([row[0] for row in rows], np.int64), np.array([row[1] for row in rows], np.float32)


def in_memory(root: Path, generation: Generation, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> Any:
    """One faiss index over the stored vectors, trained alike, made by faiss alone, that probes every list.

    Its transforms are given a batch, as ours are: a product of another shape rounds otherwise, and where a component is
    between two codes the other one is a step away, which no tolerance of scores allows for.
    """
    index = faiss.read_index(str(root / generation.trained.index.path))
    inner, behind = faiss.extract_index_ivf(index), padded(vectors, BATCH_ROWS)
    if isinstance(index, faiss.IndexPreTransform):
        chain: Any = index.chain  # a std::vector, not the list that faiss's stubs say
        for step in range(chain.size()):
            behind = chain.at(step).apply(behind)
    inner.add_with_ids(behind[: len(vectors)], ids)
    inner.nprobe = generation.trained.nlist
    index.ntotal = inner.ntotal
    return index


@pytest.mark.parametrize(("key", "metric"), mostly_gate(KINDS, quick=EVERY_TIME))
def test_it_finds_what_one_index_in_memory_finds(tmp_path: Path, csv: Path, key: str, metric: str) -> None:
    generation = built(tmp_path / "root", csv, key, metric)
    ids, vectors = stored(tmp_path / "root")
    queries = vectors[::20] / np.linalg.norm(vectors[::20], axis=1, keepdims=True)
    trained = generation.trained
    assert trained.code_size == code_size(IndexKey.parse(key), DIM)

    searcher = Searcher(Store.at(str(tmp_path / "root")), generation)
    found = searcher.search(queries, 10, trained.nlist, shortlist=0)

    expected, _ = in_memory(tmp_path / "root", generation, ids, vectors).search(queries, 10)
    scores = np.array([[hit.score for hit in hits] for hits in found])
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=2e-3)
    rank = 10 if key.rpartition(",")[2].startswith(COARSE) else 1
    near = [{hit.id for hit in hits[:rank]} for hits in found]
    assert sum(id in hits for id, hits in zip(ids[::20].tolist(), near, strict=True)) >= 0.9 * len(queries)
    products = queries @ vectors.T
    exact = np.sort(2 - 2 * products, axis=1) if metric == "l2" else -np.sort(-products, axis=1)
    refined = searcher.search(queries, 10, trained.nlist, shortlist=ROWS)
    best = [[hit.score for hit in hits if hit.exact] for hits in refined]
    np.testing.assert_allclose(best, exact[:, :10], atol=2e-3)


def test_l1_without_normalisation_equals_brute_force(tmp_path: Path, csv: Path) -> None:
    generation = built(tmp_path / "root", csv, "auto", "l1", "--no-normalize")
    assert generation.trained.key == "IVF1,Flat"
    ids, vectors = stored(tmp_path / "root")
    queries = np.random.default_rng(1).normal(size=(8, DIM)).astype(np.float32)
    distances = np.abs(queries[:, None] - vectors[None]).sum(axis=2)
    order = np.argsort(distances, axis=1)[:, :5]

    found = Searcher(Store.at(str(tmp_path / "root")), generation).search(queries, 5)

    assert [[hit.id for hit in hits] for hits in found] == ids[order].tolist()
    scores = [[hit.score for hit in hits] for hits in found]
    np.testing.assert_allclose(scores, np.take_along_axis(distances, order, axis=1), rtol=1e-5)


@pytest.mark.parametrize(
    ("asked", "made", "told"),
    mostly_gate(
        [("IVF4,PQ4x8", "IVF4,PQ4", False), ("IVF64,SQ8", "IVF8,SQ8", True)], quick=[("IVF64,SQ8", "IVF8,SQ8", True)]
    ),
)
def test_fewer_lists_are_told_and_another_spelling_is_not(
    tmp_path: Path, csv: Path, capsys: pytest.CaptureFixture[str], asked: str, made: str, *, told: bool
) -> None:
    assert built(tmp_path / "root", csv, asked, "ip").trained.key == made
    assert (f"--index-key {asked} became {made}: too few vectors for more lists" in capsys.readouterr().err) == told


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["--index-key", "IVF4,PQ5"], "it does not work with 16 dimensions"),
        (["--index-key", "IVF4,PQ8x4fs"], "FastScan codes cannot be merged; build PQ8x4 and search with --fast-scan"),
        (["--index-key", "IVF4,RaBitQ", "--metric-type", "l1"], "does not go with --metric-type l1"),
        (["--code-size", "8", "--index-key", "IVF4,Flat"], "--index-key IVF4,Flat says it: leave one out"),
        (["--code-size", "17"], "more than a byte for each of 16 dimensions"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(
    tmp_path: Path, csv: Path, capsys: pytest.CaptureFixture[str], argv: list[str], reason: str
) -> None:
    root = tmp_path / "root"
    assert build.main(["--root", str(root), "--csv", str(csv), "--text-column", "text", *argv, *TINY]) == 2
    assert reason in capsys.readouterr().err
    assert not (root / "plans").exists()

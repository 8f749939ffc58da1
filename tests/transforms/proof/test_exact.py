"""Tasks of a proof: however the shards are cut into them, and whatever of their work is lost, the same neighbours."""

from pathlib import Path

import numpy as np
import pytest

from tests.roots import Row, make_root
from tests.transforms.proof.proofs import begun, proved, vectors_asked
from transforms.errors import PixdexError
from transforms.proof import exact
from transforms.proof.request import Proof
from transforms.records import Metric
from transforms.storage.store import Store

RNG = np.random.default_rng(0)
VECTORS = RNG.standard_normal((90, 6)).astype(np.float32)
QUERIES = RNG.standard_normal((7, 6)).astype(np.float32)


def root(folder: Path, metric: Metric = "l2") -> Store:
    """Nine shards of ten rows, one of which is empty; the last two were added since."""
    rows = [Row(f"k{n}", vector.tolist()) for n, vector in enumerate(VECTORS)]
    shards = [rows[at : at + 10] for at in range(0, 90, 10)]
    return make_root(
        folder,
        *shards[:4],
        [],
        *shards[4:],
        key="IVF3,Flat",
        metric=metric,
        normalize=False,
        deltas=((8,), (9,)),
        dead=(3,),
    )


def plain(metric: Metric) -> list[list[int]]:
    """Ids of the living, nearest first."""
    apart = VECTORS.astype(np.float64)[None] - QUERIES[:, None]
    distances = {
        "ip": -(QUERIES.astype(np.float64) @ VECTORS.T),
        "l2": (apart**2).sum(axis=2),
        "l1": np.abs(apart).sum(axis=2),
    }[metric]
    ids = np.array([((n // 10 + (n >= 40)) << 16) + n % 10 for n in range(90)])
    order = np.argsort(distances, axis=1)
    return [[int(ids[place]) for place in places if ids[place] != 3] for places in order]


def lot(patch: pytest.MonkeyPatch, shards: int, least: int = 1, most: int = 1024) -> None:
    patch.setattr(exact, "SHARDS_A_TASK", shards)
    patch.setattr(exact, "_LEAST_TASKS", least)
    patch.setattr(exact, "_MOST_TASKS", most)


@pytest.mark.parametrize("metric", ["ip", "l2", "l1"])
def test_what_is_added_since_is_found_and_what_is_dead_is_not(tmp_path: Path, metric: Metric) -> None:
    ((ids, _),) = proved(root(tmp_path / "root", metric), tmp_path / "work", vectors_asked(QUERIES), near=89)
    assert ids.tolist() == plain(metric)


@pytest.mark.parametrize(("shards", "most", "count"), [(1, 1024, 10), (3, 1024, 4), (100, 1024, 1), (1, 2, 2)])
def test_however_shards_are_cut_into_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards: int, most: int, count: int
) -> None:
    lot(monkeypatch, shards, most=most)
    store = root(tmp_path / "root")
    assert exact.tasks(begun(store, tmp_path / "work", vectors_asked(QUERIES), near=12)) == count
    ((ids, _),) = proved(store, tmp_path / "work", vectors_asked(QUERIES), near=12)
    assert ids.tolist() == [row[:12] for row in plain("l2")]


def test_few_shards_are_a_task_each_so_that_many_workers_have_one(tmp_path: Path) -> None:
    assert exact.tasks(begun(root(tmp_path / "root"), tmp_path / "work", vectors_asked(QUERIES))) == 10


def test_a_task_that_is_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proof = begun(root(tmp_path / "root"), tmp_path / "work", vectors_asked(QUERIES))
    exact.find(proof, 4)
    assert (exact.done(proof), exact.neighbours(proof)) == (1, None)
    monkeypatch.setattr(exact, "read_batches", lambda *_: pytest.fail("it reads vectors"))
    exact.find(proof, 4)


def test_what_a_task_found_and_lost_is_found_again(tmp_path: Path) -> None:
    store = root(tmp_path / "root")
    proof = begun(store, tmp_path / "work", vectors_asked(QUERIES), near=12)
    for number in range(exact.tasks(proof)):
        exact.find(proof, number)
    for file in (tmp_path / "work" / "found").glob("task-0000000[25]*"):
        if file.suffix != ".json" or "5" in file.name:
            file.unlink()
    exact.join(proof)
    found = exact.neighbours(proof)
    assert found is not None and found[0][0].tolist() == [row[:12] for row in plain("l2")]


def test_a_worker_that_sees_another_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(PixdexError, match="give a --work that every worker reaches"):
        exact.find(Proof(Store.at(str(tmp_path))), 0)

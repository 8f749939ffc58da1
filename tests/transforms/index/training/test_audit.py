"""The audit takes the fewest cells that are as good as flat assignment."""

import numpy as np
import pytest
from numpy.typing import NDArray

from transforms.index.assignment import TwoLevelAssigner
from transforms.index.training import audit as audits
from transforms.index.training.audit import audit
from transforms.index.training.clustering import kmeans, nearest
from transforms.index.training.figures import AUDIT_QUERIES


def lists_of(spherical: bool, *, shuffled: bool = False) -> tuple[TwoLevelAssigner, NDArray[np.float32]]:
    """Four hundred lists below twenty cells, and rows; `shuffled` lists are below cells that say nothing of them."""
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((3000, 12)).astype(np.float32)
    centroids = kmeans(rows, 400, spherical=spherical, seed=0)
    parents = kmeans(centroids, 20, spherical=spherical, seed=0)
    cell = nearest(centroids, parents, spherical=spherical)
    if shuffled:
        generator.shuffle(cell)
    bounds = np.append(0, np.cumsum(np.bincount(cell, minlength=20)))
    return TwoLevelAssigner(parents, centroids[np.argsort(cell, kind="stable")], bounds, spherical), rows


@pytest.mark.parametrize("spherical", [True, False], ids=["ip", "l2"])
def test_the_fewest_cells_that_agree_are_taken(spherical: bool) -> None:
    assigner, rows = lists_of(spherical)
    found = audit(assigner, rows, 20)
    flat = nearest(rows, assigner.centroids, spherical=spherical)

    assert 1 < found.probes < 20
    assert found.agreement == pytest.approx((assigner.assign(rows, found.probes) == flat).mean(), abs=1e-6)
    assert found.agreement >= 0.99
    assert found.recall_two_level >= found.recall_flat - 0.003


def test_cells_that_say_nothing_of_their_lists_are_all_looked_into() -> None:
    assigner, rows = lists_of(True, shuffled=True)
    found = audit(assigner, rows, 20)
    assert found.probes == 20
    assert found.agreement > 0.999
    assert found.recall_two_level == pytest.approx(found.recall_flat, abs=0.001)


def test_recall_of_flat_assignment_is_that_of_the_probed_lists() -> None:
    assigner, rows = lists_of(True)
    flat = nearest(rows, assigner.centroids, spherical=True)
    found = audit(assigner, rows, 20)
    hits = []
    for query in range(AUDIT_QUERIES):
        near = np.argsort(-(rows @ rows[query]), kind="stable")
        near = near[near != query][: audits.NEIGHBOURS]
        probed = np.argsort(-(assigner.centroids @ rows[query]), kind="stable")[:20]
        hits.append(np.isin(flat[near], probed).mean())
    assert found.recall_flat == pytest.approx(np.mean(hits), abs=1e-4)


def test_a_looser_demand_needs_fewer_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    assigner, rows = lists_of(True)
    strict = audit(assigner, rows, 20).probes
    monkeypatch.setattr(audits, "AGREEMENT", 0.5)
    monkeypatch.setattr(audits, "RECALL_COST", 1.0)
    assert audit(assigner, rows, 20).probes < strict

"""Measures drift and decides whether a reindex trains anew: how far new vectors are from those trained on."""

import math
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from transforms.digests import digest
from transforms.forecast.workload import Workload
from transforms.generations import tables
from transforms.generations.manifest import Generation
from transforms.index import canaries
from transforms.index.choose import choose
from transforms.index.index_key import IndexKey
from transforms.index.lists.opened import opened_lists
from transforms.index.open_trained import OpenTrained, open_trained
from transforms.index.trained import Training, read_training
from transforms.index.training.passes import imbalance
from transforms.index.training.sampling import in_sample
from transforms.markers import Drift, DriftMarker, ShardMarker
from transforms.records import FileReference
from transforms.runs import inventory
from transforms.runs.run import Run
from transforms.shards.vectors import Choose, VectorBatch, read_batches

SAMPLED_ROWS: Final = 4096
"""New rows that are coded to see their residual: of a mean square they tell about 2 %."""

NEW_ROWS: Final = 0.01
RESIDUAL: Final = 1.10
IMBALANCE: Final = 1.25
RECALL_LOST: Final = 0.02
OTHER_LISTS: Final = 4
"""Where `auto` would take so many times as many lists, or so many times fewer, the index has outgrown its key."""

ERROR_SPREAD: Final = 0.7
"""Of squared errors of rows, their standard deviation over their mean; of the sets tried it was 0.4 to 0.7."""

ROWS_A_LIST: Final = 40
"""Lists that hold fewer are unbalanced by chance, and are said to be as they were."""

LEAST_QUERIES: Final = 500
"""Canaries that tell 2 points of recall from chance."""

_DIGITS = 4


def measure_drift(run: Run) -> bool:
    """Decides and commits that, unless it is done. Returns whether there was something to decide."""
    base = run.base
    if base is None or inventory.is_idle(run):
        return False
    task_digest = digest(run.plan, run.request.reindex)
    if run.marker("drift", 0, DriftMarker, task_digest) is None:
        run.commit("drift", 0, decide(run, base, task_digest))
    return True


def decide(run: Run, base: Generation, task_digest: str) -> DriftMarker:
    """Measures, and decides. Returns the marker, which is not yet committed.

    Where a training is asked for in any case, nothing is measured: the trained index, or the lists, may be what is
    damaged and is to be made anew.
    """
    reindex = run.request.reindex
    assert reindex is not None
    alive = inventory.live_rows(run)
    drift, watched = (None, None) if reindex.retrain == "always" else measure(run, base, alive)
    why = "asked for" if drift is None else reason(run, base, drift, alive)
    if not why:
        return DriftMarker(task_digest, "", drift, run.plan.blocks, None, watched)
    key = choose(run.request.index, alive, base.trained.dim, warn=False)
    load = Workload(
        key,
        run.request.index.metric,
        alive,
        base.trained.dim,
        normalized=run.request.encoder.normalize,
        object_store=run.store.local is None,
    )
    cut = inventory.cut_all(run, load.block_rows)
    return DriftMarker(task_digest, why, drift, len(cut), inventory.write_cut(run, cut))


def measure(run: Run, base: Generation, alive: int) -> tuple[Drift, FileReference | None]:
    """Measures drift against the trained index of the base. Returns it, and the canaries with what the run adds."""
    trained = base.trained
    for file in (trained.index, trained.training, *([trained.assignment] if trained.assignment else [])):
        run.store.check(file)
    training = read_training(run.store, trained)
    opened = open_trained(run.store, trained)
    threads = run.request.encoder.threads
    watched = None if base.canaries is None else canaries.load(run.store, base.canaries)
    new = [marker for marker in run.shards() if not marker.is_carried]
    share = SAMPLED_ROWS / max(sum(marker.rows for marker in new), 1)

    def joins(ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.zeros(len(ids), np.bool_) if watched is None else in_sample(ids, watched.seed, watched.share)

    def sampled(ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        return in_sample(ids, run.request.seed + 1, share) | joins(ids)

    batches = list(_rows(run, new, sampled))
    residual, error = _residual(run, opened, batches, share, training)
    unbalanced = _imbalance(run, base, opened, batches, training, sum(marker.rows for marker in new))
    recall = recall_trained = None
    grown: FileReference | None = None
    if watched is not None:
        batches += _rows(run, [marker for marker in run.shards() if marker.is_carried], joins)
        joining = [_chosen(batch, joins(batch.ids)) for batch in batches]
        watched = canaries.grown(watched, opened, joining, inventory.dead_rows(run), trained.metric, threads)
        if len(canaries.countable(watched)) >= LEAST_QUERIES:
            recall, recall_trained = canaries.recall(watched, opened), watched.recall_trained
        grown = canaries.save(run.store, trained.fingerprint, watched)
    count = sum(marker.rows - marker.carried for marker in new)
    drift = Drift(
        new_rows=round(count / max(alive, 1), _DIGITS),
        residual=residual,
        imbalance=unbalanced,
        recall=None if recall is None else round(recall, _DIGITS),
        recall_trained=None if recall_trained is None else round(recall_trained, _DIGITS),
        residual_error=error,
    )
    return drift, grown


def reason(run: Run, base: Generation, drift: Drift, alive: int) -> str:
    """Says why the index is to be trained anew; empty: it is not."""
    reindex = run.request.reindex
    assert reindex is not None
    if reindex.retrain == "never":
        return ""
    # By chance it is three standard errors off once in hundreds of nights.
    limit = max(RESIDUAL, 1 + 3 * drift.residual_error)
    if drift.new_rows >= NEW_ROWS and drift.residual is not None and drift.residual > limit:
        return f"new rows are coded {drift.residual} times as badly as those it was trained for"
    if drift.imbalance > IMBALANCE:
        return f"its lists are {drift.imbalance} times as unbalanced as they were"
    if drift.recall is not None and drift.recall_trained is not None:
        lost = round(drift.recall_trained - drift.recall, _DIGITS)
        if lost > RECALL_LOST:
            return f"recall@10 fell from {drift.recall_trained} to {drift.recall}"
    if run.request.index.key == "auto":
        now = choose(run.request.index, alive, base.trained.dim, warn=False)
        before = IndexKey.parse(base.trained.key)
        if not 1 / OTHER_LISTS < now.nlist / before.nlist < OTHER_LISTS:
            return f"for {alive} vectors auto chooses {now}, not {before}"
    return ""


def _rows(run: Run, markers: Iterable[ShardMarker], choose_rows: Choose) -> Iterator[VectorBatch]:
    for marker in markers:
        yield from read_batches(run.store, marker, run.request.encoder, choose_rows)


def _chosen(batch: VectorBatch, wanted: NDArray[np.bool_]) -> VectorBatch:
    return VectorBatch(batch.ids[wanted], batch.vectors[wanted])


def _residual(
    run: Run, opened: OpenTrained, batches: list[VectorBatch], share: float, training: Training
) -> tuple[float | None, float]:
    """The error of new rows after coding as a multiple of training's, 1 where codes have none; and its own error."""
    chosen = [_chosen(batch, in_sample(batch.ids, run.request.seed + 1, share)).vectors for batch in batches]
    vectors = np.concatenate([np.empty((0, training.dim), np.float32), *chosen])
    if not len(vectors) or not training.held_out_rows:
        return None, 0.0
    if training.held_out_residual == 0:
        return 1.0, 0.0
    error = ERROR_SPREAD * math.sqrt(1 / len(vectors) + 1 / training.held_out_rows)
    return round(canaries.residual(opened, vectors) / training.held_out_residual, _DIGITS), round(error, _DIGITS)


def _imbalance(
    run: Run, base: Generation, opened: OpenTrained, batches: list[VectorBatch], training: Training, new: int
) -> float:
    """How unbalanced the lists are with so many rows that they get, as a multiple of what training saw."""
    sizes = np.zeros(training.nlist)
    for block in tables.blocks_of(run.store, base):
        with opened_lists(run.store, block.lists) as file:
            stored = file.sizes()
        sizes[stored.list_nos] += stored.sizes
    rows = sum(len(batch.ids) for batch in batches)
    if rows:
        lists = np.concatenate([canaries.lists_of(opened, batch.vectors) for batch in batches])
        sizes += np.bincount(lists, minlength=training.nlist) * (new / rows)
    if sizes.sum() < ROWS_A_LIST * training.nlist:
        return 1.0
    return round(imbalance(sizes) / training.imbalance, _DIGITS)

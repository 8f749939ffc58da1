"""An evaluation for people and for programs: a table of settings, judgements, labels, and the same as JSON."""

import math
from dataclasses import dataclass
from typing import Any, Self

from pipelines.terminal import text_table
from pipelines.terminal.text_table import Column
from transforms.evaluation.curve import Point
from transforms.evaluation.estimates import Estimate
from transforms.evaluation.judged import Judged
from transforms.evaluation.labels import Labelled

_KINDS = {
    "image": "pictures of the root, or a file, each left out of its own results",
    "text": "texts",
    "keyword": "keywords",
    "vector": "vectors of a file",
}
_LABELS_SHOWN = 12


@dataclass(frozen=True)
class OfJudgements:
    """What judgements say of the first `k` results, and MAP of the first `depth`.

    Attributes:
        queries: with judgements.
        without_results, without_relevant: of these; they count 0.
    """

    k: int
    depth: int
    queries: int
    without_results: int
    without_relevant: int
    cg: Estimate
    dcg: Estimate
    ndcg: Estimate
    precision: Estimate
    mrr: Estimate
    map: Estimate

    @classmethod
    def of(cls, judged: Judged, k: int, depth: int) -> Self:
        """Takes the means."""
        return cls(
            k,
            depth,
            len(judged.queries),
            judged.without_results(),
            judged.without_relevant(),
            cg=judged.cg(k).mean,
            dcg=judged.dcg(k).mean,
            ndcg=judged.ndcg(k).mean,
            precision=judged.precision(k).mean,
            mrr=judged.reciprocal_rank(k).mean,
            map=judged.average_precision(depth).mean,
        )


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured of a generation."""

    generation: int
    root: str
    k: int
    points: tuple[Point, ...]
    queries: int
    judged: OfJudgements | None
    labelled: Labelled | None


def summary(made: Evaluation) -> dict[str, Any]:
    """Returns the last line; what was not asked for is None."""
    judged, labelled = made.judged, made.labelled
    return {
        "generation": made.generation,
        "queries": made.queries,
        "k": made.k,
        "curve": [_as_json(point) for point in made.points],
        "ndcg": None if judged is None else _rounded(judged.ndcg.value),
        "map": None if judged is None else _rounded(judged.map.value),
        "mrr": None if judged is None else _rounded(judged.mrr.value),
        "accuracy": None if labelled is None else _rounded(labelled.accuracy.value),
    }


def everything(made: Evaluation) -> dict[str, Any]:
    """Returns the same with all there is: intervals, the recall of every query at the usual settings, the confusion."""
    whole = summary(made) | {"root": made.root}
    for told, point in zip(whole["curve"], made.points, strict=True):
        if point.is_default:
            told["recall_of_queries"] = [_rounded(share) for share in point.recall.shares.tolist()]
    if (judged := made.judged) is not None:
        names = ("cg", "dcg", "ndcg", "precision", "mrr", "map")
        figures = {name: _estimate(getattr(judged, name)) for name in names}
        counts = ("k", "depth", "queries", "without_results", "without_relevant")
        whole["judged"] = figures | {name: getattr(judged, name) for name in counts}
    if (labelled := made.labelled) is not None:
        whole["labelled"] = {
            "accuracy": _estimate(labelled.accuracy),
            "labels": list(labelled.labels),
            "confusion": labelled.confusion.tolist(),
            "unpredicted": labelled.unpredicted.tolist(),
            "precision": [_rounded(value) for value in labelled.precision.tolist()],
            "recall": [_rounded(value) for value in labelled.recall.tolist()],
            "f1": [_rounded(value) for value in labelled.f1.tolist()],
        }
    return whole


def text_of(made: Evaluation) -> str:
    """Returns all of it as tables."""
    kinds = dict.fromkeys(point.queries_of for point in made.points)
    parts = [_curve(kind, [point for point in made.points if point.queries_of == kind], made.k) for kind in kinds]
    if made.judged is not None:
        parts.append(_judged(made.judged))
    if made.labelled is not None:
        parts.append(_labelled(made.labelled, made.k))
    return "\n\n".join(parts)


def _curve(kind: str, points: list[Point], k: int) -> str:
    headings = (
        "", "nprobe", "shortlist", "codes", f"recall@{k}", "95 %", "reach .5", "reach .9", "worst 5 %", "p50 ms",
        "p99 ms", "batch ms",
    )  # fmt: skip
    columns = [Column(heading, "right" if heading else "left") for heading in headings]
    rows = [
        (
            "*" if point.is_default else "",
            str(point.nprobe) if point.margin is None else f"stop {point.margin:.2f}",
            str(point.shortlist) if point.shortlist else "codes",
            f"{point.codes:,.0f}",
            _share(point.recall.mean.value),
            f"{_share(point.recall.mean.low)} to {_share(point.recall.mean.high)}",
            _share(point.recall.reach_half.value),
            _share(point.recall.reach_nine_tenths.value),
            _share(point.recall.p5),
            f"{point.p50_ms:.2f}",
            f"{point.p99_ms:.2f}",
            f"{point.batch_ms:.3f}",
        )
        for point in points
    ]
    head = f"{points[0].recall.mean.count} queries, {_KINDS.get(kind, kind)} (* is how a search goes by default)"
    return f"{head}\n{text_table.render(columns, rows)}"


def _judged(judged: OfJudgements) -> str:
    figures = (
        (f"nDCG@{judged.k}", judged.ndcg), (f"DCG@{judged.k}", judged.dcg), (f"CG@{judged.k}", judged.cg),
        (f"precision@{judged.k}", judged.precision), ("MRR", judged.mrr), (f"MAP@{judged.depth}", judged.map),
    )  # fmt: skip
    rows = [(name, f"{one.value:.4f}", f"{one.low:.4f} to {one.high:.4f}") for name, one in figures]
    head = f"{judged.queries} judged queries"
    if judged.without_results or judged.without_relevant:
        head += f" ({judged.without_results} without results, {judged.without_relevant} without a relevant item)"
    table = text_table.render([Column("measure"), Column("mean", "right"), Column("95 %", "right")], rows)
    return f"{head}\n{table}"


def _labelled(labelled: Labelled, k: int) -> str:
    accuracy, names = labelled.accuracy, [str(label) for label in labelled.labels]
    head = (
        f"{accuracy.count} held-out rows, each labelled by its {k} nearest others: accuracy {accuracy.value:.4f} "
        f"({accuracy.low:.4f} to {accuracy.high:.4f})"
    )
    if len(names) > _LABELS_SHOWN:
        return f"{head}; the confusion of {len(names)} labels is in evaluation.json (--output)"
    columns = [Column("label \\ predicted"), *(Column(name, "right") for name in names), Column("recall", "right")]
    rows = [
        (name, *map(str, counts), _share(recall))
        for name, counts, recall in zip(names, labelled.confusion.tolist(), labelled.recall.tolist(), strict=True)
    ]
    rows.append(("precision", *map(_share, labelled.precision.tolist()), ""))
    return f"{head}\n{text_table.render(columns, rows)}"


def _as_json(point: Point) -> dict[str, Any]:
    recall = point.recall
    return {
        "modality": point.queries_of,
        "nprobe": point.nprobe,
        "margin": point.margin,
        "shortlist": point.shortlist,
        "default": point.is_default,
        "queries": recall.mean.count,
        "codes": round(point.codes, 1),
        "recall": _rounded(recall.mean.value),
        "ci95": [_rounded(recall.mean.low), _rounded(recall.mean.high)],
        "recall_of_nearest": _rounded(point.nearest),
        "robust50": _rounded(recall.reach_half.value),
        "robust90": _rounded(recall.reach_nine_tenths.value),
        "p5": _rounded(recall.p5),
        "worst5": _rounded(recall.worst),
        "p50_ms": round(point.p50_ms, 3),
        "p99_ms": round(point.p99_ms, 3),
        "batch_ms": round(point.batch_ms, 4),
    }


def _estimate(one: Estimate) -> dict[str, Any]:
    return {"value": _rounded(one.value), "ci95": [_rounded(one.low), _rounded(one.high)], "count": one.count}


def _rounded(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def _share(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "-"

"""One HTML page of what a report says, complete in itself: it loads nothing, runs nothing, and can be mailed."""

import re
from bisect import bisect_left
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import jinja2
import numpy as np
from markupsafe import Markup

from transforms.evaluation.promise import Promise
from transforms.report import figures, words
from transforms.report.evaluated import Evaluation
from transforms.report.facts import Facts, Past
from transforms.report.figures import Line
from transforms.report.samples import NEAR_COSINE, Item, Nearest, Pair, Samples
from transforms.report.timing import Timing

if TYPE_CHECKING:
    from transforms.report.thumbnails import Thumbnail

MOST_BYTES: Final = 3_000_000
"""Of a page; one that would be larger is made without pictures."""

REASONS_SHOWN: Final = 20
_PAGE: Final = "page.html.jinja"
_METRICS: Final = {"ip": "inner product", "l2": "squared L2", "l1": "L1"}
_COLOURS: Final = 6
_BINS: Final = 24
_COSINES: Final = (0.99, 0.98, 0.95, 0.9)
_NO_TEXT: Final = re.compile("[\ud800-\udfff\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""What no page can hold, and what nobody can read."""

_PARTS: Final = (
    ("inputs", "Contents"), ("rejects", "Rejects"), ("index", "Index"), ("recall", "Recall"), ("samples", "Searches"),
    ("near", "Near duplicates"), ("time", "Time and bytes"), ("history", "Generations"),
)  # fmt: skip


def page(facts: Facts) -> str:
    """Returns the page, 3 MB at most; � stands for what is no text."""
    text = _rendered(facts, facts.thumbnails)
    if len(text.encode("utf-8", "replace")) > MOST_BYTES:
        text = _rendered(facts, {})
    return text


def _rendered(facts: Facts, thumbnails: "Mapping[str, Thumbnail]") -> str:
    said, request, looked = facts.said, facts.generation.request, facts.samples
    root_name = words.bare(facts.root).rstrip("/").rpartition("/")[2] or words.bare(facts.root)
    stacked, colours = _stacked(facts.timing)
    evaluation = facts.evaluation
    lines = [] if evaluation is None else _recall_lines(evaluation)
    nearest = looked.nearest if looked is not None else None
    values: dict[str, Any] = {
        "f": facts,
        "said": said,
        "title": f"Generation {said['generation']} of {root_name}",
        "root_name": root_name,
        "how": "Published",
        "tiles": _tiles(facts),
        "parts": _PARTS,
        "thumbnails": thumbnails,
        "asked_key": request.index.key,
        "metric": _METRICS[said["index"]["metric"]],
        "seed": request.seed,
        "reasons_shown": REASONS_SHOWN,
        "lists_plot": _lists_plot(facts),
        "recall_plot": _recall_plot(lines, evaluation),
        "recall_lines": [line.name for line in lines],
        "promise": _promise(said["tuned"]),
        "cosines": looked is not None and looked.cosines,
        "near_cosine": NEAR_COSINE,
        "nearest_plot": Markup("") if looked is None or nearest is None else _nearest_plot(looked, nearest),
        "nearest_counts": [] if looked is None or nearest is None else _nearest_counts(looked, nearest),
        "nearest_median": float(np.median(nearest.scores)) if nearest is not None else 0.0,
        "stacked": stacked,
        "colours": colours,
        "no_timing": _no_timing(facts),
        "history_plot": _history_plot(facts.history),
        "sparks": _sparks(facts.history),
        "name_of": name_of,
        "alike": lambda pair: _alike(pair, facts.thumbnails),
        "cut": words.cut,
        "bare": words.bare,
        "size": words.size,
        "span": words.seconds,
        "moment": words.moment,
    }
    return _NO_TEXT.sub("\N{REPLACEMENT CHARACTER}", _template().render(values))


@cache
def _template() -> jinja2.Template:
    """Takes a fifth of a second, once in a process."""
    loader = jinja2.PackageLoader("transforms.report", ".")
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined).get_template(_PAGE)


def name_of(item: Item) -> str:
    """Returns what a person calls an item: its caption, or the last part of where it is."""
    return item.caption or words.bare(item.shows).rstrip("/").rpartition("/")[2] or words.bare(item.key)


def _alike(pair: Pair, thumbnails: "Mapping[str, Thumbnail]") -> str:
    """Says in what two rows are the same, where that is seen; empty: they are only near."""
    one, other = pair.one, pair.other
    if not one.is_pictured:
        return "same words" if one.caption is not None and one.caption == other.caption else ""
    contents = [thumbnails[item.uri].content if item.uri in thumbnails else None for item in (one, other)]
    return "same file" if contents[0] is not None and contents[0] == contents[1] else ""


def _tiles(facts: Facts) -> list[tuple[str, str, str]]:
    said, timing = facts.said, facts.timing
    index, sizes = said["index"], said["bytes"]
    tiles = [
        ("items", f"{said['items']:,}", f"{said['rejected']:,} rejected"),
        ("vectors", f"{said['vectors']:,}", f"of {said['encoder']['dim']} dimensions"),
        ("index", index["key"], f"{_count(index['nlist'], 'list')}, {index['code_size']} bytes a code"),
        ("on storage", words.size(sum(sizes.values())), f"{words.size(sizes['index'])} merged index"),
    ]
    if (found := _found(facts)) is not None:
        tiles.append(found)
    if timing is not None:
        longest = max(timing.seconds.items(), key=lambda each: each[1], default=None)
        note = "" if longest is None else f"{longest[0]} {words.seconds(longest[1])}"
        tiles.append(("run", words.seconds(sum(timing.seconds.values())), note))
    return tiles


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _found(facts: Facts) -> tuple[str, str, str] | None:
    """Recall, as the best of those who measured it says."""
    evaluation, tuned = facts.evaluation, facts.said["tuned"]
    if evaluation is not None and evaluation.kinds:
        usual = evaluation.usual(evaluation.kinds[0])
        if usual is not None and usual.recall is not None:
            return f"recall@{evaluation.k}", f"{usual.recall:.3f}", f"{usual.modality} queries, evaluated"
    if tuned and tuned["settings"]:
        one = tuned["settings"][0]
        return f"recall@{tuned['k']}", f"{one['recall']:.3f}", f"{one['queries']} queries, tuned"
    if facts.watched is not None:
        drift = facts.said["drift"]
        now = drift["recall"] if drift and drift["recall"] is not None else facts.watched.recall_trained
        return "recall@10", f"{now:.3f}", "of canaries"
    return None


def _lists_plot(facts: Facts) -> Markup:
    if facts.lists is None or facts.lists.both.lists == 1:
        return Markup("")
    both = facts.lists.both
    counts = f"{_count(both.lists, 'list')}, {both.mean:,.1f} codes on average, {both.empty:,} empty"
    title = f"Lists by their codes: {counts}"
    return figures.histogram(both.histogram, title, "codes in a list", "lists")


def _recall_lines(evaluation: Evaluation) -> list[Line]:
    """A line for each kind of queries and shortlist."""
    lines = []
    for kind, shortlist in dict.fromkeys((each.modality, each.shortlist) for each in evaluation.curve):
        some = [each for each in evaluation.curve if (each.modality, each.shortlist) == (kind, shortlist)]
        points = [
            (max(each.codes, 1.0), each.recall, each.ci95[0] or 0.0, min(1.0, each.ci95[1] or 1.0))
            for each in some
            if each.recall is not None and each.margin is None
        ]
        usual = next((each for each in some if each.default and each.recall is not None), None)
        mark = None if usual is None or usual.recall is None else (max(usual.codes, 1.0), usual.recall)
        if mark is not None and not points:
            points = [(*mark, mark[1], mark[1])]
        if points:
            name = f"{kind} queries, {f'shortlist {shortlist}' if shortlist else 'by codes'}"
            lines.append(Line(name, tuple(sorted(points)), mark))
    return lines


def _recall_plot(lines: list[Line], evaluation: Evaluation | None) -> Markup:
    if evaluation is None or not lines:
        return Markup("")
    return figures.curves(lines, f"Recall@{evaluation.k} over codes scanned", "codes scanned a query", "recall")


def _promise(tuned: Mapping[str, Any] | None) -> str:
    return "" if not tuned else str(Promise(tuned["target_recall"], tuned["tail"] and tuple(tuned["tail"])))


def _nearest_plot(looked: Samples, nearest: Nearest) -> Markup:
    scores = np.array(nearest.scores)
    low, high = float(scores.min()), 1.0 if looked.cosines else float(scores.max())
    edges = np.linspace(low, max(high, low + 1e-6), _BINS + 1)
    counts = np.histogram(np.minimum(scores, edges[-1]), edges)[0]
    what = "cosine" if looked.cosines else "inner product" if looked.higher else "distance"
    title = f"How near the nearest other {nearest.kind} of {len(scores)} rows is"
    return figures.columns(counts.astype(float).tolist(), edges.tolist(), title, what, "rows")


def _nearest_counts(looked: Samples, nearest: Nearest) -> list[tuple[float, int]]:
    if not looked.cosines:
        return []
    ascending = sorted(nearest.scores)
    return [(least, len(ascending) - bisect_left(ascending, least)) for least in _COSINES]


def _stacked(timing: Timing | None) -> tuple[list[tuple[str, float, str]], dict[str, str]]:
    """The stages with their seconds and colours: the longest have one of their own."""
    if timing is None:
        return [], {}
    seconds = timing.seconds
    longest = sorted(seconds, key=lambda stage: -seconds[stage])[:_COLOURS]
    in_order = [stage for stage in seconds if stage in longest]
    colours = {each.stage: "rest" for each in timing.stages}
    colours |= {stage: f"s{place}" for place, stage in enumerate(in_order)}
    return [(stage, seconds[stage], colours[stage]) for stage in seconds], colours


def _no_timing(facts: Facts) -> str:
    if any(name == "what the run took" for name, _ in facts.unread):
        return "It could not be read."
    return (
        "No run is known that made this generation: tune, hide or rollback published it anew, or pixdex gc has dropped "
        "the markers of its stages."
    )


def _history_plot(history: tuple[Past, ...]) -> Markup:
    title = f"Vectors of {len(history)} generations"
    names = [str(past.generation) for past in history]
    return figures.bars_of([float(past.vectors) for past in history], names, title, "generation", "vectors")


def _sparks(history: tuple[Past, ...]) -> list[tuple[str, Markup, str]]:
    """How figures of drift went, of those that were measured twice."""
    drifts = [past.drift for past in history]
    figures_of = (
        ("residual of new rows, times training's", [None if drift is None else drift.residual for drift in drifts]),
        ("imbalance, times training's", [None if drift is None else drift.imbalance for drift in drifts]),
        ("recall@10 of canaries", [None if drift is None else drift.recall for drift in drifts]),
    )
    rows = []
    for name, values in figures_of:
        known = [value for value in values if value is not None]
        if plot := figures.sparkline(values, f"{name}, over generations"):
            rows.append((name, plot, f"{known[-1]:.3f}"))
    return rows

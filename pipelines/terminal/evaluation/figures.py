"""What plots of an evaluation look like. Only who draws imports this, since it loads matplotlib.

Figures are objects without pyplot, so no state is shared, and no display is asked for.
"""

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from pipelines.terminal.evaluation.axes import INK, QUIET, along_costs, bare, fitted, up_to_one
from transforms.evaluation.curve import Point

_INCHES: Final = (11.0, 5.8)
_DPI: Final = 200
"""Made for 1,100 pixels, and twice as many: sharp on dense screens, too."""

_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4D4D4D")
"""Of Okabe and Ito (2008): people who see no red or no green tell them apart."""

_MARKERS: Final = "osD^vP"
_LEFT: Final = 0.07
_TOP: Final = 0.72
_COLUMNS: Final = 5
"""Of the legend."""

_REACHED: Final = (0.5, 0.9)
_WORST: Final = 0.05
_BAND: Final = "#eaedf0"
_HIGHEST_GROUND: Final = 0.8
"""Above this share no axis of queries begins."""


@dataclass(frozen=True)
class _Line:
    """A shortlist, its points by nprobe, and how it looks: what is drawn first is wider, and shows below the next."""

    name: str
    points: tuple[Point, ...]
    colour: str
    marker: str
    width: float

    def handle(self) -> Line2D:
        """What stands for it in a legend."""
        return Line2D([], [], color=self.colour, lw=self.width, marker=self.marker, ms=7.5, label=self.name)


def png(figure: Figure) -> bytes:
    """Returns a figure as a PNG that names neither a time nor a version."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=_DPI, metadata={"Software": None})
    return stream.getvalue()


def curve(points: Sequence[Point], k: int, title: str, shortlists: Sequence[int]) -> Figure:
    """Draws recall by codes and by milliseconds, with the default settings marked.

    Args:
        points: of one kind of queries.
        k: neighbours that were looked for.
        title: heading.
        shortlists: all that may be, so that each has its colour in other figures, too.
    """
    lines = _lines(points, shortlists)
    figure = _titled(title, points, f"recall@{k} by what it costs, with its 95% interval")
    if not lines:
        return figure
    left, right = figure.subplots(1, 2, sharey=True)
    handles = [line.handle() for line in lines]
    if any(point.is_default for line in lines for point in line.points):
        handles.append(Line2D([], [], lw=0, marker="o", mfc="white", mec=QUIET, mew=2.4, ms=11, label="default"))
    top = _TOP - 0.05 * max(0, math.ceil(len(handles) / _COLUMNS) - 1)
    figure.subplots_adjust(left=_LEFT, right=0.98, top=top, bottom=0.125, wspace=0.05)
    figure.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0.015, top + 0.075), ncols=_COLUMNS, frameon=False,
        fontsize=12, labelcolor=INK, borderaxespad=0, handlelength=1.8, columnspacing=2.0,
    )  # fmt: skip
    lows = [point.recall.mean.low for line in lines for point in line.points]
    for axes in (left, right):
        bare(axes)
        up_to_one(axes, min(lows), "{:.{places}f}")
    right.tick_params(labelleft=False)
    left.set_ylabel(f"recall@{k}", color=INK, fontsize=12)
    left.set_xlabel("codes scanned a query (mean)", color=INK, fontsize=12)
    right.set_xlabel("milliseconds a query (median)", color=INK, fontsize=12)
    _bands(left, lines)
    _costs(left, lines, lambda point: point.codes)
    _costs(right, lines, lambda point: point.p50_ms)
    # A probe scans as many codes whatever the shortlist, so that one row of numbers is of all lines.
    left.text(-0.02, 1.045, "nprobe", transform=left.transAxes, ha="right", fontsize=10.5, color=QUIET)
    _probes(left, lines, lambda point: point.codes, "{:,}", all_of_them=True)
    _probes(right, lines, lambda point: point.p50_ms, "nprobe {:,}", all_of_them=False)
    return figure


def queries(points: Sequence[Point], k: int, title: str, shortlists: Sequence[int]) -> Figure:
    """Draws which share of the queries reaches which recall at the default setting; arguments as of `curve`.

    A shortlist that has no default of its own is shown at the nprobe of another's; where none has, at its largest.
    """
    shown = [(line, _at_default(line.points, points)) for line in _lines(points, shortlists)]
    usual = "the default " if any(point.is_default for _, point in shown) else ""
    probes = ", ".join(f"{nprobe:,}" for nprobe in sorted({point.nprobe for _, point in shown}))
    figure = _titled(title, points, f"how many reach which recall@{k}, at {usual}nprobe {probes}")
    if not shown:
        return figure
    axes = figure.subplots()
    figure.subplots_adjust(left=_LEFT, right=0.62, top=0.765, bottom=0.125)
    bare(axes)
    reached = [_reached(point) for _, point in shown]
    # The band of the worst is always but a part of what is seen.
    up_to_one(axes, min([_HIGHEST_GROUND, *(shares[-1] for _, shares in reached)]), "{:.0%}")
    axes.axhspan(1 - _WORST, 1, color=_BAND, lw=0, zorder=0)
    ticks = [tick / 10 for tick in range(11)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    for tick, label in zip(ticks, axes.get_xticklabels(), strict=True):
        label.set(**({"fontweight": "bold", "color": INK} if tick in _REACHED else {}))
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"recall@{k}", color=INK, fontsize=12)
    axes.set_title("share of the queries that reach it", loc="left", color=INK, fontsize=12, pad=13)
    for mark in _REACHED:
        axes.axvline(mark, color=QUIET, lw=1.2, dashes=(4, 3), zorder=1)
    for (line, point), (recalls, shares) in zip(shown, reached, strict=True):
        axes.plot(recalls, shares, drawstyle="steps-pre", color=line.colour, lw=line.width, clip_on=False)
        marks = [*zip(_REACHED, _shares_that_reach(point), strict=True), (1.0, shares[-1])]
        axes.plot(*zip(*marks, strict=True), line.marker, color=line.colour, ms=line.width + 4.5, clip_on=False)
    _key(figure, shown)
    return figure


def _lines(points: Sequence[Point], shortlists: Sequence[int]) -> list[_Line]:
    lines: list[_Line] = []
    known = [each for each in points if not math.isnan(each.recall.mean.value)]
    named = [
        (
            f"shortlist {one:,}" if one else "codes alone",
            [each for each in known if (each.shortlist, each.margin) == (one, None)],
        )
        for one in shortlists
    ]
    # Where queries stop by themselves lies on no line of fixed numbers of lists.
    named.append(("queries that stop", [each for each in known if each.margin is not None]))
    for place, (name, kept) in enumerate(named):
        if kept:
            colour, marker = _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]
            ordered = tuple(sorted(kept, key=lambda point: point.nprobe))
            lines.append(_Line(name, ordered, colour, marker, max(2.0, 3.2 - 0.6 * len(lines))))
    return lines


def _titled(title: str, points: Sequence[Point], what: str) -> Figure:
    figure = Figure(_INCHES, dpi=_DPI, facecolor="white")
    count = max(point.recall.mean.count for point in points)
    asked = f"{count:,} {points[0].queries_of} {'query' if count == 1 else 'queries'}: {what}"
    if not count:
        asked = f"no {points[0].queries_of} query has an exact neighbour that could be found"
    fitted(figure.text(0.02, 0.958, title, fontsize=17, fontweight="bold", color=INK, va="top"))
    fitted(figure.text(0.02, 0.888, asked, fontsize=12.5, color=QUIET, va="top"))
    return figure


def _bands(axes: Axes, lines: Sequence[_Line]) -> None:
    for line in lines:
        codes, means = [point.codes for point in line.points], [point.recall.mean for point in line.points]
        lows, highs = [mean.low for mean in means], [mean.high for mean in means]
        if len(means) == 1:
            axes.vlines(codes, lows, highs, color=line.colour, alpha=0.3, lw=6)
        else:
            axes.fill_between(codes, lows, highs, color=line.colour, alpha=0.15, lw=0)


def _costs(axes: Axes, lines: Sequence[_Line], cost: Callable[[Point], float]) -> None:
    along_costs(axes, [cost(point) for line in lines for point in line.points])
    for line in lines:
        known = [point for point in line.points if math.isfinite(cost(point))]
        places, recalls = [cost(point) for point in known], [point.recall.mean.value for point in known]
        axes.plot(
            places, recalls, line.marker + "-", color=line.colour, lw=line.width, ms=line.width + 4, clip_on=False
        )
        (ring,) = axes.plot(
            places, recalls, line.marker, color=line.colour, ms=12, mfc="white", mew=2.6, zorder=5, clip_on=False
        )
        ring.set_markevery([place for place, point in enumerate(known) if point.is_default])


def _probes(
    axes: Axes, lines: Sequence[_Line], cost: Callable[[Point], float], text: str, *, all_of_them: bool
) -> None:
    """Writes nprobe above points, where there is room: of defaults first, each with a rule, then of the ends."""
    points = sorted((point for line in lines for point in line.points), key=lambda point: point.nprobe)
    points = [point for point in points if math.isfinite(cost(point))]
    defaults = [point for point in points if point.is_default]
    free: list[float] = []
    for point in [*defaults, *(points[:1] + points[-1:] + points if all_of_them else [])]:
        place = float((axes.transData + axes.transAxes.inverted()).transform((cost(point), 1.0))[0])
        if point.is_default:
            axes.plot([cost(point)] * 2, [point.recall.mean.value, 1], color=QUIET, lw=1.2, dashes=(2, 2), zorder=1)
        if all(abs(place - other) > 0.07 * (1 if all_of_them else 2.5) for other in free):
            free.append(place)
            weight, colour = ("bold", INK) if point.is_default else ("normal", QUIET)
            axes.text(
                place, 1.045, _probes_text(point, text), transform=axes.transAxes, ha="center", fontsize=10.5,
                fontweight=weight, color=colour,
            )  # fmt: skip


def _probes_text(point: Point, text: str) -> str:
    return "stop" if point.margin is not None else text.format(point.nprobe)


def _at_default(own: Sequence[Point], points: Sequence[Point]) -> Point:
    usual = {point.nprobe for point in points if point.is_default}
    at = [point for point in own if point.is_default] or [point for point in own if point.nprobe in usual]
    return (at or own)[-1]


def _reached(point: Point) -> tuple[list[float], list[float]]:
    """Recalls, and the share of queries that reach each: a step goes back to the recall before it."""
    counted = np.sort(point.recall.shares[~np.isnan(point.recall.shares)])
    recalls = [0.0, *np.unique(counted).tolist(), 1.0]
    return recalls, [float((counted >= recall).mean()) for recall in recalls]


def _shares_that_reach(point: Point) -> tuple[float, float]:
    return point.recall.reach_half.value, point.recall.reach_nine_tenths.value


def _key(figure: Figure, shown: Sequence[tuple[_Line, Point]]) -> None:
    """Sets a table beside the axes: how each line looks, and its figures."""
    columns = (0.838, 0.903, 0.98)
    heads = (*(f"reach\n{mark:g}" for mark in _REACHED), "worst 5%\nfind")
    for x, head in zip(columns, heads, strict=True):
        figure.text(x, 0.765, head, fontsize=10.5, color=QUIET, ha="right", va="top", linespacing=1.3)
    step = min(0.075, 0.5 / len(shown))
    for row, (line, point) in enumerate(shown):
        y = 0.635 - step * row
        look = line.handle()
        look.set_data([0.645, 0.658, 0.671], [y, y, y])
        look.set_markevery([1])
        figure.add_artist(look)
        figure.text(0.68, y, line.name, fontsize=11.5, color=INK, va="center_baseline")
        figures = [f"{share:.1%}".replace(".0%", "%") for share in _shares_that_reach(point)]
        for x, text in zip(columns, (*figures, f"{point.recall.worst:.2f}"), strict=True):
            figure.text(x, y, text, fontsize=11.5, color=INK, ha="right", va="center_baseline")
    figure.add_artist(Rectangle((0.645, 0.118), 0.026, 0.026, color=_BAND, lw=0))
    figure.text(0.68, 0.131, "the worst 5% of the queries", fontsize=10.5, color=QUIET, va="center_baseline")

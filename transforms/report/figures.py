"""Plots as SVG that stands in the page: as wide as a phone, so that their words are readable there, and never smaller.

Colours are the page's own, by class. Each has a title for who does not see it; the exact numbers are in tables beside.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

from transforms.report.lists import Histogram
from transforms.report.words import short, ticks

_WIDTH: Final = 360
_HEIGHT: Final = 208
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 12, 40
_LEAST_SPAN: Final = 0.05


@dataclass(frozen=True)
class Line:
    """A line of a plot: its points (x, y, low, high), and what it is called."""

    name: str
    points: tuple[tuple[float, float, float, float], ...]
    usual: tuple[float, float] | None = None


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def at(self, value: float) -> float:
        low, high, value = (math.log10(each) if self.log else each for each in (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.stop - self.start), 1)


def histogram(counted: Histogram, title: str, x: str, y: str) -> Markup:
    """Draws how many there are of each size; whatever is beyond the last edge is in the last bin."""
    return columns([float(count) for count in counted.counts], [float(edge) for edge in counted.edges], title, x, y)


def columns(heights: Sequence[float], edges: Sequence[float], title: str, x: str, y: str) -> Markup:
    """Draws a column over each bin; of `edges` there is one more than of `heights`."""
    top = ticks(0, max([*heights, 1.0]))
    across = _Scale(edges[0], edges[-1], _LEFT, _WIDTH - _RIGHT)
    up = _Scale(0, top[-1], _HEIGHT - _BOTTOM, _TOP)
    parts = [_rules(top, up)]
    ground = up.at(0)
    for height, low, high in zip(heights, edges, edges[1:], strict=False):
        if height > 0:
            left, right, at = across.at(low), across.at(high), min(up.at(height), ground - 1)
            width = max(1.0, round(right - left - 1, 1))
            parts.append(Markup('<rect class="bar" x="{}" y="{}" width="{}" height="{}" rx="1.5"/>').format(
                left + 0.5, at, width, round(ground - at, 1)))  # fmt: skip
    marks = [mark for mark in ticks(edges[0], edges[-1]) if edges[0] <= mark <= edges[-1]]
    return _svg(title, [*parts, _along(marks, across), _names(x, y)])


def bars_of(values: Sequence[float], names: Sequence[str], title: str, x: str, y: str) -> Markup:
    """Draws a column for each of some things in a row, of which a few are named below."""
    top = ticks(0, max([*values, 1.0]))
    up = _Scale(0, top[-1], _HEIGHT - _BOTTOM, _TOP)
    step = (_WIDTH - _LEFT - _RIGHT) / max(len(values), 6)
    parts, ground = [_rules(top, up)], up.at(0)
    every = -(-len(names) // 8)
    for place, (value, name) in enumerate(zip(values, names, strict=True)):
        left, at = round(_LEFT + step * (place + 0.15), 1), min(up.at(value), ground - 1)
        parts.append(Markup('<rect class="bar" x="{}" y="{}" width="{}" height="{}" rx="2"/>').format(
            left, at, round(0.7 * step, 1), round(ground - at, 1)))  # fmt: skip
        if (len(names) - 1 - place) % every == 0:
            parts.append(_text(left + 0.35 * step, ground + 16, name, "middle"))
    return _svg(title, [*parts, _names(x, y)])


def curves(lines: Sequence[Line], title: str, x: str, y: str) -> Markup:
    """Draws shares, up to 1, over a cost along a logarithmic axis, each with the band of its interval."""
    every = [point for line in lines for point in line.points]
    costs, lows = [point[0] for point in every], [point[2] for point in every]
    least, most = min(costs), max(costs)
    across = _Scale(least / 1.15, most * 1.15, _LEFT, _WIDTH - _RIGHT, log=True)
    marks_up = ticks(min(*lows, 1 - _LEAST_SPAN) if len(lows) > 1 else min(lows[0], 1 - _LEAST_SPAN), 1.0)
    up = _Scale(marks_up[0], 1.0, _HEIGHT - _BOTTOM, _TOP)
    parts = [_rules([mark for mark in marks_up if mark <= 1 + 1e-9], up)]
    for place, line in enumerate(lines):
        kind = f"s{place % 6}"
        there = [(across.at(cost), up.at(share), up.at(low), up.at(high)) for cost, share, low, high in line.points]
        band = [*((cost, high) for cost, _, _, high in there), *((cost, low) for cost, _, low, _ in reversed(there))]
        if len(there) > 1:
            parts.append(Markup('<polygon class="band {}" points="{}"/>').format(kind, _points(band)))
            path = _points([(cost, share) for cost, share, _, _ in there])
            parts.append(Markup('<polyline class="line {}" points="{}"/>').format(kind, path))
        for cost, share, _, _ in there:
            parts.append(Markup('<circle class="dot {}" cx="{}" cy="{}" r="2.6"/>').format(kind, cost, share))
        if line.usual is not None:
            at = across.at(line.usual[0]), up.at(line.usual[1])
            parts.append(Markup('<circle class="usual {}" cx="{}" cy="{}" r="6"/>').format(kind, *at))
    powers = range(math.floor(math.log10(across.low)), math.ceil(math.log10(across.high)) + 1)
    fine = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    fine = [mark for mark in fine if across.low <= mark <= across.high]
    coarse = [mark for mark in (10.0**power for power in powers) if across.low <= mark <= across.high]
    return _svg(title, [*parts, _along(fine if len(fine) <= 6 else coarse, across), _names(x, y)])


def sparkline(values: Sequence[float | None], title: str) -> Markup:
    """Draws how a figure went over generations, as a line of words is high; gaps where nobody measured."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return Markup("")
    low, high = min(known), max(known)
    up, across = _Scale(low, high, 24, 6), _Scale(0, len(values) - 1, 4, 116)
    parts, run = [], list[tuple[float, float]]()
    for place, value in enumerate([*values, None]):
        if value is not None:
            run.append((across.at(place), up.at(value)))
        elif run:
            parts.append(Markup('<polyline class="line s0" points="{}"/>').format(_points(run)))
            run = []
    last = max(place for place, value in enumerate(values) if value is not None)
    parts.append(Markup('<circle class="dot s0" cx="{}" cy="{}" r="2.6"/>').format(across.at(last), up.at(known[-1])))
    inside = Markup("").join(parts)
    return Markup('<svg class="spark" viewBox="0 0 120 30" role="img"><title>{}</title>{}</svg>').format(title, inside)


def _svg(title: str, parts: Sequence[Markup]) -> Markup:
    head = Markup('<svg class="plot" viewBox="0 0 {} {}" role="img"><title>{}</title>').format(_WIDTH, _HEIGHT, title)
    return head + Markup("").join(parts) + Markup("</svg>")


def _rules(marks: Sequence[float], up: _Scale) -> Markup:
    made = Markup("")
    for mark in marks:
        at = up.at(mark)
        made += Markup('<line class="rule" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(_LEFT, at, _WIDTH - _RIGHT, at)
        made += _text(_LEFT - 6, at + 4, short(mark), "end")
    return made


def _along(marks: Sequence[float], across: _Scale) -> Markup:
    return Markup("").join(_text(across.at(mark), _HEIGHT - _BOTTOM + 16, short(mark), "middle") for mark in marks)


def _names(x: str, y: str) -> Markup:
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    up = (_TOP + _HEIGHT - _BOTTOM) / 2
    below = Markup('<text class="name" x="{}" y="{}" text-anchor="middle">{}</text>').format(middle, _HEIGHT - 6, x)
    beside = Markup('<text class="name" transform="translate(11 {}) rotate(-90)" text-anchor="middle">{}</text>')
    return below + beside.format(up, y)


def _text(x: float, y: float, words: str, anchor: str) -> Markup:
    return Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(
        round(x, 1), round(y, 1), anchor, escape(words)
    )


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in points)

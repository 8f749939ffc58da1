"""Axes of plots: round numbers, as few as can be read, and nothing that says nothing."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.font_manager import findfont, get_font
from matplotlib.text import Text

INK: Final = "#1a1a1a"
QUIET: Final = "#5f6368"
_RULE: Final = "#e3e5e8"

_MOST_TICKS: Final = 7
_STEPS: Final = (0.01, 0.02, 0.05, 0.1, 0.2)
_MOST_LETTERS: Final = 400
"""Of a line, however thin they are."""

_LEAST_SPAN: Final = 0.05
_LEAST_GROUND: Final = 0.1
"""Where an axis would begin below, it begins at 0."""


def log_ticks(low: float, high: float) -> list[float]:
    """Returns round numbers between two positive ones: 1, 2 and 5 of each power of ten, or some of the powers.

    >>> log_ticks(0.4, 6)
    [0.5, 1.0, 2.0, 5.0]
    >>> log_ticks(30, 2e6)
    [100.0, 1000.0, 10000.0, 100000.0, 1000000.0]
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]
    fine = [tick for tick in fine if low <= tick <= high]
    coarse = [tick for tick in (float(f"1e{power}") for power in powers) if low <= tick <= high]
    return fine if len(fine) <= _MOST_TICKS else coarse[:: -(-len(coarse) // _MOST_TICKS)]


def share_ticks(low: float) -> list[float]:
    """Returns round shares, equally far from each other, from one that is not above `low` up to 1.

    >>> share_ticks(0.83)
    [0.8, 0.85, 0.9, 0.95, 1.0]
    >>> share_ticks(1.0)
    [0.95, 0.96, 0.97, 0.98, 0.99, 1.0]
    """
    span = max(1 - low, _LEAST_SPAN)
    step = next((step for step in _STEPS if span <= 5 * step + 1e-9), _STEPS[-1])
    return [round(1 - step * number, 10) for number in range(math.ceil(span / step - 1e-9), -1, -1)]


def short(number: float) -> str:
    """Returns a round number in few characters.

    >>> [short(number) for number in (0.05, 200, 5e3, 1e6)]
    ['0.05', '200', '5K', '1M']
    """
    factor, unit = next((each for each in ((1e9, "B"), (1e6, "M"), (1e3, "K")) if number >= each[0]), (1.0, ""))
    return f"{number / factor:g}{unit}"


def bare(axes: Axes) -> None:
    """Leaves of the frame the ground only, and light rules for the eye."""
    axes.set_facecolor("white")
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.spines["bottom"].set_color(QUIET)
    axes.set_axisbelow(True)
    axes.grid(visible=True, color=_RULE, lw=1)
    axes.tick_params(length=0, pad=7, labelsize=11.5, labelcolor=QUIET)


def along_costs(axes: Axes, costs: Sequence[float]) -> None:
    """Lays costs along a logarithmic axis, wide enough for two ticks; where a cost is 0, the axis is linear near it."""
    known = [cost for cost in costs if math.isfinite(cost)]
    if not known:
        axes.set_xticks([])
        return
    positive = [cost for cost in known if cost > 0]
    least, most = min(positive, default=1.0), max(positive, default=1.0)
    widen = max((most / least) ** 0.05, math.sqrt(6 * least / most))
    low, high = least / widen, most * widen
    ticks = log_ticks(low, high)
    if len(positive) < len(known):
        axes.set_xscale("symlog", linthresh=least, linscale=0.5)
        low, ticks = -least / 5, [0.0, *(tick for tick in ticks if tick >= least)]
    else:
        axes.set_xscale("log")
    axes.set_xticks(ticks, [short(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlim(low, high)


def up_to_one(axes: Axes, low: float, text: str) -> None:
    """Ends an axis of shares at 1, and begins it a little below the lowest one that there is.

    Args:
        axes: whose y it is.
        low: the lowest share.
        text: a format of a tick, which may name the `places` that ticks need.
    """
    ticks = share_ticks(low)
    bottom = max(ticks[0], min(low, 1 - _LEAST_SPAN) - 0.05 * (1 - low))
    bottom = bottom if bottom >= _LEAST_GROUND else 0.0
    ticks = [tick for tick in ticks if tick >= bottom]
    places = 1 if all(tick == round(tick, 1) for tick in ticks) else 2
    axes.set_yticks(ticks, [text.format(tick, places=places) for tick in ticks])
    axes.set_ylim(bottom, 1.0)


def fitted(text: Text, margin: float = 0.02) -> None:
    """Sets a text as it stands, on one line, and cuts it where it would leave the figure.

    A $ begins no formula, and � stands for what the font does not have.
    """
    known = get_font(findfont(text.get_fontproperties())).get_charmap()
    words = " ".join(text.get_text().split())[:_MOST_LETTERS]
    line = "".join(each if ord(each) in known else "\N{REPLACEMENT CHARACTER}" for each in words)
    text.set_parse_math(False)
    text.set_text(line)
    figure = text.get_figure(root=True)
    assert figure is not None
    most = figure.bbox.width * (1 - margin)

    def leaves(letters: int) -> bool:
        text.set_text(f"{line[:letters].rstrip()}…")
        return bool(text.get_window_extent().x1 > most)

    if text.get_window_extent().x1 > most:
        leaves(bisect_left(range(len(line)), True, key=leaves) - 1)

"""Plots: SVG that is well-formed, within its frame, and says what it is."""

import re
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.report import figures
from transforms.report.figures import Line
from transforms.report.words import ticks

SHARE = st.floats(0, 1)


def numbers_of(svg: str) -> Iterator[tuple[float, float]]:
    """The corners of all that is drawn."""
    for element in ElementTree.fromstring(svg).iter():
        kind = element.tag
        at = {name: float(value) for name, value in element.attrib.items() if re.fullmatch(r"-?[\d.]+", value)}
        if kind == "rect":
            yield from ((at["x"], at["y"]), (at["x"] + at["width"], at["y"] + at["height"]))
        elif kind == "circle":
            yield at["cx"], at["cy"]
        elif kind in ("polyline", "polygon"):
            yield from (tuple(map(float, pair.split(","))) for pair in element.attrib["points"].split())  # type: ignore[misc]


def assert_inside(svg: str) -> None:
    for x, y in numbers_of(svg):
        assert 0 <= x <= 361 and 0 <= y <= 209, (x, y)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=24))
def test_columns_stay_within_the_frame(heights: list[int]) -> None:
    edges = [float(number) for number in range(len(heights) + 1)]
    assert_inside(figures.columns([float(height) for height in heights], edges, "<title>", "x", "y"))


@given(st.lists(st.tuples(st.floats(1, 1e9), SHARE), min_size=1, max_size=12), st.integers(1, 8))
def test_curves_stay_within_the_frame(points: list[tuple[float, float]], lines: int) -> None:
    line = Line("<b>", tuple((cost, share, share * 0.9, min(1.0, share + 0.05)) for cost, share in sorted(points)))
    assert_inside(figures.curves([line] * lines, "</title>", "codes", "recall"))


@given(st.lists(st.one_of(st.none(), st.floats(0, 100)), max_size=24))
def test_a_sparkline_has_gaps_and_no_faults(values: list[float | None]) -> None:
    svg = figures.sparkline(values, "recall")
    assert (svg == "") == (len([value for value in values if value is not None]) < 2)
    if svg:
        ElementTree.fromstring(svg)


def test_a_title_says_what_it_is_whatever_it_holds() -> None:
    svg = figures.bars_of([1.0, 2.0], ["1", "<2>"], "<script>", "generation", "vectors")
    assert ElementTree.fromstring(svg)[0].text == "<script>"


@pytest.mark.parametrize(("low", "high"), [(0, 0), (0, 1e-12), (5, 5), (0.999, 1.0), (0, 1e12), (-3, 2)])
def test_ticks_reach_around_what_they_are_of(low: float, high: float) -> None:
    marks = ticks(low, high)
    assert marks[0] <= low + 1e-9 and marks[-1] >= high - 1e-9 and 1 <= len(marks) <= 12

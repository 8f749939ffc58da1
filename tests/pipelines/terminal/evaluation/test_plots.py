"""Plots of an evaluation: what they show, whatever the figures are, and files that are whole or not there."""

import dataclasses
import math
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipelines.terminal.evaluation import figures
from pipelines.terminal.evaluation.plots import write_plots
from transforms.errors import UsageError
from transforms.evaluation.curve import Point
from transforms.evaluation.recall import Recall

PIXELS = (2200, 1160)


def point(shares: Sequence[float] = (0.2, 0.9, 0.9, 1.0), **fields: object) -> Point:
    values: dict[str, object] = {
        "queries_of": "image", "nprobe": 16, "shortlist": 100, "is_default": True, "nearest": 0.9, "codes": 20_000.0,
        "p50_ms": 2.0, "p99_ms": 4.0, "batch_ms": 0.5, "recall": Recall.of(np.array(shares, np.float64)),
    }  # fmt: skip
    return Point(**{**values, **fields})  # type: ignore[arg-type]  # fields of a test


def swept(
    kind: str = "image", shortlists: Sequence[int] = (0, 100), probes: Sequence[int] = (1, 4, 16, 64)
) -> list[Point]:
    """Points as a search of plausible size has them."""
    points = []
    for shortlist in shortlists:
        for nprobe in probes:
            share = 1 - 0.4 / nprobe**0.5 - 0.002 * (100 - shortlist)
            shares = np.clip(share + np.linspace(-0.4, 0.2, 40), 0, 1).round(1)
            points.append(
                point(
                    shares.tolist(),
                    queries_of=kind,
                    nprobe=nprobe,
                    shortlist=shortlist,
                    codes=1200.0 * nprobe,
                    is_default=(nprobe, shortlist) == (16, 100),
                    p50_ms=0.4 + 0.04 * nprobe + 0.005 * shortlist,
                )
            )
    return points


def drawn(points: Sequence[Point], title: str = "photos") -> tuple[Figure, Figure]:
    shortlists = sorted({each.shortlist for each in points})
    asked = (points, 10, title, shortlists)
    return figures.curve(*asked), figures.queries(*asked)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def steps(axes: Axes) -> list[tuple[list[float], list[float]]]:
    lines = [line for line in axes.get_lines() if line.get_drawstyle() == "steps-pre"]
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in lines]  # type: ignore[arg-type]


# --- files ---


def test_each_kind_of_queries_has_two_pictures_named_for_it(tmp_path: Path) -> None:
    files = write_plots([*swept("text"), *swept("image")], 10, tmp_path / "new" / "plots", "photos")
    names = ["curve-text.png", "queries-text.png", "curve-image.png", "queries-image.png"]
    assert files == [tmp_path / "new" / "plots" / name for name in names]
    assert sorted((tmp_path / "new" / "plots").iterdir()) == sorted(files)
    for file in files:
        with PIL.Image.open(file) as picture:
            picture.load()
            assert (picture.format, picture.size) == ("PNG", PIXELS)


def test_no_points_are_no_files(tmp_path: Path) -> None:
    assert write_plots([], 10, tmp_path, "photos") == []
    assert not list(tmp_path.iterdir())


def test_a_kind_with_a_strange_name_stays_in_the_folder(tmp_path: Path) -> None:
    kinds = ["../a/b", "..", "$x$ \udcff\n"]
    files = write_plots([point(queries_of=kind) for kind in kinds], 10, tmp_path / "plots", "photos")
    assert {file.parent for file in files} == {tmp_path / "plots"}
    assert len(set(files)) == len(list((tmp_path / "plots").iterdir())) == 2 * len(kinds)


def test_equal_points_are_equal_bytes_that_name_no_time_and_no_version(tmp_path: Path) -> None:
    first, second = (write_plots(swept(), 10, tmp_path / name, "photos") for name in "ab")
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]
    with PIL.Image.open(first[0]) as picture:
        assert set(picture.info) <= {"dpi"}


def test_what_is_there_is_replaced(tmp_path: Path) -> None:
    before = [file.read_bytes() for file in write_plots([point()], 10, tmp_path, "before")]
    assert [file.read_bytes() for file in write_plots([point()], 10, tmp_path, "after")] != before


def test_a_disk_that_is_full_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_plots([point()], 10, tmp_path, "before")
    before = [file.read_bytes() for file in files]
    write = Path.write_bytes

    def full(file: Path, data: bytes) -> int:
        if file.name.startswith("queries-"):
            write(file, data[:100])
            raise OSError(28, "No space left on device")
        return write(file, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UsageError, match=r"plots cannot be written to .* \(No space left on device\): choose another"):
        write_plots([point()], 10, tmp_path, "after")
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert [file.read_bytes() for file in files] == before


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "plots").write_text("")
    with pytest.raises(UsageError, match="plots cannot be written to"):
        write_plots([point()], 10, tmp_path / "plots", "photos")


def test_matplotlib_is_loaded_by_drawing_only_and_never_its_global_state() -> None:
    code = (
        "import sys\nfrom pipelines.terminal.evaluation import plots\nassert 'matplotlib' not in sys.modules\n"
        "from pipelines.terminal.evaluation import figures\nassert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- what is seen ---


def test_a_curve_has_a_line_for_each_shortlist_and_says_which_setting_is_the_default() -> None:
    curve, _ = drawn(swept(shortlists=(0, 100, 500)))
    (legend,) = curve.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "codes alone",
        "shortlist 100",
        "shortlist 500",
        "default",
    ]
    left, right = curve.axes
    bold = [[text.get_text() for text in axes.texts if text.get_fontweight() == "bold"] for axes in (left, right)]
    assert bold == [["16"], ["nprobe 16"]]
    assert texts(curve)[:2] == ["photos", "40 image queries: recall@10 by what it costs, with its 95% interval"]


def test_a_shortlist_has_the_same_colour_where_another_is_not_asked() -> None:
    alone = figures.curve(swept(shortlists=(100,)), 10, "photos", [0, 100])
    both, _ = drawn(swept())
    colours = [figure.axes[0].get_lines()[place].get_color() for figure, place in ((alone, 0), (both, 2))]
    assert colours[0] == colours[1]


def test_recall_is_shown_up_to_1_from_below_the_lowest_interval() -> None:
    curve, _ = drawn(swept())
    low = min(each.recall.mean.low for each in swept())
    bottom, top = curve.axes[0].get_ylim()
    assert top == 1 and 0 < bottom < low


def test_queries_go_down_a_step_where_a_recall_is_not_reached() -> None:
    _, queries = drawn([point((0.2, 0.9, 0.9, 1.0, math.nan))])
    assert steps(queries.axes[0]) == [([0.0, 0.2, 0.9, 1.0, 1.0], [1.0, 1.0, 0.75, 0.25, 0.25])]
    assert texts(queries).count("75%") == 2
    assert "4 image queries: how many reach which recall@10, at the default nprobe 16" in texts(queries)


def test_queries_of_a_shortlist_without_a_default_are_those_at_the_nprobe_of_the_default() -> None:
    points = swept()
    at_16 = [each.recall.shares for each in points if each.nprobe == 16]
    _, queries = drawn(points)
    ends = [shares[-1] for _, shares in steps(queries.axes[0])]
    assert ends == [float((shares >= 1).mean()) for shares in at_16]


# --- odd figures ---

ODD = {
    "one point": [point()],
    "one query": [point((1.0,)), point((0.0,), nprobe=1, is_default=False)],
    "all is found": [dataclasses.replace(each, recall=point((1.0,) * 40).recall) for each in swept()],
    "nothing is found": [dataclasses.replace(each, recall=point((0.0,) * 40).recall) for each in swept()],
    "no exact neighbours": [point((math.nan,) * 3)],
    "no queries": [point(())],
    "no 5 %": [dataclasses.replace(point(), recall=dataclasses.replace(point().recall, p5=math.nan, worst=math.nan))],
    "some without codes": [dataclasses.replace(each, codes=0.0 if each.nprobe < 4 else each.codes) for each in swept()],
    "no codes at all": [dataclasses.replace(each, codes=0.0, p50_ms=0.0) for each in swept()],
    "no milliseconds": [dataclasses.replace(each, p50_ms=math.nan) for each in swept()],
    "no default": [dataclasses.replace(each, is_default=False) for each in swept()],
    "all of them default": [dataclasses.replace(each, is_default=True) for each in swept()],
    "many shortlists": swept(shortlists=range(0, 200, 20)),
    "large numbers": swept(shortlists=(0, 1_000_000), probes=[4**power for power in range(12)]),
}


@pytest.mark.parametrize("points", ODD.values(), ids=ODD)
def test_odd_figures_are_drawn_without_a_warning(points: list[Point], tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files = write_plots(points, 10, tmp_path, "photos")
    for file in files:
        with PIL.Image.open(file) as picture:
            assert picture.size == PIXELS


@pytest.mark.parametrize("points", ODD.values(), ids=ODD)
def test_no_text_leaves_the_picture(points: list[Point]) -> None:
    for figure in drawn(points):
        figure.draw_without_rendering()
        for text in [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]:
            box = text.get_window_extent()
            assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 >= 0 and box.y1 <= figure.bbox.height, text


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("50$ and $x^2", "50$ and $x^2"),
        ("two\n lines", "two lines"),
        ("\udcff 日本 é", "\N{REPLACEMENT CHARACTER} \N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER} é"),
        ("", ""),
    ],
)
def test_a_title_stands_as_it_is_on_one_line(title: str, shown: str) -> None:
    for figure in drawn([point()], title):
        assert figure.texts[0].get_text() == shown


def test_a_title_that_is_too_long_is_cut() -> None:
    for figure in drawn([point()], "W" * 100_000):
        assert figure.texts[0].get_text().endswith("W…")
        assert figure.bbox.width * 0.9 < figure.texts[0].get_window_extent().x1 <= figure.bbox.width

"""PNGs of how good a search is: what is found against what it costs, and how many queries find how much."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from transforms.errors import UsageError
from transforms.evaluation.curve import Point
from transforms.storage import atomic

_UNFINISHED = ".plots-"


def write_plots(points: Sequence[Point], k: int, folder: Path, title: str) -> list[Path]:
    """Writes `curve-KIND.png` and `queries-KIND.png` for each kind of queries, whole or not at all.

    The curve shows recall by codes and by milliseconds, a line for each shortlist. The other shows which share of the
    queries reaches which recall at the default setting of each shortlist, down to the worst. Files of these names are
    replaced; equal points give equal bytes, with the same matplotlib.

    Args:
        points: of any kinds, in any order.
        k: neighbours that were looked for.
        folder: is made where it is not there.
        title: heading of each plot.

    Returns:
        The files, kind after kind as they come first among the points; of no points, none.

    Raises:
        UsageError: the folder cannot be written to.

    Cost: loads matplotlib, which takes about a second, and as long for four files.
    """
    # Imported here, since no command that draws nothing should wait for matplotlib.
    from pipelines.terminal.evaluation import figures  # noqa: PLC0415

    shortlists = sorted({point.shortlist for point in points})
    drawn: dict[str, bytes] = {}
    for kind in dict.fromkeys(point.queries_of for point in points):
        asked = [point for point in points if point.queries_of == kind]
        # No kind can name a file of another folder.
        name = quote(kind, safe="", errors="surrogateescape")
        drawn[f"curve-{name}.png"] = figures.png(figures.curve(asked, k, title, shortlists))
        drawn[f"queries-{name}.png"] = figures.png(figures.queries(asked, k, title, shortlists))
    try:
        return _written(drawn, folder)
    except OSError as error:
        raise UsageError(
            f"plots cannot be written to {folder} ({error.strerror or error}): choose another folder"
        ) from error


def _written(drawn: dict[str, bytes], folder: Path) -> list[Path]:
    """Writes all files aside first, so that none is replaced when there is no space for all."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=_UNFINISHED) as aside:
        for name, data in drawn.items():
            (Path(aside) / name).write_bytes(data)
        for name in drawn:
            atomic.replace(Path(aside) / name, folder / name)
    return [folder / name for name in drawn]

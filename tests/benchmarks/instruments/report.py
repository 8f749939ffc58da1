"""What a benchmark leaves: tables on stdout, and one JSON file with everything that they were made of."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.terminal.text_table import Column, render
from tests.benchmarks.instruments.measuring import Measured
from tests.benchmarks.instruments.recall import NPROBES, Curve, at_codes, difference


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Returns a table whose first column stands left and whose others, numbers, stand right."""
    columns = [Column(heading, "left" if place == 0 else "right") for place, heading in enumerate(headings)]
    return render(columns, [[_text(cell) for cell in row] for row in rows])


def write(file: Path | None, found: dict[str, Any]) -> None:
    """Writes the JSON file of a benchmark, if one is wanted."""
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")


def ratio(over: float, under: float) -> float:
    return round(over / under, 4) if under else float("inf")


def cost(runs: Sequence[Measured]) -> dict[str, Any]:
    """Sums up runs of one command: median seconds, highest memory."""
    return {
        "seconds": statistics.median(run.seconds for run in runs),
        "cpu_seconds": statistics.median(run.cpu_seconds for run in runs),
        "peak_anonymous_bytes": max(run.peak_anonymous for run in runs),
        "runs_seconds": [run.seconds for run in runs],
    }


def stage_medians(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    """Returns the median seconds of every stage."""
    return {stage: round(statistics.median(run[stage] for run in runs), 3) for stage in runs[0]}


def curve_json(curve: Curve) -> list[dict[str, float]]:
    return [
        {
            "nprobe": nprobe,
            "codes": round(float(codes), 1),
            "recall_at_10": round(float(at_10.mean()), 4),
            "10_recall_at_100": round(float(at_100.mean()), 4),
        }
        for nprobe, codes, at_10, at_100 in zip(curve.nprobes, curve.codes, curve.at_10, curve.at_100, strict=True)
    ]


def compare(own: Curve, peer: Curve) -> list[dict[str, Any]]:
    """Compares two curves at every `nprobe` of the tables, and at the codes that the peer scans there.

    Differences are own - peer in points, each with a standard error over the queries; None where every `nprobe`
    measured of the own index scans more codes, or fewer.
    """
    rows = []
    for nprobe in (one for one in NPROBES if one in peer.nprobes and one in own.nprobes):
        there, here = peer.nprobes.index(nprobe), own.nprobes.index(nprobe)
        codes = float(peer.codes[there])
        rows.append(
            {
                "nprobe": nprobe,
                "own_codes": round(float(own.codes[here]), 1),
                "peer_codes": round(codes, 1),
                "recall_at_10": _compared(own.at_10[here], at_codes(own, own.at_10, codes), peer.at_10[there]),
                "10_recall_at_100": _compared(own.at_100[here], at_codes(own, own.at_100, codes), peer.at_100[there]),
            }
        )
    return rows


def _compared(
    own: NDArray[np.float64], own_at_equal: NDArray[np.float64] | None, peer: NDArray[np.float64]
) -> dict[str, Any]:
    equal = None if own_at_equal is None else difference(own_at_equal, peer)
    return {
        "own": round(float(own.mean()), 4),
        "peer": round(float(peer.mean()), 4),
        "at_equal_codes": None if equal is None else {"points": equal.points, "error": equal.error},
    }


def compare_table(rows: Sequence[dict[str, Any]], peer: str) -> str:
    """Shows what `compare` found."""
    headings = ["nprobe", "codes", f"codes {peer}"]
    for measure in ("recall@10", "10-recall@100"):
        headings += [measure, peer, "at equal codes, points"]
    cells = [
        [
            row["nprobe"],
            row["own_codes"],
            row["peer_codes"],
            *_cells(row["recall_at_10"]),
            *_cells(row["10_recall_at_100"]),
        ]
        for row in rows
    ]
    return table(headings, cells)


def _cells(found: dict[str, Any]) -> list[object]:
    equal = found["at_equal_codes"]
    gap = "—" if equal is None else f"{equal['points']:+.2f} ± {equal['error']:.2f}"
    return [found["own"], found["peer"], gap]


def _text(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:,.4f}" if abs(cell) < 10 else f"{cell:,.1f}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)

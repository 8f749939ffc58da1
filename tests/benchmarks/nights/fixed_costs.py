"""What does it cost that there is something to do at all: a small build, a plan, a night without news, one with a few?

    python -m tests.benchmarks.nights.fixed_costs --before CHECKOUT [--rows 1000000] [--rounds 3] --output FILE.json

Builds 1,000 ready vectors of 64 components; stops a build of `--rows` of them, in 16 files, where they are planned and
registered; and has two nights of a root of these: one on which nothing has changed, and one with 1 % new rows in a file
of their own, which makes no report. All of it by this checkout and by another one, in turns, each in a process of its
own and on a copy of the same root. Seconds are from the start of a command to its exit, but for the plan, which is as
its last line says; CPU seconds are beside them, for a machine that is not idle. Medians. Some minutes on two cores.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from tests.benchmarks.instruments import measuring, report
from tests.benchmarks.instruments.measuring import REPOSITORY, Measured, say

DIM, FILES, SMALL = 64, 16, 1000
KEY = "IVF1024,PQ16"
LIMITS: Final = {"build_of_1000": 5.0, "plan": 1.0, "idle_night": 2.0, "night_of_1_per_cent": 6.0}
"""Seconds on an idle machine of two cores."""


def write_vectors(folder: Path, rows: int, files: int) -> None:
    """Writes drawn vectors."""
    folder.mkdir(parents=True)
    for number, some in enumerate(np.array_split(np.arange(rows), files)):
        drawn = np.random.default_rng(number).standard_normal((len(some), DIM), np.float32)
        np.save(folder / f"part-{number:02d}.npy", drawn.astype(np.float16))


def pixdex(checkout: Path, work: Path, job: str, *words: object) -> Measured:
    """Runs a command of a checkout, whose modules are compiled, as those of an installation are."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    child = ["env", "-i", *(f"{name}={value}" for name, value in (own | {"PYTHONPATH": str(checkout)}).items())]
    child += [sys.executable, "-P", "-m", "pipelines", job, *map(str, words), "--no-progress"]
    return measuring.run(child, work / f"{job}.log")


def one_round(checkout: Path, work: Path, rows: int) -> dict[str, tuple[float, float]]:
    """Seconds, and CPU seconds, of each command."""
    root, small, planned, vectors = (work / name for name in ("copy", "small-root", "planned", "vectors"))
    for folder in (root, small, planned):
        shutil.rmtree(folder, ignore_errors=True)
    built = pixdex(checkout, work, "build", "--root", small, "--vectors", work / "small")
    embedded = pixdex(checkout, work, "embed", "--root", planned, "--vectors", vectors, "--index-key", KEY)
    shutil.copytree(work / "root", root)
    idle = pixdex(checkout, work, "reindex", "--root", root)
    new = vectors / "new.npy"
    np.save(new, np.random.default_rng(99).standard_normal((rows // 100, DIM), np.float32).astype(np.float16))
    try:
        night = pixdex(checkout, work, "reindex", "--root", root, "--retrain", "never", "--no-report")
    finally:
        new.unlink()
    told = idle.last_json(), night.last_json()
    if (told[0]["embedded"], told[0]["unchanged"], told[1]["embedded"]) != (0, rows, rows // 100):
        raise SystemExit(f"the nights did something else: {told}")
    plan = float(embedded.last_json()["seconds"]["plan"])
    return {
        "build_of_1000": (built.seconds, built.cpu_seconds),
        "plan": (plan, embedded.cpu_seconds),
        "idle_night": (idle.seconds, idle.cpu_seconds),
        "night_of_1_per_cent": (night.seconds, night.cpu_seconds),
    }


def summed_up(rounds: Sequence[dict[str, tuple[float, float]]]) -> dict[str, dict[str, float]]:
    """Medians of all rounds."""
    return {
        name: {
            "seconds": round(statistics.median(one[name][0] for one in rounds), 3),
            "cpu_seconds": round(statistics.median(one[name][1] for one in rounds), 3),
        }
        for name in LIMITS
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="another checkout, to compare with")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, help="where roots are made (default: a temporary folder)")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    own = parser.parse_args(argv)
    sides = {"now": REPOSITORY, **({"before": own.before.absolute()} if own.before else {})}
    rounds: dict[str, list[dict[str, tuple[float, float]]]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory(prefix="fixed-costs-", dir=own.work) as temporary:
        work = Path(temporary)
        write_vectors(work / "small", SMALL, 1)
        write_vectors(work / "vectors", own.rows, FILES)
        say("the root that all nights are of")
        words = ("--vectors", work / "vectors", "--index-key", KEY, "--no-report")
        pixdex(REPOSITORY, work, "build", "--root", work / "root", *words)
        for number in range(own.rounds):
            for side, checkout in sides.items():
                rounds[side].append(one_round(checkout, work, own.rows))
                say(f"round {number + 1}, {side}: {rounds[side][-1]}")
    found = {side: summed_up(some) for side, some in rounds.items()}
    rows: list[list[object]] = []
    for name, limit in LIMITS.items():
        row: list[object] = [name, found["now"][name]["seconds"], found["now"][name]["cpu_seconds"], limit]
        if "before" in found:
            then = found["before"][name]
            row += [then["seconds"], then["cpu_seconds"], report.ratio(found["now"][name]["seconds"], then["seconds"])]
        rows.append(row)
    made: dict[str, Any] = {"machine": measuring.machine(), "rows": own.rows, "limits": LIMITS, **found}
    report.write(own.output, made)
    compared = ["s before", "CPU s before", "ratio"] if "before" in found else []
    print(report.table(["what", "s", "CPU s", "limit s", *compared], rows))


if __name__ == "__main__":
    main()

"""Measures this machine for `pixdex plan`, what a graph of Beam costs beside its work too, and keeps the rates."""

import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

import apache_beam as beam
import msgspec
import numpy as np
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.transforms.combiners import Count

from pipelines.terminal import console
from pipelines.terminal.quantities import rate_text
from transforms import interpreter
from transforms.errors import PixdexError
from transforms.forecast import measure, rates
from transforms.forecast.rates import Rates
from transforms.runs.run import STAGES

_STAGES = 15
_SMALLEST: Final = (1000, 32, "OPQ8_16,IVF16,PQ8")
"""Vectors, components and key of a build that is hardly more than what every build takes beside its work."""


def calibrate() -> Rates:
    """Measures everything in about a minute, telling each figure, and keeps it for later plans."""
    console.say("measuring this machine; whatever else runs on it makes the rates lower")
    figures = {}
    with tempfile.TemporaryDirectory(prefix="pixdex-") as folder:
        for measured in measure.measure(Path(folder)):
            figures[measured.name] = _told(measured.name, measured.value)
    graph, stage = _graph_seconds()
    figures["graph_seconds"], figures["stage_seconds"] = _told("graph_seconds", graph), _told("stage_seconds", stage)
    start, step = _smallest_build()
    figures["start_seconds"], figures["step_seconds"] = _told("start_seconds", start), _told("step_seconds", step)
    figures |= {name: _told(name, getattr(rates.DEFAULT, name), assumed=True) for name in sorted(rates.ASSUMED)}
    known = {"machine": _machine(), "measured": measure.today(), "counting": rates.COUNTING}
    measured_here = msgspec.convert(known | figures, Rates)
    console.say(f"kept in {rates.save(measured_here)}")
    return measured_here


def _told(name: str, value: float, *, assumed: bool = False) -> float:
    console.say(f"  {name:<16} {rate_text(name, value):>14}{'  assumed, not measured' if assumed else ''}")
    return value


def _graph_seconds() -> tuple[float, float]:
    """Seconds before the first task of a graph of Beam, and of each stage without work behind it.

    A stage is a reader of the plan, a task, and the barrier behind it.
    """
    with tempfile.TemporaryDirectory(prefix="pixdex-") as folder:
        first = Path(folder, "first")
        started = time.time()
        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            done = pipeline | beam.Create([0]) | "First" >> beam.Map(_touch, str(first))
            for stage in range(_STAGES):
                done = (
                    done
                    | f"Tasks{stage}" >> beam.Map(int)
                    # Breaks the fusion with the one reader of the plan, as every stage does.
                    | f"Spread{stage}" >> beam.Reshuffle()
                    | f"Task{stage}" >> beam.Map(int)
                    | f"Count{stage}" >> Count.Globally()
                )
        begun = first.stat().st_mtime
    return begun - started, (time.time() - begun) / _STAGES


def _touch(element: int, file: str) -> int:
    Path(file).touch()
    return element


def _smallest_build() -> tuple[float, float]:
    """Seconds of a command beside its stages, and of each stage of a build that has next to nothing to do.

    Raises:
        PixdexError: it failed, which it says by itself.
    """
    rows, dim, key = _SMALLEST
    with tempfile.TemporaryDirectory(prefix="pixdex-") as folder:
        vectors, root = Path(folder, "vectors.npy"), Path(folder, "root")
        np.save(vectors, np.random.default_rng(0).standard_normal((rows, dim)).astype(np.float16))
        words = ["build", "--root", str(root), "--vectors", str(vectors), "--index-key", key, "--no-progress"]
        started = time.perf_counter()
        done = subprocess.run(
            interpreter.command("-m", "pipelines", *words),
            env=interpreter.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - started
    if done.returncode:
        raise PixdexError(f"the build that is timed failed: {done.stderr.strip().splitlines()[-1:]}")
    stages: dict[str, float] = msgspec.json.decode(done.stdout.strip().splitlines()[-1])["seconds"]
    return max(0.0, seconds - sum(stages.values())), sum(stages.values()) / len(STAGES)


def _machine() -> str:
    """Names this machine for people: host, cores, processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    processor = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
    return f"{platform.node()}, {os.cpu_count()} cores of {processor or platform.machine()}"

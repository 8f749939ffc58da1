"""Measures this machine for `pixdex plan`, what a graph of Beam costs beside its work too, and keeps the rates."""

import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path

import apache_beam as beam
import msgspec
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.transforms.combiners import Count

from pipelines.terminal import console
from pipelines.terminal.quantities import rate_text
from transforms import interpreter
from transforms.forecast import measure, rates
from transforms.forecast.rates import Rates

_STAGES = 15
_START = "import apache_beam, faiss, pyarrow.parquet, transforms.runs.run"
"""What every build imports before it begins."""


def calibrate() -> Rates:
    """Measures everything in about a minute, telling each figure, and keeps it for later plans."""
    console.say("measuring this machine; whatever else runs on it makes the rates lower")
    figures = {}
    with tempfile.TemporaryDirectory(prefix="pixdex-") as folder:
        for measured in measure.measure(Path(folder)):
            figures[measured.name] = _told(measured.name, measured.value)
    graph, stage = _graph_seconds()
    figures["graph_seconds"], figures["stage_seconds"] = _told("graph_seconds", graph), _told("stage_seconds", stage)
    figures["start_seconds"] = _told("start_seconds", _start_seconds())
    figures |= {name: _told(name, getattr(rates.DEFAULT, name), assumed=True) for name in sorted(rates.ASSUMED)}
    measured_here = msgspec.convert({"machine": _machine(), "measured": measure.today(), **figures}, Rates)
    console.say(f"kept in {rates.save(measured_here)}")
    return measured_here


def _told(name: str, value: float, *, assumed: bool = False) -> float:
    console.say(f"  {name:<16} {rate_text(name, value):>14}{'  assumed, not measured' if assumed else ''}")
    return value


def _graph_seconds() -> tuple[float, float]:
    """Seconds before the first task of a graph, and of each stage without work behind it.

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


def _start_seconds() -> float:
    started = time.perf_counter()
    subprocess.run(interpreter.command("-c", _START), env=interpreter.environment(), check=True)
    return time.perf_counter() - started


def _machine() -> str:
    """Names this machine for people: host, cores, processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    processor = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
    return f"{platform.node()}, {os.cpu_count()} cores of {processor or platform.machine()}"

"""How well `pixdex plan` predicts: ten builds, of which seconds, bytes and memory are compared with what was planned.

    python -m tests.benchmarks.scale.plan_contract --cache DIR --output FILE.json [--shape 3 --shape 7]
    python -m tests.benchmarks.scale.plan_contract --cache DIR --vectors /data/c1m512 --index-key OPQ64_256,IVF4096,PQ64

Measures the machine once (`--kept-rates` takes what this user measured before), makes synthetic vectors below --cache
(1.9 GB in all, kept), and builds each shape of `SHAPES`, or a folder of vectors, `--repeats` times into an empty root.
Predicted over real should be from 0.8 to 1.2: for the seconds of the command, for those of stages that take a tenth of
them, for the bytes of the root and of the index. Memory is what a worker must have: no less than it took, and no more
than twice. Recall is not planned, for vectors decide it: what training measures of a sample, before anything is added,
stands beside what the built index has.
"""

import argparse
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.running.calibration import calibrate
from tests.benchmarks.build_ten_million import folder_of
from tests.benchmarks.instruments import own_builds, recall, report
from tests.benchmarks.instruments.measuring import machine, say, warm
from tests.benchmarks.instruments.own_builds import OwnRun
from tests.benchmarks.instruments.vector_folder import VectorFolder
from transforms.forecast import rates
from transforms.forecast.hours import Forecast, forecast
from transforms.forecast.rates import Rates
from transforms.forecast.workload import THREADS_A_TASK, Machines, Workload
from transforms.generations import published
from transforms.index import canaries
from transforms.index.index_key import IndexKey
from transforms.records import Metric
from transforms.storage.store import Store

COUNTS_FROM = 0.1
WITHIN = 0.2
ROOMY = 2.0
"""Memory that is asked for is at most so many times what is taken."""


@dataclass(frozen=True)
class Shape:
    """So many synthetic vectors, and the index that they get."""

    rows: int
    dim: int
    key: str
    metric: Metric = "ip"


SHAPES = (
    Shape(100_000, 64, "Flat", "l2"),
    Shape(100_000, 768, "IVF256,Flat"),
    Shape(200_000, 128, "IVF1024,Flat", "l2"),
    Shape(2_000_000, 96, "IVF4096,SQ8"),
    Shape(300_000, 256, "PCA64,IVF2048,SQ8", "l2"),
    Shape(1_000_000, 64, "IVF4096,PQ16"),
    Shape(300_000, 512, "OPQ64_256,IVF4096,PQ64"),
    Shape(150_000, 768, "OPQ64_256,IVF1024,PQ64"),
    Shape(1_000_000, 128, "OPQ32_128,IVF16384_HNSW32,PQ32"),
    Shape(500_000, 384, "OPQ48_192,IVF8192,PQ48", "l2"),
)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, action="append", help="of SHAPES, from 1; may be repeated (default: all)")
    parser.add_argument("--vectors", type=Path, help="a folder of base-*.npy and query.npy, in the place of SHAPES")
    parser.add_argument("--index-key", help="of that folder")
    parser.add_argument("--metric-type", choices=("ip", "l2"), default="ip", help="of that folder")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--kept-rates", action="store_true", help="take the rates that were measured before")
    parser.add_argument("--cache", type=Path, default=Path("benchmark-cache"), help="for vectors, roots and rates")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    own = parser.parse_args(argv)
    cache = own.cache.absolute()
    before = machine()
    if not own.kept_rates:
        os.environ["XDG_CACHE_HOME"] = str(cache / "rates")  # those of the user stay
    measured = rates.load() or rates.DEFAULT if own.kept_rates else calibrate()
    if own.vectors:
        folders = [(VectorFolder(own.vectors, own.metric_type), own.index_key)]
    else:
        shapes = [SHAPES[number - 1] for number in own.shape or range(1, len(SHAPES) + 1)]
        folders = [(VectorFolder(folder_of(one.rows, one.dim, cache).path, one.metric), one.key) for one in shapes]
    found = []
    for folder, key in folders:
        found.append(of_shape(folder, key, cache, measured, own.repeats))
        print(shown(found[-1]), flush=True)
        report.write(own.output, {"machine": before, "rates": measured.values(), "shapes": found})
    print(summed_up(found))


def of_shape(folder: VectorFolder, key: str, cache: Path, measured: Rates, repeats: int) -> dict[str, Any]:
    """Builds a shape, and compares."""
    root, runs = cache / "root-of-plan", []
    try:
        warm(folder.files)
        for repeat in range(repeats):
            say(f"{folder.rows:,} x {folder.dim}, {key}: build {repeat + 1} of {repeats}")
            runs.append(own_builds.build(folder, key, root))
        planned = predict(folder, runs[-1].summary["index_key"], measured)
        return compare(planned, runs) | {"recall": recalls(root, folder, cache)}
    finally:
        shutil.rmtree(root, ignore_errors=True)


def predict(folder: VectorFolder, key: str, measured: Rates) -> Forecast:
    """Plans the build on this machine, where one task is worked on at a time, as the runner in the process has it."""
    metric: Metric = "ip" if folder.metric == "ip" else "l2"
    load = Workload(IndexKey.parse(key), metric, folder.rows, folder.dim, normalized=folder.metric == "ip")
    return forecast(load, Machines(1, min(os.cpu_count() or 1, THREADS_A_TASK)), measured)


def compare(planned: Forecast, runs: Sequence[OwnRun]) -> dict[str, Any]:
    """Puts what was predicted beside what was: medians of seconds, the highest memory, bytes of the last root."""
    stages = report.stage_medians([run.stages for run in runs])
    seconds = report.cost([run.measured for run in runs])["seconds"]
    rows = []
    for stage in planned.stages:
        real, predicted = stages.get(stage.cost.stage, 0.0), stage.seconds or 0.0
        counts = max(real, predicted) > COUNTS_FROM * seconds
        rows.append({"stage": stage.cost.stage, **_ratio(predicted, real), "counts": counts})
    load, root = planned.load, runs[-1].root
    files = [path for path in root.rglob("*") if path.is_file()]
    index = sum(path.stat().st_size for path in files if path.is_relative_to(root / "index"))
    return {
        "rows": load.rows,
        "dim": load.dim,
        "index_key": str(load.key),
        "metric": load.metric,
        "stages": rows,
        "beside": _ratio(planned.rates.start_seconds, max(0.0, seconds - sum(stages.values()))),
        "all": _ratio(planned.seconds, seconds),
        "root_bytes": _ratio(sum(load.storage.values()), sum(path.stat().st_size for path in files)),
        "index_bytes": _ratio(load.storage["index"], index),
        "memory_bytes": _ratio(
            max(stage.memory.bytes for stage in planned.stages if stage.memory),
            max(run.measured.peak_anonymous for run in runs),
        ),
        "bottleneck": {"predicted": planned.bottleneck, "real": max(stages, key=stages.__getitem__)},
    }


def recalls(root: Path, folder: VectorFolder, cache: Path) -> dict[str, float | None]:
    """Returns recall@10 at the default number of lists: of canaries as training measured it, and of the queries."""
    store = Store.at(str(root))
    generation = published.open_generation(store)
    watch = generation.canaries and canaries.load(store, generation.canaries)
    index, positions = own_builds.opened(root, folder)
    curve = recall.measure(
        index, folder.queries(), recall.exact_of(folder, cache), positions, [generation.trained.nprobe]
    )
    return {
        "canaries": round(watch.recall_trained, 4) if watch else None,
        "queries": round(float(curve.at_10[0].mean()), 4),
    }


def shown(found: dict[str, Any]) -> str:
    """The stages of a shape, for people."""
    lines = [*found["stages"], {"stage": "beside them", **found["beside"], "counts": False}]
    lines.append({"stage": "in all", **found["all"], "counts": True})
    rows = [[row["stage"], row["real"], row["predicted"], row["off"], _verdict(row)] for row in lines]
    title = f"\n{found['rows']:,} x {found['dim']}, {found['index_key']}, {found['metric']}"
    return f"{title}\n{report.table(('stage', 'real s', 'predicted s', 'off', f'within {WITHIN:.0%}'), rows)}"


def summed_up(found: Sequence[dict[str, Any]]) -> str:
    """All shapes, a line each: predicted over real, and whether that is within the limits."""
    rows: list[list[object]] = []
    held = asked = 0
    for one in found:
        parts = [one["all"], one["root_bytes"], one["index_bytes"]]
        stages = [stage for stage in one["stages"] if stage["counts"]]
        verdicts = [_is_within(part["off"]) for part in (*parts, *stages)]
        verdicts.append(1 <= one["memory_bytes"]["off"] <= ROOMY)
        held, asked = held + sum(verdicts), asked + len(verdicts)
        off = ", ".join(f"{stage['stage']} {stage['off']}" for stage in stages)
        rows.append(
            [
                f"{one['rows']:,} x {one['dim']}, {one['index_key']}, {one['metric']}",
                round(one["all"]["real"], 1),
                *(part["off"] for part in parts),
                one["memory_bytes"]["off"],
                one["recall"]["canaries"],
                one["recall"]["queries"],
                f"{sum(verdicts)} of {len(verdicts)}",
                off,
            ]
        )
    headings = ("shape", "s", "seconds", "bytes", "index", "memory", "canaries", "recall@10", "held", "stages")
    table = report.table(headings, rows)
    return f"\nPredicted over real:\n{table}\n{held} of {asked} are within {WITHIN:.0%} (memory: 1 to {ROOMY:g} times)"


def _ratio(predicted: float, real: float) -> dict[str, float | None]:
    off = round(predicted / real, 3) if real else None
    return {"real": round(real, 3), "predicted": round(predicted, 3), "off": off}


def _is_within(off: float | None) -> bool:
    return off is not None and abs(off - 1) <= WITHIN


def _verdict(row: dict[str, Any]) -> str:
    if not row["counts"]:
        return ""
    return "yes" if _is_within(row["off"]) else "NO"


if __name__ == "__main__":
    main()

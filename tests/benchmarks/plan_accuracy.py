"""How well `pixdex plan` predicts: builds from ready embeddings, and compares the seconds of every stage.

    python -m tests.benchmarks.plan_accuracy --vectors /data/c1m512 --index-key OPQ64_256,IVF4096,PQ64 --work /tmp/plan

Measures the machine first (`--kept-rates` takes what was measured before), builds `--repeats` times into an empty root,
and prints real and predicted seconds of each stage and in all. A stage counts when it takes more than a tenth of the
real time; `off` is predicted over real, and should be from 0.7 to 1.3. Writes all of it to `--json`.
"""

import argparse
import os
from pathlib import Path
from typing import Any

from pipelines.running.calibration import calibrate
from tests.benchmarks.instruments import own_builds, report
from tests.benchmarks.instruments.measuring import machine, say, warm
from tests.benchmarks.instruments.vector_folder import VectorFolder
from transforms.forecast import rates
from transforms.forecast.hours import Forecast, forecast
from transforms.forecast.rates import Rates
from transforms.forecast.workload import THREADS_A_TASK, Machines, Workload
from transforms.index.index_key import IndexKey
from transforms.records import Metric

COUNTS_FROM = 0.1
WITHIN = 0.3


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=Path, required=True, help="a folder of base-*.npy and query.npy")
    parser.add_argument("--metric", choices=("ip", "l2"), default="ip")
    parser.add_argument("--index-key", required=True)
    parser.add_argument("--work", type=Path, required=True, help="roots and logs are written here")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--kept-rates", action="store_true", help="take the rates that were measured before")
    parser.add_argument("--json", type=Path)
    own = parser.parse_args()
    folder = VectorFolder(own.vectors, own.metric)
    warm(folder.files)
    before = machine()
    measured = (rates.load() if own.kept_rates else None) or calibrate()
    runs = []
    for repeat in range(own.repeats):
        say(f"build {repeat + 1} of {own.repeats}")
        runs.append(own_builds.build(folder, own.index_key, own.work / "root"))
    stages = report.stage_medians([run.stages for run in runs])
    seconds = report.cost([run.measured for run in runs])["seconds"]
    found = compare(predict(folder, runs[0].summary["index_key"], measured), stages, seconds)
    print(shown(found))
    report.write(own.json, {"machine": before, "rates": measured.values(), "index_key": own.index_key, **found})


def predict(folder: VectorFolder, key: str, measured: Rates) -> Forecast:
    """Plans the build on this machine, where one task is worked on at a time, as the runner in the process has it."""
    metric: Metric = "ip" if folder.metric == "ip" else "l2"
    load = Workload(IndexKey.parse(key), metric, folder.rows, folder.dim, normalized=folder.metric == "ip")
    return forecast(load, Machines(1, min(os.cpu_count() or 1, THREADS_A_TASK)), measured)


def compare(planned: Forecast, stages: dict[str, float], seconds: float) -> dict[str, Any]:
    """Puts predicted and real seconds side by side; `seconds` are those of the whole command."""
    rows = []
    for stage in planned.stages:
        real, predicted = stages.get(stage.cost.stage, 0.0), stage.seconds or 0.0
        counts = real > COUNTS_FROM * seconds
        rows.append({"stage": stage.cost.stage, **_ratio(predicted, real), "counts": counts})
    return {
        "rows": planned.load.rows,
        "dim": planned.load.dim,
        "stages": rows,
        "beside": _ratio(planned.rates.start_seconds, max(0.0, seconds - sum(stages.values()))),
        "all": {**_ratio(planned.seconds, seconds), "counts": True},
        "bottleneck": {"predicted": planned.bottleneck, "real": max(stages, key=stages.__getitem__)},
    }


def shown(found: dict[str, Any]) -> str:
    """The table for people."""
    beside = {"stage": "beside them", **found["beside"], "counts": False}
    lines = [*found["stages"], beside, {"stage": "in all", **found["all"]}]
    rows = [[row["stage"], row["real"], row["predicted"], row["off"], _verdict(row)] for row in lines]
    return report.table(("stage", "real s", "predicted s", "off", f"within {WITHIN:.0%}"), rows)


def _ratio(predicted: float, real: float) -> dict[str, float | None]:
    off = round(predicted / real, 3) if real else None
    return {"real": round(real, 3), "predicted": round(predicted, 3), "off": off}


def _verdict(row: dict[str, Any]) -> str:
    if not row["counts"]:
        return ""
    return "yes" if row["off"] is not None and abs(row["off"] - 1) <= WITHIN else "NO"


if __name__ == "__main__":
    main()

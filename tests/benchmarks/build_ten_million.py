"""Ten million vectors, start to finish, and the same with a tenth of them: time a vector and memory must not grow.

    python -m tests.benchmarks.build_ten_million [--rows 10000000] [--fewer 1000000] [--dim 128] \\
        [--index-key OPQ32_128,IVF16384,PQ32x8] [--rounds 1] [--cache DIR] --output FILE.json

Makes synthetic vectors below --cache (2.6 GB for ten million of 128; kept for the next time) and builds both with the
same key, hence the same number of lists, in turn. Limits: outside of training, a vector takes at most 1.2 times as long
among ten million; peak anonymous memory is at most 1.1 times as high.
"""

import argparse
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks import clustered_vectors
from tests.benchmarks.instruments import measuring, own_builds, recall, report
from tests.benchmarks.instruments.measuring import say
from tests.benchmarks.instruments.own_builds import OwnRun
from tests.benchmarks.instruments.vector_folder import VectorFolder
from transforms.runs.run import STAGES

LIMIT_TIME, LIMIT_MEMORY = 1.2, 1.1
_NPROBES = (1, 4, 16, 64, 128)


def folder_of(rows: int, dim: int, cache: Path) -> VectorFolder:
    """Returns synthetic vectors, made if they are not there; a folder that is not whole is made again."""
    path = cache / f"clustered-{rows}-{dim}"
    if not (path / "whole").exists():
        say(f"making {rows:,} vectors in {path}")
        shutil.rmtree(path, ignore_errors=True)
        clustered_vectors.write(path, rows, dim)
        (path / "whole").touch()
    return VectorFolder(path, "ip")


def figures(folder: VectorFolder, runs: Sequence[OwnRun], cache: Path) -> dict[str, Any]:
    """Sums up the builds of one size, with the recall of the last."""
    stages = report.stage_medians([run.stages for run in runs])
    seconds = statistics.median(run.measured.seconds for run in runs)
    training = statistics.median(run.training_seconds for run in runs)
    outside = sum(spent for stage, spent in stages.items() if stage not in own_builds.TRAINING)
    index, positions = own_builds.opened(runs[-1].root, folder)
    exact = recall.exact_of(folder, cache)
    curve = recall.measure(index, folder.queries(), exact, positions, _NPROBES)
    return {
        "rows": folder.rows,
        "index_key": runs[-1].summary["index_key"],
        **report.cost([run.measured for run in runs]),
        "peak_in_stage": stage_of_peak(max(runs, key=lambda run: run.measured.peak_anonymous)),
        "stages": stages,
        "training_seconds": training,
        "vectors_a_second": round(folder.rows / seconds),
        "microseconds_a_vector": {
            "stages_outside_training": round(1e6 * outside / folder.rows, 3),
            "whole_command_outside_training": round(1e6 * (seconds - training) / folder.rows, 3),
            "add": round(1e6 * stages["add"] / folder.rows, 3),
        },
        "recall": report.curve_json(curve),
    }


def stage_of_peak(run: OwnRun) -> str:
    """Returns the stage in which memory was at its highest; what comes before the first stage counts as start."""
    at = run.measured.seconds - sum(run.stages.values())
    if run.measured.peak_after < at:
        return "start"
    for stage in STAGES:
        at += run.stages.get(stage, 0.0)
        if run.measured.peak_after < at:
            return stage
    return STAGES[-1]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--fewer", type=int, default=1_000_000, help="what it is compared with (default 1000000)")
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--index-key", default="OPQ32_128,IVF16384,PQ32x8")
    parser.add_argument("--rounds", type=int, default=1, help="builds of each, in turn (default 1)")
    parser.add_argument("--cache", type=Path, default=Path("benchmark-cache"), help="for vectors and roots")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args(argv)
    cache = options.cache.absolute()
    cache.mkdir(parents=True, exist_ok=True)
    machine = measuring.machine()
    folders = {rows: folder_of(rows, options.dim, cache) for rows in (options.fewer, options.rows)}
    roots = Path(tempfile.mkdtemp(prefix="roots-", dir=cache))
    runs: dict[int, list[OwnRun]] = {rows: [] for rows in folders}
    try:
        for number in range(options.rounds):
            for rows, folder in folders.items():
                say(f"round {number + 1} of {options.rounds}: {rows:,} vectors")
                measuring.warm(folder.files)
                runs[rows].append(own_builds.build(folder, options.index_key, roots / str(rows)))
                say(f"took {runs[rows][-1].measured.seconds:.1f} s: {runs[rows][-1].stages}")
        sizes = {rows: figures(folder, runs[rows], cache) for rows, folder in folders.items()}
    finally:
        shutil.rmtree(roots, ignore_errors=True)
    few, many = sizes[options.fewer], sizes[options.rows]
    found: dict[str, Any] = {
        "machine": machine,
        "dim": options.dim,
        "index_key": options.index_key,
        "builds": {str(rows): size for rows, size in sizes.items()},
        "ratio": {
            "time_a_vector": {
                kind: report.ratio(many["microseconds_a_vector"][kind], few["microseconds_a_vector"][kind])
                for kind in many["microseconds_a_vector"]
            },
            "peak_anonymous": report.ratio(many["peak_anonymous_bytes"], few["peak_anonymous_bytes"]),
        },
        "limits": {"time_a_vector": LIMIT_TIME, "peak_anonymous": LIMIT_MEMORY},
    }
    report.write(options.output, found)
    show(found)


def show(found: dict[str, Any]) -> None:
    few, many = found["builds"].values()
    ratios = found["ratio"]
    names = {
        "stages_outside_training": "µs a vector, stages outside of training",
        "whole_command_outside_training": "µs a vector, whole command outside of training",
        "add": "µs a vector, add",
    }
    rows = [["seconds", few["seconds"], many["seconds"], report.ratio(many["seconds"], few["seconds"]), ""]]
    rows += [
        [stage, few["stages"].get(stage, 0.0), many["stages"][stage], "", ""]
        for stage in STAGES
        if stage in many["stages"]
    ]
    rows += [
        [
            name,
            few["microseconds_a_vector"][kind],
            many["microseconds_a_vector"][kind],
            ratios["time_a_vector"][kind],
            LIMIT_TIME,
        ]
        for kind, name in names.items()
    ]
    memory = [size["peak_anonymous_bytes"] / 1e6 for size in (few, many)]
    rows.append(["peak anonymous MB", *memory, ratios["peak_anonymous"], LIMIT_MEMORY])
    rows.append(["  in stage", few["peak_in_stage"], many["peak_in_stage"], "", ""])
    rows.append(["vectors a second, all in all", few["vectors_a_second"], many["vectors_a_second"], "", ""])
    rows += [
        [f"recall@10, nprobe {one['nprobe']}", one["recall_at_10"], other["recall_at_10"], "", ""]
        for one, other in zip(few["recall"], many["recall"], strict=True)
    ]
    print(f"dimension {found['dim']}, {few['index_key']} and {many['index_key']}")
    print(report.table(["", f"{few['rows']:,}", f"{many['rows']:,}", "ratio", "limit"], rows))


if __name__ == "__main__":
    main()

"""Embedding by several processes of this machine (`--workers N`) against one: seconds of the embed stage.

    python -m tests.benchmarks.worker_processes [--pictures 16384] [--size 512] [--encoder demo] [--workers 2] \\
        [--rounds 3] [--cache DIR] --output FILE.json

Draws pictures of `size` x `size` pixels (kept for the next time), embeds them with one process and with several, in
turn, each into a new root, from the start of the command to its exit. Both leave the default number of encoder threads
to the job: the cores, divided by the processes. What one process leaves of the cores (its CPU seconds over the seconds
that all cores had) is what several can win.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.instruments import measuring, report
from tests.benchmarks.instruments.measuring import Measured, say
from transforms.demo.corpus import write_corpus

LIMIT_FASTER, LIMIT_SLOWER = 1.6, 0.95


def embed(pictures: Path, encoder: str, workers: int, root: Path) -> Measured:
    """Embeds everything into a new root."""
    shutil.rmtree(root, ignore_errors=True)
    words = ["--root", str(root), "--images", str(pictures), "--encoder", encoder, "--no-progress"]
    child = [sys.executable, "-m", "pipelines.embed", *words, "--workers", str(workers)]
    return measuring.run(child, root.with_name(f"{root.name}.log"))


def figures(runs: Sequence[Measured], cores: int) -> dict[str, Any]:
    """Sums up the runs of one number of processes."""
    stages = [run.last_json()["seconds"]["embed"] for run in runs]
    return {
        "embed_seconds": statistics.median(stages),
        "runs_seconds": stages,
        **{f"command_{name}": value for name, value in report.cost(runs).items()},
        "share_of_cores": round(statistics.median(run.cpu_seconds / (cores * run.seconds) for run in runs), 3),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=16_384)
    parser.add_argument("--size", type=int, default=512, help="pixels of a side (default 512)")
    parser.add_argument("--encoder", default="demo")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=Path("benchmark-cache"), help="for pictures and roots")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args(argv)
    cache = options.cache.absolute()
    cache.mkdir(parents=True, exist_ok=True)
    machine = measuring.machine()
    pictures = cache / f"pictures-{options.pictures}-{options.size}"
    if not (pictures / "whole").exists():
        say(f"drawing {options.pictures:,} pictures")
        shutil.rmtree(pictures, ignore_errors=True)
        write_corpus(pictures, options.pictures, 0, size=options.size)
        (pictures / "whole").touch()
    measuring.warm(sorted(pictures.rglob("*.png")))
    roots = Path(tempfile.mkdtemp(prefix="roots-", dir=cache))
    runs: dict[int, list[Measured]] = {1: [], options.workers: []}
    try:
        for number in range(options.rounds):
            for workers, measured in runs.items():
                say(f"round {number + 1} of {options.rounds}: {workers} processes")
                measured.append(embed(pictures, options.encoder, workers, roots / "root"))
                say(f"took {json.dumps(measured[-1].last_json()['seconds'])}")
    finally:
        shutil.rmtree(roots, ignore_errors=True)
    sides = {str(workers): figures(measured, machine["cores"]) for workers, measured in runs.items()}
    one, several = sides.values()
    found = {
        "machine": machine,
        "pictures": options.pictures,
        "size": options.size,
        "encoder": options.encoder,
        "processes": sides,
        "times_faster": {
            "embed": report.ratio(one["embed_seconds"], several["embed_seconds"]),
            "command": report.ratio(one["command_seconds"], several["command_seconds"]),
        },
        "limits": {"cores_not_full": LIMIT_FASTER, "anywhere": LIMIT_SLOWER},
    }
    report.write(options.output, found)
    headings = ["processes", "embed seconds", "command seconds", "share of all cores", "peak anonymous MB"]
    keys = ("embed_seconds", "command_seconds", "share_of_cores", "command_peak_anonymous_bytes")
    rows = [
        [name, *(side[key] / (1e6 if key.endswith("bytes") else 1) for key in keys)] for name, side in sides.items()
    ]
    print(f"{options.pictures:,} pictures of {options.size} pixels a side, encoder {options.encoder}")
    print(report.table(headings, rows))
    print(f"times faster: {found['times_faster']}")


if __name__ == "__main__":
    main()

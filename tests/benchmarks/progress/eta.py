"""How far off the time left is that progress tells, at each tenth of the way, and what looking costs.

    python -m tests.benchmarks.progress.eta [--rows 1000000] [--dim 64] [--index-key IVF4096,PQ16] \\
        [--rounds 1] [--workers 1] [--images DIR] [--cache DIR] --output FILE.json

Builds synthetic vectors, which it makes below --cache (kept for the next time), or the pictures of a folder with the
demo encoder, and reads the events of `--progress json`. The way is from the first event to the last; at each tenth the
time that was said to be left is divided by the time that was left. Limits: from a fifth of the way on within 30 %, or
one second; the thread that looks takes .5 % of the CPU seconds of the command.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.build_ten_million import folder_of
from tests.benchmarks.instruments import measuring, report
from tests.benchmarks.instruments.measuring import REPOSITORY, say

LIMIT_ERROR, LIMIT_SECONDS, LIMIT_CPU = 0.3, 1.0, 0.005
TENTHS: Final = range(1, 10)

_CODE: Final = """
import json, sys, time
from pipelines import build
from pipelines.running import launch
seen, shown = [], launch.shown
class Remembered:
    def __init__(self, *args, **kwargs): self.context = shown(*args, **kwargs)
    def __enter__(self):
        seen.append(self.context.__enter__())
        return seen[-1]
    def __exit__(self, *error): return self.context.__exit__(*error)
launch.shown = Remembered
code = build.main(sys.argv[1:])
print(json.dumps({"event": "cost", "looking": seen[0].cpu_seconds, "all": time.process_time()}), file=sys.stderr)
sys.exit(code)
"""


def built(sources: Sequence[str], root: Path, workers: int) -> list[dict[str, Any]]:
    """Builds into a new root, and returns its events, and what looking cost."""
    shutil.rmtree(root, ignore_errors=True)
    command = [sys.executable, "-c", _CODE, "--root", str(root), *sources, "--progress", "json"]
    done = subprocess.run(
        [*command, "--workers", str(workers)], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]


def errors(events: Sequence[dict[str, Any]]) -> list[dict[str, float | None]]:
    """Returns what was said at each tenth of the way, and how far off that was, in parts of what was left."""
    told = [event for event in events if event["event"] != "cost"]
    start, end = told[0]["at"], told[-1]["at"]
    found: list[dict[str, float | None]] = []
    for tenth in TENTHS:
        at = start + (end - start) * tenth / 10
        before = [event for event in told if event["at"] <= at]
        said = before[-1]["all_eta_seconds"]
        left = end - before[-1]["at"]
        error = None if said is None else round(said / left - 1, 3)
        found.append({"tenth": tenth, "left": round(left, 2), "said": said, "error": error})
    return found


def is_within(found: dict[str, float | None]) -> bool:
    """Whether what was said is within the limits."""
    said, left, error = found["said"], found["left"], found["error"]
    if said is None or left is None or error is None:
        return False
    return abs(error) <= LIMIT_ERROR or abs(said - left) <= LIMIT_SECONDS


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--index-key", default="IVF4096,PQ16")
    parser.add_argument("--images", type=Path, help="a folder of pictures, in the place of vectors")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=Path("benchmark-cache"), help="for vectors and roots")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args(argv)
    cache = options.cache.absolute()
    cache.mkdir(parents=True, exist_ok=True)
    if options.images is not None:
        sources = ["--images", str(options.images), "--encoder", "demo"]
    else:
        folder = folder_of(options.rows, options.dim, cache)
        measuring.warm(folder.files)
        sources = ["--vectors", folder.pattern, "--index-key", options.index_key]
    machine, root = measuring.machine(), Path(tempfile.mkdtemp(prefix="root-", dir=cache))
    rounds: list[list[dict[str, float | None]]] = []
    shares: list[float] = []
    try:
        for number in range(options.rounds):
            say(f"round {number + 1} of {options.rounds}")
            events = built(sources, root, options.workers)
            rounds.append(errors(events))
            shares.append(events[-1]["looking"] / events[-1]["all"])
    finally:
        shutil.rmtree(root, ignore_errors=True)
    found = {
        "machine": machine,
        "sources": sources,
        "workers": options.workers,
        "rounds": rounds,
        "within": [[is_within(each) for each in one if (each["tenth"] or 0) >= 2] for one in rounds],
        "looking_share_of_cpu": [round(share, 5) for share in shares],
        "limits": {"error": LIMIT_ERROR, "or_seconds": LIMIT_SECONDS, "cpu": LIMIT_CPU},
    }
    report.write(options.output, found)
    rows = [
        [f"{tenth}/10", *(each[place][name] for each in rounds for name in ("left", "said", "error"))]
        for place, tenth in enumerate(TENTHS)
    ]
    print(report.table(["way", *(name for _ in rounds for name in ("left, s", "said, s", "error"))], rows))
    print(f"looking took {100 * statistics.median(shares):.3f} % of the CPU seconds, limit {100 * LIMIT_CPU} %")


if __name__ == "__main__":
    main()

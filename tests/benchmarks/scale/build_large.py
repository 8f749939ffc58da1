"""A large build on one machine, start to finish, killed once on the way: seconds and bytes beside what was planned.

    python -m tests.benchmarks.scale.build_large --rows 100000000 --dim 96 \\
        --index-key OPQ48_96,IVF65536_HNSW32,PQ48 --kill-in add --cache DIR --output FILE.json

Makes synthetic vectors below --cache (19.2 GB for a hundred million of 96; kept), measures the machine and plans as
`pixdex plan` does, builds with the command that users have, kills that once while the stage of --kill-in is about half
done, and runs it again: it must go on. Then recall of 1,000 queries against exact neighbours. Each step is written to
--output when it is done, and skipped when it stands there. The root stays below --cache. A hundred million of 96 take
two cores about an hour and a half, with what is made and what is measured; 300,000 in `IVF1024` a minute.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.build_ten_million import folder_of
from tests.benchmarks.instruments import measuring, own_builds, recall, report
from tests.benchmarks.instruments.measuring import say
from tests.benchmarks.instruments.vector_folder import VectorFolder
from tests.benchmarks.scale import watched
from tests.benchmarks.scale.watched import Attempt, Kill
from transforms.evaluation.recall import found_shares
from transforms.generations import published
from transforms.queries.root import Root
from transforms.runs.run import STAGES, Run
from transforms.storage import layout
from transforms.storage.store import Store

PEERS = {"VectorChord (published: 100M x 768, 16 cores)": 5500, "autofaiss (1M x 768, two cores)": 1600}
"""Vectors a second and core."""

LIMIT_MEMORY = 1.5e9
_NPROBES = (1, 2, 4, 8, 16, 32, 64, 128)
_AS_A_USER = (16, 64)
_SEARCHES, _SHORTLIST = 100, 100
_TENTHS = 10


class Steps:
    """What was found so far, in a file: a step that stands there is not done again."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}

    def take(self, name: str, make: Callable[[], Any]) -> Any:
        """Returns a step, which is made and kept when it is not there."""
        if name not in self.found:
            say(f"step {name}")
            self.keep(name, make())
        return self.found[name]

    def keep(self, name: str, value: Any) -> None:
        """Keeps a step."""
        self.found[name] = value
        whole = self._file.with_suffix(".part")
        report.write(whole, self.found)
        whole.replace(self._file)


def planned(folder: VectorFolder, key: str, cache: Path, *, kept_rates: bool) -> dict[str, Any]:
    """Returns what `pixdex plan` says, at rates that are measured now or that this user measured before."""
    environment = dict(os.environ)
    words = [sys.executable, "-m", "pipelines", "plan"]
    if not kept_rates:
        environment["XDG_CACHE_HOME"] = str(cache / "rates")
        _json_of([*words, "--calibrate"], environment)
    what = ["--num-vectors", str(folder.rows), "--dim", str(folder.dim), "--index-key", key]
    return _json_of([*words, *what, "--metric-type", folder.metric, "--json"], environment)


def _json_of(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        command, env=environment, cwd=measuring.REPOSITORY, stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def built(steps: Steps, folder: VectorFolder, key: str, root: Path, kill: Kill | None, every: float) -> None:
    """Builds: once until it is killed, once more to the end. What each run of the command took is kept."""
    command = own_builds.command("build", folder, key, root)
    while not any(attempt["summary"] for attempt in steps.found.get("attempts", ())):
        before = steps.found.get("attempts", [])
        say(f"attempt {len(before) + 1}: {' '.join(command)}")
        log = root.with_name(f"{root.name}.log")

        def tell(so_far: Attempt) -> None:
            steps.keep("at_work", _attempt_json(so_far))

        attempt = watched.run(command, log, root, every, None if before else kill, tell)
        steps.found["at_work"] = None
        steps.keep("attempts", [*before, _attempt_json(attempt)])


def _attempt_json(attempt: Attempt) -> dict[str, Any]:
    ended = attempt.killed["at"] if attempt.killed else attempt.ended
    return {
        "began": attempt.began,
        "ended": ended,
        "seconds": round(ended - attempt.began, 1),
        "cpu_seconds": attempt.cpu_seconds,
        "peak_anonymous_bytes": max((size for _, size in attempt.memory), default=0),
        "memory": attempt.memory,
        "killed": attempt.killed,
        "summary": json.loads(attempt.output.strip().splitlines()[-1]) if attempt.output.strip() else None,
    }


def went_on(run: Run, attempts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Says what was done again after the kill; what was done before it must stand as it was.

    Raises:
        SystemExit: something that was done was done again.
    """
    killed = next((attempt["killed"] for attempt in attempts if attempt["killed"]), None)
    if killed is None:
        return {"killed": False}
    again: list[str] = []
    for stage in STAGES[: STAGES.index(killed["stage"])]:
        marker = run.stage_marker(stage)
        if marker is None or marker.finished > killed["at"]:
            again.append(stage)
    paths = {task: layout.marker(run.generation, killed["stage"], task) for task in killed["tasks_done"]}
    markers = {task: Path(run.store.full(path)) for task, path in paths.items()}
    again += [f"{killed['stage']} {task}" for task, file in markers.items() if file.stat().st_mtime > killed["at"]]
    if again:
        raise SystemExit(f"done again after it was killed: {', '.join(again)}")
    return {
        "killed": True,
        "stage": killed["stage"],
        "share_at_kill": killed["share"],
        "tasks_kept": len(killed["tasks_done"]),
        "tasks": len(run.numbers(killed["stage"])),
        "shares_done_again": killed["tasks_at_work"],
    }


def stages_of(run: Run, root: Path, attempts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns seconds, written bytes that are still there, and peak memory of every stage; memory in tenths, too."""
    windows = watched.stage_windows(run, [(_at_work(run, one), one["ended"]) for one in attempts])
    memory = [tuple(point) for attempt in attempts for point in attempt["memory"]]
    files = [(path.stat().st_mtime, path.stat().st_size) for path in root.rglob("*") if path.is_file()]
    found: dict[str, Any] = {}
    for stage, parts in windows.items():
        if not parts:
            continue
        inside = [size for at, size in memory if any(begin <= at <= end for begin, end in parts)]
        found[stage] = {
            "seconds": round(sum(end - begin for begin, end in parts), 2),
            "seconds_by_attempt": [round(end - begin, 2) for begin, end in parts],
            "bytes": sum(size for at, size in files if any(begin < at <= end for begin, end in parts)),
            "peak_anonymous_bytes": max(inside, default=0),
            "tenths": [max(map(int, part), default=0) for part in np.array_split(inside, _TENTHS)],
        }
    return found


def _at_work(run: Run, attempt: dict[str, Any]) -> float:
    """When a run of the command began its first stage, in seconds since the epoch."""
    if attempt["summary"] is None:
        return max(float(attempt["began"]), Path(run.store.full(layout.request(run.generation))).stat().st_mtime)
    stage, seconds = next(iter(attempt["summary"]["seconds"].items()))
    marker = run.stage_marker(stage)
    began = float(attempt["began"])
    return began if marker is None else max(began, marker.finished - seconds)


def areas_of(root: Path) -> dict[str, int]:
    """Returns the bytes that lie in each part of a root, by the names that a plan has for them."""
    sizes = dict.fromkeys(("training", "trained", "lists", "vectors", "index", "tables", "reports", "markers"), 0)
    for path in (path for path in root.rglob("*") if path.is_file()):
        parts = path.relative_to(root).parts
        kind = parts[0]
        if kind == "plans":
            kind = "training" if path.suffix != ".json" and parts[2] in ("sample", "training") else "markers"
        sizes[kind if kind in sizes else "markers"] += path.stat().st_size
    return sizes


def exact(folder: VectorFolder, cache: Path) -> dict[str, Any]:
    """Finds the exact neighbours, which stay below the cache."""
    started = time.monotonic()
    neighbours = recall.exact_of(folder, cache)
    return {"queries": len(neighbours), "seconds": round(time.monotonic() - started, 1)}


def by_nprobe(folder: VectorFolder, root: Path, cache: Path) -> list[dict[str, float]]:
    """Recall of codes alone, as stock faiss searches the merged index, mapped."""
    index, positions = own_builds.opened(root, folder)
    curve = recall.measure(index, folder.queries(), recall.exact_of(folder, cache), positions, _NPROBES)
    return report.curve_json(curve)


def as_a_user(folder: VectorFolder, root: Path, cache: Path) -> list[dict[str, Any]]:
    """Recall and time of searches one by one, by codes and with vectors read where they lie."""
    _, positions = own_builds.opened(root, folder)
    wanted, queries = recall.exact_of(folder, cache)[:_SEARCHES], folder.queries()[:_SEARCHES]
    found = []
    with Root(root) as searched:
        for nprobe in (None, *_AS_A_USER):
            for shortlist in (0, _SHORTLIST):
                seconds, results = [], np.full((len(queries), recall.TOP), -1, np.int64)
                for place, query in enumerate(queries):
                    started = time.perf_counter()
                    hits = searched.search(vector=query, k=recall.TOP, nprobe=nprobe, shortlist=shortlist)
                    seconds.append(time.perf_counter() - started)
                    results[place, : len(hits)] = [hit.id for hit in hits]
                shares = found_shares(positions(results), wanted, recall.TOP, among=recall.TOP)
                found.append(
                    {
                        "nprobe": nprobe or "default",
                        "shortlist": shortlist,
                        "recall_at_10": round(float(shares.mean()), 4),
                        "p50_ms": round(1e3 * statistics.median(seconds), 2),
                    }
                )
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--dim", type=int, default=96)
    parser.add_argument("--index-key", default="OPQ48_96,IVF65536_HNSW32,PQ48")
    parser.add_argument("--kill-in", choices=STAGES, help="kill it once, in the middle of this stage")
    parser.add_argument("--kept-rates", action="store_true", help="plan with the rates that were measured before")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two looks at memory (default 1)")
    parser.add_argument("--cache", type=Path, default=Path("benchmark-cache"), help="for vectors and the root")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.json")
    own = parser.parse_args(argv)
    cache = own.cache.absolute()
    cache.mkdir(parents=True, exist_ok=True)
    steps = Steps(own.output.absolute())
    steps.take("machine", measuring.machine)
    folder = folder_of(own.rows, own.dim, cache)
    root = cache / f"root-{own.rows}-{own.dim}"
    plan = steps.take("plan", lambda: planned(folder, own.index_key, cache, kept_rates=own.kept_rates))
    half = next((stage["seconds"] / 2 for stage in plan["stages"] if stage["stage"] == own.kill_in), 0.0)
    if (stopped := steps.found.get("at_work")) is not None:  # this command was stopped while a build was at work
        steps.found["at_work"] = None
        steps.keep("attempts", [*steps.found.get("attempts", []), stopped])
    if "attempts" not in steps.found and root.exists():
        say(f"{root} was begun by a command that {own.output} does not know: it counts as one that was killed")
        steps.keep("attempts", [_attempt_json(watched.begun(root))])
    built(steps, folder, own.index_key, root, Kill(own.kill_in, half) if own.kill_in else None, own.every)
    attempts = steps.found["attempts"]
    store = Store.at(str(root))
    generation = published.current(store)
    assert generation is not None
    run = Run(store, generation.generation)
    steps.take("went_on", lambda: went_on(run, attempts))
    steps.take("stages", lambda: stages_of(run, root, attempts))
    steps.take("areas", lambda: areas_of(root))
    steps.take("exact", lambda: exact(folder, cache))
    steps.take("recall", lambda: by_nprobe(folder, root, cache))
    steps.take("searches", lambda: as_a_user(folder, root, cache))
    print(shown(steps.found))


def shown(found: dict[str, Any]) -> str:
    """The tables for people."""
    plan, stages, attempts = found["plan"], found["stages"], found["attempts"]
    parts = [
        f"{plan['vectors']:,} x {plan['dim']}, {plan['index_key']}; planned with rates of {plan['rates']['measured']}"
    ]
    seconds = sum(attempt["seconds"] for attempt in attempts)
    rows: list[list[object]] = []
    for expected in plan["stages"]:
        real = stages.get(expected["stage"])
        if real is None:
            continue
        rows.append(
            [
                expected["stage"],
                " + ".join(f"{part:,.1f}" for part in real["seconds_by_attempt"]),
                *_beside(real["seconds"], expected["seconds"]),
                *_beside(real["bytes"] / 1e6, expected["writes_bytes"] / 1e6),
                *_beside(real["peak_anonymous_bytes"] / 1e6, (expected["memory_bytes"] or 0) / 1e6),
            ]
        )
    beside = seconds - sum(real["seconds"] for real in stages.values())
    rows.append(["beside them", "", *_beside(beside, plan["rates"]["start_seconds"] * len(attempts))])
    rows[-1] += [""] * 6
    peak = max(attempt["peak_anonymous_bytes"] for attempt in attempts)
    whole = [sum(found["areas"].values()) / 1e6, plan["storage_bytes"]["total"] / 1e6]
    rows.append(["the command", "", *_beside(seconds, plan["seconds"]), *_beside(*whole)])
    rows[-1] += _beside(peak / 1e6, plan["worker_memory_bytes"] / 1e6)
    headings = ["stage", "attempts, s", "s", "planned s", "ratio", "MB written", "planned MB", "ratio"]
    parts.append(report.table([*headings, "peak MB", "planned for", "ratio"], rows))
    areas = [
        [area, *_beside(size / 1e6, plan["storage_bytes"].get(area, 0) / 1e6)] for area, size in found["areas"].items()
    ]
    parts.append(report.table(["on disk", "MB", "planned MB", "ratio"], areas))
    parts.append(f"killed and gone on: {json.dumps(found['went_on'])}")
    adding = [f"{size / 1e6:,.0f}" for size in stages["add"]["tenths"]]
    parts.append(f"MB of anonymous memory while adding, peak of each tenth: {' '.join(adding)}")
    parts.append(f"peak {peak / 1e6:,.0f} MB, limit {LIMIT_MEMORY / 1e6:,.0f}")
    cores = found["machine"]["cores"]
    speed = [["this run", round(plan["vectors"] / seconds / cores)], *([name, rate] for name, rate in PEERS.items())]
    cpu = sum(attempt["cpu_seconds"] for attempt in attempts)
    speed.insert(1, ["this run, of CPU seconds", round(plan["vectors"] / cpu)])
    parts.append(report.table(["", "vectors a second and core"], speed))
    names = ("nprobe", "codes", "recall_at_10", "10_recall_at_100")
    curve = [[row[name] for name in names] for row in found["recall"]]
    parts.append(f"exact neighbours of {found['exact']['queries']:,} queries took {found['exact']['seconds']} s")
    parts.append(report.table(["nprobe", "codes", "recall@10", "10-recall@100"], curve))
    names = ("nprobe", "shortlist", "recall_at_10", "p50_ms")
    searches = [[row[name] for name in names] for row in found["searches"]]
    parts.append(report.table(["pixdex.open, nprobe", "shortlist", "recall@10", "p50 ms"], searches))
    return "\n\n".join(parts)


def _beside(real: float, expected: float) -> list[object]:
    """What was, what was predicted, and predicted over real."""
    return [round(real, 2), round(expected, 2), round(expected / real, 2) if real else ""]


if __name__ == "__main__":
    main()

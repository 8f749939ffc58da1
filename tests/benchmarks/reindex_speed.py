"""What a night costs: a reindex with nothing changed, and with one per cent of new items, against the full build.

    python -m tests.benchmarks.reindex_speed [--items 1000000] [--work DIR] --output FILE.json

Writes a CSV of so many rows with a primary key and a text, builds an index of it with a small encoder, and reindexes:
with the CSV as it was, which is not opened; with its time changed, so that every key is listed and compared; and with
one per cent of rows added at its end. Seconds are from the start of the command to its exit; `listing` is the plan
stage of that run, which reads the CSV and compares all keys.

Limits: nothing changed takes 30 s at a million known keys; one per cent takes 2 % of the full build, 20 s, and the
listing.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.instruments import measuring
from tests.benchmarks.instruments.measuring import Measured, say

LIMIT_IDLE_SECONDS, LIMIT_SHARE, LIMIT_SECONDS = 30.0, 0.02, 20.0
_ENCODER = ("--encoder", "tests.encoders:TinyEncoder", "--no-progress")


def write_rows(file: Path, first: int, stop: int) -> None:
    """Writes, or adds, rows."""
    with file.open("a", encoding="utf-8") as stream:
        if first == 0:
            stream.write("key,text\n")
        stream.writelines(f"k{number:09d},a text about thing number {number}\n" for number in range(first, stop))


def command(work: Path, job: str, *words: str) -> Measured:
    """Runs a job on the root."""
    child = [sys.executable, "-m", f"pipelines.{job}", "--root", str(work / "root"), *words]
    measured = measuring.run(child, work / f"{job}.log")
    say(f"{job}: {measured.seconds:.1f} s, {json.dumps(measured.last_json()['seconds'])}")
    return measured


def figures(measured: Measured) -> dict[str, Any]:
    """What a run took, and what it did."""
    last = measured.last_json()
    return {
        "seconds": round(measured.seconds, 1),
        "listing_seconds": last["seconds"].get("plan", 0.0),
        "embedded": last["embedded"],
        "generation": last["generation"],
        "peak_mb": round(measured.peak_anonymous / 2**20),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--work", type=Path, default=Path("benchmark-cache/reindex"), help="emptied before and after")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args(argv)
    work: Path = options.work.absolute()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    rows, count = work / "rows.csv", options.items
    write_rows(rows, 0, count)
    sources = ("--csv", str(rows), "--key-column", "key", "--text-column", "text")
    built = command(work, "build", *sources, *_ENCODER)
    untouched = command(work, "reindex", *_ENCODER)
    os.utime(rows)
    idle = command(work, "reindex", *_ENCODER)
    write_rows(rows, count, count + count // 100)
    new = command(work, "reindex", *_ENCODER, "--retrain", "never")
    allowed = LIMIT_SHARE * built.seconds + LIMIT_SECONDS + figures(new)["listing_seconds"]
    found = {
        "benchmark": "reindex_speed",
        "machine": measuring.machine(),
        "items": count,
        "build": figures(built),
        "nothing_changed_unopened": figures(untouched),
        "nothing_changed_all_keys_compared": {**figures(idle), "limit_seconds": LIMIT_IDLE_SECONDS},
        "one_per_cent_new": {**figures(new), "limit_seconds": round(allowed, 1)},
        "within_limits": idle.seconds <= LIMIT_IDLE_SECONDS and new.seconds <= allowed,
    }
    shutil.rmtree(work)
    print(json.dumps(found, indent=2))
    if options.output:
        options.output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

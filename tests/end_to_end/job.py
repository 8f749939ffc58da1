"""Runs a job in a process of its own as `python -m pipelines.JOB` does, but that Beam remembers what it asked.

python -m tests.end_to_end.job build --root ROOT ...
"""

import importlib
import sys

import pytest

from pipelines.terminal import process


def main() -> int:
    """Runs it; returns its exit code."""
    job = importlib.import_module(f"pipelines.{sys.argv[1]}")  # first: it says what Beam may log
    from tests.beam_that_remembers import remember  # noqa: PLC0415 - imports Beam

    remember(pytest.MonkeyPatch())
    code: int = job.main(sys.argv[2:])
    return code


if __name__ == "__main__":
    process.run(main)

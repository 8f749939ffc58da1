"""Runs a job in a process of its own as `python -m pipelines.JOB` does, but that Beam remembers what it asked.

python -m tests.end_to_end.job build --root ROOT ...
"""

import importlib
import sys

import pytest

if __name__ == "__main__":
    job = importlib.import_module(f"pipelines.{sys.argv[1]}")  # first: it says what Beam may log
    from tests.beam_that_remembers import remember

    remember(pytest.MonkeyPatch())
    sys.exit(job.main(sys.argv[2:]))

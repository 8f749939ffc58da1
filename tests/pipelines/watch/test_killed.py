"""A run that is killed and goes on: what was there is done, and is not in the rate."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from pipelines import build, watch
from tests.corpora import write_texts
from tests.end_to_end.builds import TINY, start, wait
from transforms.storage import layout


def test_a_run_that_is_killed_is_seen_to_be_silent_and_goes_on_from_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    texts = ["--csv", str(write_texts(tmp_path / "texts.csv", 12_000)), "--text-column", "description"]
    encoder = [word for word in TINY if word != "--no-progress"]
    job = start("--root", root, *texts, *encoder)
    shards, until = root / layout.marker_folder(1, "embed"), time.monotonic() + 120
    while not (shards.is_dir() and any(shards.glob("*.json"))):
        assert job.poll() is None and time.monotonic() < until
        time.sleep(0.005)
    os.killpg(job.pid, signal.SIGKILL)
    wait(job)
    there = len(list(shards.glob("*.json")))
    assert watch.main(["--root", str(root), "--stalled-after", "0.5", "--progress", "none"]) == 1
    assert "nothing was heard of the run of generation 1" in capsys.readouterr().err
    monkeypatch.setattr(watch, "_SECONDS_OF_ANOTHER", 0.5)
    assert watch.main(["--root", str(root), "--progress", "none"]) == 1
    assert "has ended without publishing generation 1" in capsys.readouterr().err

    assert build.main(["--root", str(root), *texts, *encoder, "--progress", "json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    begun = next(event for event in events if event["stage"] == "embed")
    assert begun["done"] >= 4096 * min(there, 2) and begun["planned"] == 12_000
    ends = {event["stage"]: event for event in events if event.get("state") == "done"}
    assert ends["plan"]["seconds"] is None
    assert list(ends) == ["plan", "embed", "keys", "train", "add", "merge", "publish"]
    assert all(event["done"] == event["planned"] and event["share"] == 1 for event in ends.values())
    assert ends["embed"]["rate"] is None or ends["embed"]["rate"] * ends["embed"]["seconds"] < 12_000 - 4000

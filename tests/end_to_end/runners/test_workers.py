"""`--workers N`: processes of this machine that share the work, the cores and the memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.running.request import default_threads
from tests import corpora
from tests.conftest import REPOSITORY
from tests.end_to_end.builds import generation_of, run_here
from tests.end_to_end.recording_encoder import FOLDER, rows_by_process
from transforms.forecast.memory import machine_memory

ROWS = 9_000
"""Three shards: the least that a shard has is 4,096 rows."""


@pytest.mark.gate
def test_every_worker_embeds_with_its_share_of_the_cores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = tmp_path / "encoded"
    encoded.mkdir()
    monkeypatch.setenv(FOLDER, str(encoded))
    table = corpora.write_texts(tmp_path / "rows.csv", ROWS)
    done = run_here(
        capsys, "--root", tmp_path / "root", "--csv", table, "--text-column", "description", "--workers", 2,
        "--encoder", "tests.end_to_end.recording_encoder:RecordingEncoder", "--index-key", "Flat", "--no-progress",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.said["vectors"] == ROWS
    rows = rows_by_process(encoded)
    assert len(rows) == 2 and os.getpid() not in rows
    assert sum(rows.values()) >= ROWS
    assert generation_of(tmp_path / "root").request.encoder.threads == default_threads(2)


def test_no_worker_takes_what_is_in_the_working_directory_for_a_package(tmp_path: Path) -> None:
    for name in ("transforms.py", "pipelines.py"):
        (tmp_path / name).write_text("raise ImportError('theirs')\n")
    table = corpora.write_texts(tmp_path / "rows.csv", 20)
    pixdex = [sys.executable, "-P", "-c", "import pixdex, sys; sys.exit(pixdex.main())"]  # as the console script does
    words = ["build", "--root", "root", "--csv", str(table), "--text-column", "description", "--index-key", "Flat"]
    words += ["--workers", "2", "--encoder", "tests.encoders:TinyEncoder", "--no-progress"]
    done = subprocess.run(
        [*pixdex, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert generation_of(tmp_path / "root").totals.vectors == 20


def test_several_workers_share_the_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.running.launch.machine_memory", lambda: machine_memory() >> 40)
    table = corpora.write_texts(tmp_path / "rows.csv", 10)
    done = run_here(
        capsys, "--root", tmp_path / "root", "--csv", table, "--text-column", "description", "--workers", 2,
        "--encoder", "tests.encoders:TinyEncoder", "--no-progress",
    )  # fmt: skip
    assert done.code == 2
    assert "needs" in done.err[-1] and "--worker-memory" in done.err[-1]

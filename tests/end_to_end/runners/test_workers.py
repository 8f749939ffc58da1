"""`--workers N`: processes of this machine that share the work, the cores and the memory."""

import contextlib
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
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


@dataclass(frozen=True)
class Watched:
    """A build by two workers in a folder that holds modules of the packages' names, and who listened meanwhile."""

    root: Path
    code: int
    said: str
    listening: set[str]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    folder = tmp_path_factory.mktemp("watched")
    for name in ("transforms.py", "pipelines.py"):
        (folder / name).write_text("raise ImportError('theirs')\n")
    table = corpora.write_texts(folder / "rows.csv", 20)
    pixdex = [sys.executable, "-P", "-c", "import pixdex, sys; sys.exit(pixdex.main())"]  # as the console script does
    words = ["build", "--root", "root", "--csv", str(table), "--text-column", "description", "--index-key", "Flat"]
    words += ["--workers", "2", "--encoder", "tests.encoders:TinyEncoder", "--no-progress"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    listening: set[str] = set()
    with (folder / "said").open("w+") as said:
        build = psutil.Popen([*pixdex, *words], cwd=folder, env=environment, stdout=said, stderr=said)
        while build.poll() is None:
            listening |= addresses(build)
            time.sleep(0.1)
        said.seek(0)
        return Watched(folder / "root", build.returncode, said.read(), listening)


def addresses(process: psutil.Process) -> set[str]:
    """At which addresses a process and its children listen, as `ss -ltn` would say."""
    found = set()
    with contextlib.suppress(psutil.Error):  # it ended meanwhile
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                sockets = each.net_connections("inet")
                found |= {socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN}
    return found


@pytest.mark.gate
def test_no_worker_takes_what_is_in_the_working_directory_for_a_package(watched: Watched) -> None:
    assert watched.code == 0, watched.said
    assert generation_of(watched.root).totals.vectors == 20


def test_nobody_listens_but_on_loopback_addresses(watched: Watched) -> None:
    assert watched.listening and watched.listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


@pytest.mark.gate
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

"""What a job says when what it works with dies or is broken, and that the same command ends with the same bytes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import corpora
from tests.conftest import REPOSITORY
from tests.end_to_end.builds import Finished, content, run_apart, start, wait
from tests.end_to_end.flink import FlinkCluster, running_cluster, wait_for
from tests.end_to_end.recording_encoder import FOLDER, rows_by_process

ROWS = 9000
PARTITIONS = 3
GO_ON = "run the same command again"
PATIENCE = 300
"""Seconds for a job on Flink, on a machine that does much else."""

SOON = 30
"""Seconds for a job whose runner is in its own process."""

SOON_ON_FLINK = 90
"""Seconds; a machine that does much else took 44 of them, most to start the job."""


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    texts = corpora.write_texts(tmp_path_factory.mktemp("texts") / "texts.csv", ROWS)
    encoder = ("--encoder", "tests.end_to_end.recording_encoder:RecordingEncoder", "--encoder-threads", "1")
    return ("--csv", str(texts), "--text-column", "description", *encoder, "--index-key", "IVF16,Flat", "--no-progress")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, arguments: tuple[str, ...]) -> dict[str, str]:
    root = tmp_path_factory.mktemp("whole") / "root"
    assert run_apart("--root", root, *arguments).code == 0
    return content(root)


@pytest.fixture
def encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the encoder of a worker that this process starts leaves its notes."""
    folder = tmp_path / "encoded"
    folder.mkdir()
    monkeypatch.setenv(FOLDER, str(folder))
    return folder


def slow(folder: Path) -> None:
    for note in folder.iterdir():
        note.unlink()
    (folder / "slow").write_text("0.3")


def some_worker(folder: Path) -> int:
    wait_for("a batch", lambda: rows_by_process(folder), PATIENCE)
    return min(rows_by_process(folder))


def one_line(done: Finished) -> str:
    lines = [line for line in done.err if line.startswith("pixdex: ")]
    assert len(lines) == 1 and not [line for line in done.err if "Traceback" in line], done.err
    return lines[0]


# --- workers that are killed ---------------------------------------------------------------------------------------


@pytest.mark.gate
def test_a_process_of_the_in_process_runner_that_is_killed_is_one_line(
    tmp_path: Path, arguments: tuple[str, ...], whole: dict[str, str], encoded: Path
) -> None:
    flags = ("--direct_running_mode", "multi_processing", "--direct_num_workers", "2")
    slow(encoded)
    job = start("--root", tmp_path / "root", *arguments, *flags)
    killed = some_worker(encoded)
    os.kill(killed, signal.SIGKILL)
    (encoded / "slow").unlink()
    done = wait(job)
    line = one_line(done)
    assert done.code == 1 and f"process {killed}, was killed (SIGKILL" in line and GO_ON in line
    assert run_apart("--root", tmp_path / "root", *arguments, *flags).code == 0
    assert content(tmp_path / "root") == whole


@pytest.mark.gate
def test_an_interrupt_that_reaches_the_processes_of_the_in_process_runner_too_is_one_line(
    tmp_path: Path, arguments: tuple[str, ...], encoded: Path
) -> None:
    slow(encoded)
    flags = ("--direct_running_mode", "multi_processing", "--direct_num_workers", "2")
    job = start("--root", tmp_path / "root", *arguments, *flags)
    some_worker(encoded)
    began = time.monotonic()
    os.killpg(job.pid, signal.SIGINT)  # as Ctrl-C does
    done = wait(job)
    assert time.monotonic() - began < SOON
    assert done.code == 130 and GO_ON in one_line(done)


def test_a_worker_on_flink_that_is_killed_is_one_line(
    tmp_path: Path, arguments: tuple[str, ...], flink: FlinkCluster
) -> None:
    slow(flink.encoded)
    job = start("--root", tmp_path / "root", *arguments, *flink.job_server)
    os.kill(some_worker(flink.encoded), signal.SIGKILL)
    (flink.encoded / "slow").unlink()
    done = wait(job, PATIENCE)
    line = one_line(done)
    assert done.code == 1 and "a worker died" in line and GO_ON in line


@pytest.mark.slow
def test_a_task_manager_that_is_killed_costs_only_what_was_not_done(
    tmp_path: Path, arguments: tuple[str, ...], whole: dict[str, str], flink: FlinkCluster
) -> None:
    root, words = tmp_path / "root", ("--parallelism", "1")
    slow(flink.encoded)
    job = start("--root", root, *arguments, *flink.job_server, *words)
    shards = root / "plans" / "000001" / "embed"
    wait_for("a shard", lambda: shards.is_dir() and list(shards.iterdir()), PATIENCE)
    flink.kill("taskmanager-1")
    done = wait(job, PATIENCE)
    kept = {path: path.stat().st_mtime_ns for path in shards.iterdir()}
    (flink.encoded / "slow").unlink()
    mended = flink.start_what_is_missing()
    assert done.code == 1 and GO_ON in one_line(done)
    assert 0 < len(kept) < PARTITIONS
    again = run_apart("--root", root, *arguments, *mended.job_server, *words, timeout=PATIENCE)
    assert again.code == 0, again.err
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert content(root) == whole


# --- every slot works ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_slot_of_a_task_manager_embeds(
    tmp_path: Path, arguments: tuple[str, ...], whole: dict[str, str], flink: FlinkCluster
) -> None:
    flags = (*flink.job_server, "--parallelism", "2", "--sdk_worker_parallelism", "2")
    rows: dict[int, int] = {}
    # Beam gives a slot that opens late the worker of the one before it, now and then; it must not be the rule.
    for attempt in range(3):
        slow(flink.encoded)
        (flink.encoded / "slow").write_text("0.01")
        root = tmp_path / f"root-{attempt}"
        done = run_apart("--root", root, *arguments, *flags, timeout=PATIENCE)
        assert done.code == 0, done.err
        assert content(root) == whole
        if len(rows := rows_by_process(flink.encoded)) > 1:
            break
    assert len(rows) == 2 and sum(rows.values()) >= ROWS and min(rows.values()) > ROWS / PARTITIONS / 2


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces take root")
def test_every_one_of_two_task_managers_embeds(
    tmp_path: Path, arguments: tuple[str, ...], whole: dict[str, str]
) -> None:
    """A minute: python -m pytest tests/end_to_end/runners/test_lost_workers.py -m slow."""
    with running_cluster(tmp_path / "cluster", "--task-managers", "2", "--slots", "1") as cluster:
        slow(cluster.encoded)
        (cluster.encoded / "slow").write_text("0.01")
        done = run_apart(
            "--root", tmp_path / "root", *arguments, *cluster.job_server, "--parallelism", "2", timeout=PATIENCE
        )
        assert done.code == 0, done.err
        rows = rows_by_process(cluster.encoded)
        assert len(rows) == 2 and min(rows.values()) > ROWS / PARTITIONS / 2
    assert content(tmp_path / "root") == whole


# --- pools that are broken -----------------------------------------------------------------------------------------


POOL = """
import os, sys
from pipelines import worker_pool
os.environ["PYTHONPATH"] = sys.argv[1]
with worker_pool.serving(0) as port:
    print(port, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def broken_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A pool whose Python breaks once the pool has started."""
    folder = tmp_path_factory.mktemp("later")
    (folder / "sitecustomize.py").write_text("raise SystemExit('no such library')\n")
    command = [sys.executable, "-c", POOL, str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", cwd=REPOSITORY
    ) as pool:
        assert pool.stdout is not None
        yield f"localhost:{pool.stdout.readline().strip()}"


@pytest.mark.parametrize("runner", ["embed", "flink"])
def test_a_pool_that_cannot_start_a_worker_fails_the_job_in_seconds(
    tmp_path: Path, arguments: tuple[str, ...], broken_pool: str, runner: str, request: pytest.FixtureRequest
) -> None:
    endpoint = "embed" if runner == "embed" else request.getfixturevalue("flink").said["job_endpoint"]
    pool = ("--environment_type", "EXTERNAL", "--environment_config", broken_pool)
    began = time.monotonic()
    done = run_apart(
        "--root",
        tmp_path / "root",
        *arguments,
        "--runner",
        "PortableRunner",
        "--job_endpoint",
        endpoint,
        *pool,
        timeout=PATIENCE,
    )
    assert time.monotonic() - began < (SOON if runner == "embed" else SOON_ON_FLINK)
    line = one_line(done)
    assert done.code == 1 and sys.executable in line and "no such library" in line


def test_a_pool_that_is_not_there_fails_a_job_on_flink_in_seconds(
    tmp_path: Path, arguments: tuple[str, ...], flink: FlinkCluster
) -> None:
    runner = ("--runner", "PortableRunner", "--job_endpoint", str(flink.said["job_endpoint"]))
    pool = ("--environment_type", "EXTERNAL", "--environment_config", "localhost:9")
    began = time.monotonic()
    done = run_apart("--root", tmp_path / "root", *arguments, *runner, *pool, timeout=PATIENCE)
    assert time.monotonic() - began < SOON_ON_FLINK
    assert done.code == 1 and "python -P -m pipelines.worker_pool --port 9" in one_line(done)

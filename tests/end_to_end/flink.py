"""A real Flink cluster, started and stopped by the scripts in deploy/flink."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import deadly
from tests.conftest import REPOSITORY, skip_or_fail
from tests.end_to_end.recording_encoder import FOLDER

SCRIPT = REPOSITORY / "deploy" / "flink" / "cluster.py"
QUICK_TO_START = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""Flags of Java for a cluster of minutes: half of its CPU went into compiling well what runs a few times."""

FREE_PORTS = ("--rest-port", "0", "--job-port", "0", "--pool-port", "0", "--rpc-port", "0")


@dataclass(frozen=True)
class FlinkCluster:
    """A cluster that runs.

    Attributes:
        run: its run folder.
        encoded: where a `RecordingEncoder` on it leaves its notes.
        said: what `cluster.py start` said last.
    """

    run: Path
    encoded: Path
    said: dict[str, Any]

    @property
    def pool(self) -> tuple[str, ...]:
        """The flags that name its worker pools."""
        return ("--environment_type", "EXTERNAL", "--environment_config", str(self.said["worker_pool"]))

    @property
    def job_server(self) -> tuple[str, ...]:
        """The flags of a job that goes there by way of its job server."""
        return ("--runner", "PortableRunner", "--job_endpoint", self.said["job_endpoint"], *self.pool)

    @property
    def uber_jar(self) -> tuple[str, ...]:
        """The flags of a job that brings Beam's jar along."""
        jar = ("--flink_submit_uber_jar", "--flink_job_server_jar", str(self.said["job_server_jar"]))
        cluster = ("--flink_version", str(self.said["flink_version"]), "--flink_master", str(self.said["rest"]))
        return ("--runner", "FlinkRunner", *cluster, *jar, *self.pool)

    def kill(self, part: str) -> None:
        """Kills a process of it, as a lost machine would be."""
        os.kill(self.said["processes"][part], signal.SIGKILL)

    def start_what_is_missing(self) -> "FlinkCluster":
        """Starts again what was killed."""
        return FlinkCluster(self.run, self.encoded, _started(self.run, self.encoded))


@contextmanager
def running_cluster(folder: Path, *arguments: str) -> Iterator[FlinkCluster]:
    """A cluster of its own while the block runs; the test is skipped where there can be none."""
    run, encoded = folder / "run", folder / "encoded"
    encoded.mkdir(parents=True)
    try:
        yield FlinkCluster(run, encoded, _started(run, encoded, *FREE_PORTS, *arguments))
    finally:
        _script("stop", "--run-dir", str(run))


def wait_for(what: str, happened: Any, seconds: float = 60) -> None:
    """Waits until something has happened."""
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, f"{what} did not happen within {seconds} s"
        time.sleep(0.05)


def _started(run: Path, encoded: Path, *arguments: str) -> dict[str, Any]:
    done = _script("start", "--run-dir", str(run), *arguments, encoded=encoded)
    if done.returncode:
        skip_or_fail("FLINK", done.stderr.strip())
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def _script(*words: str, encoded: Path | None = None) -> "subprocess.CompletedProcess[str]":
    path = os.pathsep.join([deadly.FOLDER, *filter(None, [os.environ.get("PYTHONPATH")])])  # its workers stay alive
    environment = {**os.environ, "PYTHONPATH": path, "JDK_JAVA_OPTIONS": QUICK_TO_START}
    if encoded:
        environment[FOLDER] = str(encoded)
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, encoding="utf-8", env=environment, check=False
    )

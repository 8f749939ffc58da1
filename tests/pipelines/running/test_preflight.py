"""What a runner elsewhere lacks is refused on one line that says how to get it, before anything is done."""

import http.server
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.running import preflight, runners
from pipelines.terminal import console
from transforms.errors import UsageError

FLINK = ("--runner", "FlinkRunner", "--flink_version", "1.19")
POOL = ("--environment_type", "EXTERNAL", "--environment_config", "localhost:50000")
JAR = "no/such.jar"


@pytest.fixture
def nobody() -> str:
    """An address at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def cluster() -> Iterator[str]:
    """What says of itself that it is Flink 1.19.3."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"flink-version": "1.19.3"}).encode())

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()


def refused(*flags: str) -> str:
    with pytest.raises(UsageError) as caught:
        runners.chosen(PipelineOptions(list(flags)), flags)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_flink_version_is_always_named() -> None:
    assert "--flink_version is missing" in refused("--runner", "FlinkRunner", "--flink_master", "localhost:8081")


@pytest.mark.parametrize("spelling", [("--flink_version", "1.19"), ("--flink_version=1.19",)])
def test_a_cluster_that_does_not_answer_is_named(nobody: str, spelling: tuple[str, ...]) -> None:
    said = refused("--runner", "FlinkRunner", *spelling, "--flink_master", nobody, *POOL)
    assert nobody in said and "deploy/flink/cluster.py" in said


@pytest.mark.parametrize("answer", [b"\x00\x00\x12\x04\x00", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"])
def test_what_answers_but_is_no_flink_is_none(answer: bytes) -> None:
    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(1 << 10)
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        said = refused(*FLINK, "--flink_master", f"127.0.0.1:{server.getsockname()[1]}", *POOL)
    assert "no Flink answers" in said


@pytest.mark.parametrize(
    "flags",
    [
        ("--dry_run=True",),
        ("--template_location", "gs://bucket/template"),
        ("--no_wait_until_finish",),
        ("--no_wait_until_finish", "--runner", "PrismRunner"),
        ("--no_wait_until_finish", "--runner", "PortableRunner", "--job_endpoint", "embed", *POOL),
        (
            "--no_wait_until_finish",
            "--runner",
            "PortableRunner",
            "--job_endpoint",
            "h:1",
            "--environment_type=LOOPBACK",
        ),
        ("--dry_run=True", "--runner", "PortableRunner", "--job_endpoint", "h:1", *POOL),
    ],
)
def test_a_job_that_would_end_with_its_command_is_waited_for(flags: tuple[str, ...]) -> None:
    assert flags[0].partition("=")[0] in refused(*flags)


def test_a_cluster_of_another_version_is_refused(cluster: str) -> None:
    said = refused("--runner", "FlinkRunner", "--flink_version", "1.20", "--flink_master", cluster, *POOL)
    assert "runs Flink 1.19.3" in said and "--flink_version" in said


def test_a_jar_that_is_not_there_is_named(cluster: str) -> None:
    said = refused(*FLINK, "--flink_master", cluster, "--flink_submit_uber_jar", "--flink_job_server_jar", JAR, *POOL)
    assert JAR in said and "deploy/flink/install.sh" in said


def test_a_missing_java_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said = refused(*FLINK)
    assert "java is not here" in said and "apt install" in said and "--job_endpoint" in said


def test_a_portable_runner_needs_an_endpoint() -> None:
    said = refused("--runner", "PortableRunner", *POOL)
    assert "--job_endpoint" in said and "deploy/flink/cluster.py" in said


def test_a_job_server_that_does_not_answer_is_named(nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_SECONDS", 0.5)
    assert nobody in refused("--runner", "PortableRunner", "--job_endpoint", nobody, *POOL)


def test_what_answers_but_is_no_job_server_is_none(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_SECONDS", 0.5)
    assert "not Flink's own port" in refused("--runner", "PortableRunner", "--job_endpoint", cluster, *POOL)


@pytest.mark.parametrize("runner", [("PortableRunner", "--job_endpoint", "embed"), ("FlinkRunner",)])
def test_workers_are_always_said(runner: tuple[str, ...], cluster: str) -> None:
    there = ("--flink_version", "1.19", "--flink_master", cluster) if runner == ("FlinkRunner",) else ()
    said = refused("--runner", *runner, *there)
    assert "--environment_type is missing" in said and "pipelines.worker_pool" in said and "deploy/Dockerfile" in said


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--environment_type", "EXTERNAL"), "--environment_config"),
        (("--environment_type", "KUBERNETES"), "EXTERNAL, DOCKER"),
    ],
)
def test_workers_that_are_half_said_are_refused(flags: tuple[str, ...], words: str) -> None:
    assert words in refused("--runner", "PortableRunner", "--job_endpoint", "embed", *flags)


def test_a_pool_that_is_not_there_is_named(nobody: str) -> None:
    flags = ("--environment_type", "external", "--environment_config", nobody)
    said = refused("--runner", "PortableRunner", "--job_endpoint", "embed", *flags)
    assert nobody in said and f"python -P -m pipelines.worker_pool --port {nobody.rpartition(':')[2]}" in said


def test_docker_that_does_not_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    image = ("--environment_type", "DOCKER", "--environment_config", "pixdex:1")
    said = refused("--runner", "PortableRunner", "--job_endpoint", "embed", *image)
    assert "Cannot connect" in said and "start Docker" in said


def test_prism_that_is_not_there_says_how_it_is_built() -> None:
    said = refused("--runner", "PrismRunner", "--prism_location", "no/prism")
    assert "no/prism" in said and "deploy/prism/install.sh" in said


def test_a_job_that_is_refused_leaves_no_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pipelines import build  # noqa: PLC0415 - the others need no torch

    code = build.main(["--root", str(tmp_path / "root"), "--images", str(tmp_path), "--runner", "FlinkRunner"])
    assert code == console.BAD_USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("pixdex: --flink_version is missing")
    assert not (tmp_path / "root").exists()


# --- what a runner gave up -----------------------------------------------------------------------------------------

JOB = "Pipeline job-1 failed in state FAILED: "


@pytest.mark.parametrize(
    ("why", "words"),
    [
        (
            "java.net.ConnectException: java.net.ConnectException: Connection refused",
            "no worker pool at localhost:50000",
        ),
        ("a.b.StatusRuntimeException: a.b.StatusRuntimeException: CANCELLED: client cancelled", "a worker died"),
        ("java.io.IOException: Received exit code 125 for command 'docker run -d", "mend Docker"),
        ("a.b.NoResourceAvailableException: Could not acquire the minimum required resources.", "no free slots"),
        ("a.b.JobExecutionException: Job execution failed.", "Job execution failed."),
    ],
)
def test_why_a_runner_gave_a_job_up_is_one_line(why: str, words: str) -> None:
    error = preflight.explained(RuntimeError(JOB + why), PipelineOptions(list(POOL)))
    assert error is not None and words in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("text", [JOB + "Traceback (most recent call last):\nValueError: a bug", "something else"])
def test_a_bug_keeps_its_traceback(text: str) -> None:
    assert preflight.explained(RuntimeError(text), PipelineOptions(list(POOL))) is None

"""A pool starts workers of its own Python, says at once when it cannot, and leaves none behind."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import psutil
import pytest
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc
from apache_beam.runners.portability.fn_api_runner.worker_handlers import ControlFuture

from pipelines import worker_pool
from pipelines.running import processes
from pipelines.running.worker_process import Worker
from pipelines.terminal import console
from tests.conftest import REPOSITORY
from transforms.errors import PixdexError


@pytest.fixture
def runner() -> Iterator[str]:
    """The address of what takes connections, as a runner does, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"localhost:{server.getsockname()[1]}"


@pytest.fixture
def pool() -> Iterator[beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub]:
    with worker_pool.serving(0) as port, grpc.insecure_channel(f"localhost:{port}") as channel:
        yield beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel)


def start_request(control: str, worker_id: str = "1-1") -> beam_fn_api_pb2.StartWorkerRequest:
    request = beam_fn_api_pb2.StartWorkerRequest(worker_id=worker_id)
    request.control_endpoint.url = request.logging_endpoint.url = control
    return request


def workers(of: int | None = None) -> list[psutil.Process]:
    children = psutil.Process(of).children()
    return [
        child
        for child in children
        if child.status() != psutil.STATUS_ZOMBIE and "pipelines.running.worker" in child.cmdline()
    ]


def wait_until_none(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=15)
    assert alive == []


def test_a_worker_runs_with_the_python_of_the_pool_whatever_the_path_says(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    runner: str,
    pool: beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pool.StartWorker(start_request(runner)).error == ""
    (started,) = workers()
    assert started.cmdline()[0] == sys.executable
    pool.StopWorker(beam_fn_api_pb2.StopWorkerRequest(worker_id="1-1"))
    assert workers() == []


def test_a_worker_that_dies_at_its_start_is_an_error_in_seconds(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    runner: str,
    pool: beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub,
) -> None:
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit('no such library')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    began = time.monotonic()
    error = pool.StartWorker(start_request(runner)).error
    assert time.monotonic() - began < 30
    raised = console.from_worker(RuntimeError(error))
    assert sys.executable in str(raised) and "no such library" in str(raised)
    assert workers() == []


def test_a_runner_that_cannot_be_reached_is_an_error(
    pool: beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = f"localhost:{server.getsockname()[1]}"
    assert f"cannot reach the runner at {nobody}" in pool.StartWorker(start_request(nobody)).error


def test_of_two_workers_of_one_id_the_one_whose_runner_has_gone_is_stopped(
    runner: str, pool: beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert pool.StartWorker(start_request(f"localhost:{server.getsockname()[1]}")).error == ""
        (goes,) = workers()
        assert pool.StartWorker(start_request(runner)).error == ""
    pool.StopWorker(beam_fn_api_pb2.StopWorkerRequest(worker_id="1-1"))
    (stays,) = workers()
    assert stays != goes


def test_a_worker_that_ended_before_its_stop_came_costs_no_other_of_its_id(
    runner: str, pool: beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert pool.StartWorker(start_request(f"localhost:{server.getsockname()[1]}")).error == ""
        (ends,) = workers()
        assert pool.StartWorker(start_request(runner)).error == ""
    ends.kill()
    wait_until_none([ends])
    (stays,) = workers()
    pool.StopWorker(beam_fn_api_pb2.StopWorkerRequest(worker_id="1-1"))
    assert workers() == [stays]
    pool.StopWorker(beam_fn_api_pb2.StopWorkerRequest(worker_id="1-1"))
    assert workers() == []


def test_every_stop_is_for_one_of_the_workers_whose_runners_have_gone(
    runner: str, pool: beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        for _ in range(2):
            assert pool.StartWorker(start_request(f"localhost:{server.getsockname()[1]}")).error == ""
        assert pool.StartWorker(start_request(runner)).error == ""
        (*_, stays) = sorted(workers(), key=lambda each: each.create_time())
    for _ in range(2):
        pool.StopWorker(beam_fn_api_pb2.StopWorkerRequest(worker_id="1-1"))
        assert workers() == [stays]


def test_workers_end_with_their_pool(runner: str) -> None:
    with worker_pool.serving(0) as port, grpc.insecure_channel(f"localhost:{port}") as channel:
        stub = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel)
        assert stub.StartWorker(start_request(runner)).error == ""
        started = workers()
        assert len(started) == 1
    wait_until_none(started)


def test_a_worker_that_lingers_without_its_connection_is_ended_and_that_is_said(runner: str) -> None:
    lingers = Worker("1-1", runner)
    lingers.wait_until_ready()
    said = "lost the connection to its runner, and was ended"
    assert lingers.lost(seconds=0.5) == said
    assert not lingers.alive
    assert lingers.lost() == said  # whoever asks


def test_a_worker_that_died_with_its_connection_says_how(runner: str) -> None:
    dies = Worker("1-1", runner)
    dies.wait_until_ready()
    os.kill(dies.pid, signal.SIGKILL)
    assert "was killed (SIGKILL" in dies.lost()
    dies.end()


def test_what_another_thread_has_answered_is_not_answered_again() -> None:
    asked: dict[str, ControlFuture] = {}
    ending = threading.Event()

    class Overtaken(ControlFuture):
        def set(self, response: Any) -> None:
            asked.clear()
            ending.set()
            super().set(response)

    asked.update(first=Overtaken("first"), second=ControlFuture("second"))
    handler: Any = object.__new__(processes.PoolHandler)
    handler.control_conn, handler._ending = SimpleNamespace(_futures_by_id=asked), ending
    first = asked["first"]
    handler._answer()
    assert "a worker is gone" in first.get(1).error


def test_a_worker_that_takes_too_long_is_not_said_to_lack_memory(runner: str) -> None:
    hangs = Worker("1-1", runner)
    os.kill(hangs.pid, signal.SIGSTOP)
    with pytest.raises(PixdexError, match=r"was not ready after 0\.5 s") as raised:
        hangs.wait_until_ready(0.5)
    assert "memory" not in str(raised.value)
    hangs.end()


def test_an_interrupt_is_the_pools_to_handle(runner: str, capfd: pytest.CaptureFixture[str]) -> None:
    started = Worker("1-1", runner)
    started.wait_until_ready()
    os.kill(started.pid, signal.SIGINT)
    time.sleep(1)
    assert started.alive
    started.end()
    started._relay.join(10)
    assert "Traceback" not in capfd.readouterr().err


def start_pool(
    *words: str, cwd: Path = REPOSITORY, flags: tuple[str, ...] = (), **variables: str
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *flags, "-m", "pipelines.worker_pool", *words],
        stderr=subprocess.PIPE,
        encoding="utf-8",
        cwd=cwd,
        env={**os.environ, **variables},
    )


def port_of(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    return process.stderr.readline().split(" with ")[0].rpartition(":")[2]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_a_pool_that_is_killed(runner: str, how: signal.Signals) -> None:
    process = start_pool("--port", "0")
    with grpc.insecure_channel(f"localhost:{port_of(process)}") as channel:
        stub = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel)
        assert stub.StartWorker(start_request(runner)).error == ""
    started = workers(process.pid)
    assert len(started) == 1
    process.send_signal(how)
    assert process.wait(20) == (-how if how == signal.SIGKILL else 0)
    wait_until_none(started)


@pytest.mark.parametrize(
    ("flags", "theirs"), [(("-P",), ("transforms.py", "pipelines.py")), ((), ("transforms.py",))], ids=["-P", "-m"]
)
def test_what_the_working_directory_holds_is_taken_for_no_package(
    tmp_path: Path, runner: str, flags: tuple[str, ...], theirs: tuple[str, ...]
) -> None:
    for name in theirs:
        (tmp_path / name).write_text("raise ImportError('theirs')\n")
    process = start_pool("--port", "0", cwd=tmp_path, flags=flags, PYTHONPATH=str(REPOSITORY))
    with grpc.insecure_channel(f"localhost:{port_of(process)}") as channel:
        stub = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel)
        assert stub.StartWorker(start_request(runner)).error == ""
    process.terminate()
    assert process.wait(20) == 0


def test_a_python_that_lacks_something_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')\n")
    process = start_pool("--port", "0", PYTHONPATH=str(tmp_path))
    _, said = process.communicate(timeout=60)
    assert process.returncode == console.BAD_USAGE
    (line,) = said.splitlines()
    assert sys.executable in line and "no torch here" in line


def test_a_pool_cannot_be_told_to_listen_to_a_network() -> None:
    process = start_pool("--port", "0", "--host", "127.0.0.1")
    try:
        assert process.wait(60) == console.BAD_USAGE
    finally:
        process.kill()


def test_a_port_that_is_taken_is_named() -> None:
    with worker_pool.serving(0) as port:
        process = start_pool("--port", str(port))
        _, said = process.communicate(timeout=60)
    assert process.returncode == console.BAD_USAGE
    (line,) = said.splitlines()
    assert f"localhost:{port} cannot be had" in line and "--port names another" in line

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


@pytest.fixture
def idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where workers, not the pool, find a Beam that does nothing: a real one takes seconds to import, and as little."""
    folder = tmp_path / "idle"
    package = folder / "apache_beam" / "runners" / "worker"
    package.mkdir(parents=True)
    for each in (package, *package.parents[:2]):
        (each / "__init__.py").touch()  # without, the installed package would come first
    (package / "sdk_worker_main.py").write_text(
        "import threading\n\ndef main(argv: list[str]) -> None:\n    threading.Event().wait()\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(REPOSITORY)]))
    return folder


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


@pytest.mark.usefixtures("idle")
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


@pytest.mark.usefixtures("idle")
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


@pytest.mark.usefixtures("idle")
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


@pytest.mark.usefixtures("idle")
def test_workers_end_with_their_pool(runner: str) -> None:
    with worker_pool.serving(0) as port, grpc.insecure_channel(f"localhost:{port}") as channel:
        stub = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel)
        assert stub.StartWorker(start_request(runner)).error == ""
        started = workers()
        assert len(started) == 1
    wait_until_none(started)


@pytest.mark.usefixtures("idle")
def test_a_worker_that_lingers_without_its_connection_is_ended_and_that_is_said(runner: str) -> None:
    lingers = Worker("1-1", runner)
    lingers.wait_until_ready()
    said = "lost the connection to its runner, and was ended"
    assert lingers.lost(seconds=0.5) == said
    assert not lingers.alive
    assert lingers.lost() == said  # whoever asks


@pytest.mark.usefixtures("idle")
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


@pytest.mark.usefixtures("idle")
def test_an_interrupt_is_the_pools_to_handle(runner: str, capfd: pytest.CaptureFixture[str]) -> None:
    started = Worker("1-1", runner)
    started.wait_until_ready()
    os.kill(started.pid, signal.SIGINT)
    time.sleep(1)
    assert started.alive
    started.end()
    started._relay.join(10)
    assert "Traceback" not in capfd.readouterr().err


# --- as a process of its own -----------------------------------------------------------------------------------------


def port_of(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    return process.stderr.readline().split(" with ")[0].rpartition(":")[2]


OF_IDLE_WORKERS = """
import os, sys
from pipelines import worker_pool
os.environ["PYTHONPATH"] = sys.argv[1]
worker_pool.check_python = lambda: None
sys.exit(worker_pool.main(["--port", "0"]))
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_a_pool_that_is_killed(
    runner: str, idle: Path, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    of_workers = os.environ["PYTHONPATH"]
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    command = [sys.executable, "-c", OF_IDLE_WORKERS, of_workers]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8")
    with grpc.insecure_channel(f"localhost:{port_of(process)}") as channel:
        stub = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel)
        assert stub.StartWorker(start_request(runner)).error == ""
    started = workers(process.pid)
    assert len(started) == 1
    process.send_signal(how)
    assert process.wait(120) == (-how if how == signal.SIGKILL else 0)
    wait_until_none(started)


@pytest.mark.gate
def test_what_the_working_directory_holds_is_taken_for_no_package(tmp_path: Path, runner: str) -> None:
    for name in ("transforms.py", "pipelines.py"):
        (tmp_path / name).write_text("raise ImportError('theirs')\n")
    command = [sys.executable, "-P", "-m", "pipelines.worker_pool", "--port", "0"]
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8", cwd=tmp_path, env=variables)
    with grpc.insecure_channel(f"localhost:{port_of(process)}") as channel:
        stub = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel)
        assert stub.StartWorker(start_request(runner)).error == ""
    process.terminate()
    assert process.wait(120) == 0


# --- what a pool refuses ---------------------------------------------------------------------------------------------


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a pool changes in its process is as it was before, when the test ends."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.gate
@pytest.mark.usefixtures("here")
def test_a_python_that_lacks_something_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(REPOSITORY)]))
    assert worker_pool.main(["--port", "0"]) == console.BAD_USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert sys.executable in line and "no torch here" in line


@pytest.mark.usefixtures("here")
def test_a_pool_cannot_be_told_to_listen_to_a_network() -> None:
    assert worker_pool.main(["--port", "0", "--host", "127.0.0.1"]) == console.BAD_USAGE


@pytest.mark.usefixtures("here")
def test_a_port_that_is_taken_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(worker_pool, "check_python", lambda: None)  # which the test above is about
    with worker_pool.serving(0) as port:
        assert worker_pool.main(["--port", str(port)]) == console.BAD_USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert f"localhost:{port} cannot be had" in line and "--port names another" in line

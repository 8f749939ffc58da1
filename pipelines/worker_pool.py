"""Starts the workers of this machine for a Flink cluster, or any runner that is told --environment_type=EXTERNAL.

One beside each TaskManager, before the first job:

    python -m pipelines.worker_pool --port 50000

and jobs find it with

    pixdex build … --environment_type EXTERNAL --environment_config localhost:50000

A pool is asked for workers by the runner and starts each as a process of this very Python. It refuses to start when
that Python cannot import what workers need, and says to the runner when a worker died before it was ready, or cannot
reach the runner: the job fails in seconds, where it would wait for a worker that never comes. A worker ends with its
pool, even if the pool is killed. Whoever can reach the port can have code run here, so it listens on localhost only.
"""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import IO, NoReturn

import grpc
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc, endpoints_pb2
from google.protobuf import text_format

from pipelines.running import worker
from pipelines.terminal import console, flags
from transforms.errors import PixdexError, UsageError

_HOST = "localhost"
"""Where the TaskManager is too: no flag opens the port to a network."""

_SECONDS_TO_IMPORT = 120.0
"""Longer than a cold start from a slow disk takes; a worker that hangs is as bad as one that died."""

_SECONDS_TO_REACH = 10.0
_SECONDS_TO_END = 10.0
_LAST_LINES = 20
_STARTS_AT_ONCE = 64


class Worker:
    """A worker's process and what it last said."""

    def __init__(self, worker_id: str, control: str, logging: str = "", options: str = "") -> None:
        """Starts it.

        Args:
            worker_id: the runner's name of it.
            control: the runner's address for its work.
            logging: and that for its log; "": its log is what it says on standard error.
            options: of the pipeline, as JSON.
        """
        self.worker_id = worker_id
        self.control = control
        variables = {
            "WORKER_ID": worker_id,
            "CONTROL_API_SERVICE_DESCRIPTOR": _descriptor(control),
            **({"LOGGING_API_SERVICE_DESCRIPTOR": _descriptor(logging)} if logging else {}),
            **({"PIPELINE_OPTIONS": options} if options else {}),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.running.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **variables},
        )
        self._lingered = False
        self._said: deque[str] = deque(maxlen=_LAST_LINES)
        self._relay = threading.Thread(target=self._relay_stderr, name=f"worker {worker_id}", daemon=True)
        self._relay.start()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Tells whether it runs."""
        return self._process.poll() is None

    def wait_until_ready(self, seconds: float = _SECONDS_TO_IMPORT) -> None:
        """Waits until it has imported what it needs.

        Raises:
            PixdexError: it died before, or took too long.
        """
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(seconds, give_up)
        timer.start()
        try:
            with _pipe(self._process.stdout) as stdout:
                said = stdout.read()
        finally:
            timer.cancel()
        if said == worker.READY and not late.is_set():
            return
        code = self._process.wait()
        self._relay.join(_SECONDS_TO_END)
        last = next((line for line in reversed(self._said) if line.strip()), "it said nothing")
        how = f"was not ready after {seconds:g} s" if late.is_set() else f"{_ended(code)} before it was ready"
        raise PixdexError(
            f"no worker can be started on {socket.gethostname()}: {sys.executable} {how} ({last.strip()}); "
            "mend that Python, or use another"
        )

    def end(self) -> None:
        """Ends it, by force if it does not obey, and lets go of what an ended one still holds."""
        if self.alive:
            self._process.terminate()
            try:
                self._process.wait(_SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        _pipe(self._process.stdin).close()

    def wait(self) -> str:
        """Waits for its end and returns how it ended."""
        return _ended(self._process.wait())

    def lost(self, seconds: float = _SECONDS_TO_END) -> str:
        """Returns how it ended, when the connection to it has ended; one that lingers is ended."""
        try:
            self._process.wait(seconds)  # a connection ends a little before its process
        except subprocess.TimeoutExpired:
            self._lingered = True
            self.end()
        return "lost the connection to its runner, and was ended" if self._lingered else self.wait()

    def _relay_stderr(self) -> None:
        with _pipe(self._process.stderr) as stderr:
            for line in stderr:
                text = line.decode(errors="replace").rstrip()
                self._said.append(text)
                console.say(text)


class WorkerPool(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):
    """Starts and stops workers as a runner asks for them.

    Ids of workers begin anew with every TaskManager and every job, so that two workers may have one id. A request to
    stop it does not say which is meant, but a runner closes its own end first: the one whose runner is gone is. It may
    have ended by itself when the request comes, and is kept until then: every request is for one worker.
    """

    def __init__(self) -> None:
        """Holds none yet."""
        self._changed = threading.Lock()
        self._workers: defaultdict[str, list[Worker]] = defaultdict(list)

    def StartWorker(  # noqa: N802 - gRPC's name
        self, request: beam_fn_api_pb2.StartWorkerRequest, context: grpc.ServicerContext
    ) -> beam_fn_api_pb2.StartWorkerResponse:
        """Answers when the worker is ready, or with what is wrong."""
        try:
            self._start(request)
        except (PixdexError, OSError) as error:
            console.say(f"worker {request.worker_id}: {error}")
            return beam_fn_api_pb2.StartWorkerResponse(error=spelled(error))
        return beam_fn_api_pb2.StartWorkerResponse()

    def StopWorker(  # noqa: N802 - gRPC's name
        self, request: beam_fn_api_pb2.StopWorkerRequest, context: grpc.ServicerContext
    ) -> beam_fn_api_pb2.StopWorkerResponse:
        """Ends the worker of this id."""
        with self._changed:
            found = list(self._workers[request.worker_id])
        gone = [each for each in found if not each.alive or not _reachable(each.control)]
        if len(found) == 1:
            gone = found
        for each in gone:
            each.end()
        with self._changed:
            those = self._workers[request.worker_id]
            if meant := [each for each in gone if each in those]:
                those.remove(meant[0])  # the others are for the requests that will come for them
        return beam_fn_api_pb2.StopWorkerResponse()

    def end(self) -> None:
        """Ends all workers."""
        with self._changed:
            workers = [each for those in self._workers.values() for each in those]
            self._workers.clear()
        for each in workers:
            each.end()

    def _start(self, request: beam_fn_api_pb2.StartWorkerRequest) -> None:
        control = request.control_endpoint.url
        _reach(control)
        started = Worker(request.worker_id, control, request.logging_endpoint.url)
        with self._changed:
            self._workers[request.worker_id].append(started)
        try:
            started.wait_until_ready()
        except PixdexError:
            self._forget(started)  # no runner asks to stop what it has not got
            raise
        console.say(f"worker {started.worker_id} is process {started.pid}, for the runner at {control}")
        threading.Thread(target=self._watch, args=(started,), daemon=True).start()

    def _watch(self, started: Worker) -> None:
        ended = started.wait()
        started.end()
        console.say(f"worker {started.worker_id}, process {started.pid}, {ended}")

    def _forget(self, ended: Worker) -> None:
        with self._changed:
            those = self._workers[ended.worker_id]
            if ended in those:
                those.remove(ended)


def spelled(error: object) -> str:
    """Spells an error as a worker's Python does, which is what a job looks for in what its runner says."""
    return f"{PixdexError.__module__}.{PixdexError.__name__}: {error}"


@contextlib.contextmanager
def serving(port: int) -> Iterator[int]:
    """A pool that serves while the block runs; gives its port, which is a free one for port 0.

    Raises:
        UsageError: the port is taken.
    """
    taken = UsageError(f"{_HOST}:{port} cannot be had: is a pool running there? --port names another")
    with contextlib.suppress(OSError), socket.create_connection((_HOST, port), _SECONDS_TO_REACH):
        raise taken  # gRPC would say so, too, with more words
    pool = WorkerPool()
    patient = [("grpc.http2.max_pings_without_data", 0), ("grpc.http2.max_ping_strikes", 0)]
    alone = [("grpc.so_reuseport", 0)]  # a second pool on one port would get half of the requests
    server = grpc.server(ThreadPoolExecutor(_STARTS_AT_ONCE, "pool"), options=[*alone, *patient])
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    try:
        bound = server.add_insecure_port(f"{_HOST}:{port}")
    except RuntimeError as error:
        raise taken from error
    server.start()
    try:
        yield bound
    finally:
        server.stop(0)
        pool.end()


def check_python() -> None:
    """Refuses a Python whose workers would die.

    Raises:
        UsageError: with what cannot be imported.
    """
    code = "import importlib\n" + "\n".join(f"importlib.import_module({name!r})" for name in worker.NEEDED)
    tried = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False)
    if tried.returncode:
        last = (tried.stderr.strip().splitlines() or [f"it {_ended(tried.returncode)}"])[-1]
        raise UsageError(
            f"{sys.executable} cannot import what workers need ({last}): start the pool with the Python that pixdex is "
            "installed for"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a pool until it is stopped; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: _serve(arguments))


def _serve(argv: Sequence[str]) -> int:
    options = _options(argv)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // options.workers)))
    check_python()
    signal.signal(signal.SIGTERM, _interrupt)
    with serving(options.port) as port:
        console.say(f"worker pool at {_HOST}:{port} with {sys.executable}")
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
    return console.DONE


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see python -m pipelines.worker_pool --help")


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="python -m pipelines.worker_pool",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    flags.add(parser, "--port", type=int, required=True, help="where a runner asks for workers; 0 takes a free one")
    flags.add(
        parser,
        "--workers",
        type=flags.positive,
        default=1,
        help="how many it will hold at once, a job's --sdk_worker_parallelism: they share the cores (default 1)",
    )
    return parser.parse_args(argv)


def _reach(url: str) -> None:
    """Sees whether a worker could reach its runner: it would try for ever."""
    host, _, port = url.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_REACH).close()
    except (OSError, ValueError) as error:
        raise PixdexError(
            f"the worker pool on {socket.gethostname()} cannot reach the runner at {url} ({error}): a pool runs on the "
            "machine, and in the network, of the TaskManager that asks it"
        ) from error


def _reachable(url: str) -> bool:
    try:
        _reach(url)
    except PixdexError:
        return False
    return True


def _descriptor(url: str) -> str:
    text: str = text_format.MessageToString(endpoints_pb2.ApiServiceDescriptor(url=url))
    return text


def _ended(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        memory = ", which is how a machine without memory ends a process" if -code == signal.SIGKILL else ""
        return f"was killed ({name}{memory})"
    return f"ended with exit code {code}"


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # each is one, by how the process is started
    return stream


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())

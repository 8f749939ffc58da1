"""Starts the workers of this machine for a Flink cluster, or any runner that is told --environment_type=EXTERNAL.

One beside each TaskManager, before the first job:

    python -P -m pipelines.worker_pool --port 50000

and jobs find it with

    pixdex build … --environment_type EXTERNAL --environment_config localhost:50000

A pool is asked for workers by the runner and starts each as a process of this very Python. It refuses to start when
that Python cannot import what workers need, and says to the runner when a worker died before it was ready, or cannot
reach the runner: the job fails in seconds, where it would wait for a worker that never comes. A worker ends with its
pool, even if the pool is killed.

There is no password: whoever can open a connection to the port can have code run here, as the user of the pool. So it
listens on localhost only, and is worth the trust that every user and every process of this machine, or pod, is worth:
give it a machine, a container or a pod of its own, and a user that may do no more than the root and the sources need.
"""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc

from pipelines.running import worker
from pipelines.running.worker_process import Worker, how_it_ended, spelled
from pipelines.terminal import command_line, console, flags, process
from transforms import interpreter
from transforms.errors import PixdexError, UsageError

_HOST = "localhost"
"""Where the TaskManager is too: no flag opens the port to a network."""

_SECONDS_TO_REACH = 10.0
_SECONDS_TO_NOTICE = 0.5
_STARTS_AT_ONCE = 64


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
            namesakes = list(self._workers[request.worker_id])
        gone = [each for each in namesakes if not each.alive or not _reachable(each.control)]
        if len(namesakes) == 1:
            gone = namesakes
        for each in gone:
            each.end()
        with self._changed:
            kept = self._workers[request.worker_id]
            if meant := [each for each in gone if each in kept]:
                kept.remove(meant[0])  # the others are for the requests that will come for them
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
    command, variables = interpreter.command("-c", code), interpreter.environment()
    tried = subprocess.run(command, env=variables, capture_output=True, encoding="utf-8", check=False)
    if tried.returncode:
        last = (tried.stderr.strip().splitlines() or [f"it {how_it_ended(tried.returncode)}"])[-1]
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
    stopped = threading.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, lambda number, frame: stopped.set())
    with serving(options.port) as port:
        console.say(f"worker pool at {_HOST}:{port} with {sys.executable}")
        while not stopped.wait(_SECONDS_TO_NOTICE):  # a signal that another thread gets wakes none that waits for ever
            pass
    return console.DONE


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = command_line.Parser(
        prog="python -P -m pipelines.worker_pool",
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


if __name__ == "__main__":
    process.run(main)

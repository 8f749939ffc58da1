"""Workers of Beam's in-process runner that are processes of their own, here or in a worker pool of this machine.

Beam's own processes (`--direct_running_mode=multi_processing`) are started by a command line that a space in the path
of this Python breaks, and when a worker dies, a job waits for it for ever. These are started as those of a worker pool
are, and the death of one is an error that says how it died. Nobody else can reach what they are sent (`loopback`).
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, Final

from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_fn_api_pb2, beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import worker_handlers
from apache_beam.transforms import environments
from google.protobuf import json_format

from pipelines.running import loopback
from pipelines.running.worker_process import Worker, spelled
from transforms.errors import PixdexError

_URN: Final = "pixdex:env:process:v1"
_SECONDS_BETWEEN_LOOKS: Final = 0.5

loopback.keep(worker_handlers)


@environments.Environment.register_urn(_URN, bytes)
class ProcessEnvironment(environments.Environment):
    """Says to Beam's in-process runner that its workers are processes of this Python."""

    def __init__(self) -> None:
        """All of them are alike."""
        super().__init__(environments.python_sdk_capabilities(), ())

    def to_runner_api_parameter(self, context: object) -> tuple[str, bytes]:
        """What a graph says of it."""
        return _URN, b""

    @staticmethod
    def from_runner_api_parameter(*parameter: object) -> "ProcessEnvironment":
        """The opposite."""
        return ProcessEnvironment()


class _Watched(worker_handlers.GrpcWorkerHandler):
    """A worker whose end is seen: whatever waits for it, or asks it later, gets an error that says how it ended."""

    def __init__(self, *of_grpc: Any) -> None:
        super().__init__(*of_grpc)
        self._ending = threading.Event()
        # Beam's thread dies of what this one understands.
        self.control_conn._read_thread = threading.Thread(target=self._read, name="beam_control_read", daemon=True)
        data: Any = self.data_conn
        self._take_elements, self._read_data = data.input_elements, data._read_inputs
        data.input_elements, data._read_inputs = self._elements, self._data

    def close(self) -> None:
        self._ending.set()
        super().close()

    def _fate(self) -> str:
        """How the worker ended, which it has, or the connection to it."""
        return "a worker is gone: the log of its pool says how it ended"

    def _error(self) -> PixdexError:
        return PixdexError(f"{self._fate()}; run the same command again to go on from here")

    def _read(self) -> None:
        try:
            self.control_conn._read()
        except Exception:  # noqa: BLE001 - gRPC raises this very class when the other side is gone
            self._answer()

    def _data(self, sent: Iterator[Any]) -> None:
        # The channel is closed then, which whoever waits for elements sees.
        with contextlib.suppress(Exception):
            self._read_data(sent)

    def _elements(self, *which: Any, **how: Any) -> Iterator[Any]:
        try:
            yield from self._take_elements(*which, **how)
        except RuntimeError as error:  # the channel is closed
            raise self._error() from error

    def _answer(self) -> None:
        """Answers everything that the worker is asked, for as long as anything asks."""
        error = spelled(self._error())

        def refuse(request: Any) -> worker_handlers.ControlFuture | None:
            if request is worker_handlers.BeamFnControlServicer._DONE_MARKER:
                connection._push_queue.put(request)
                return None
            return worker_handlers.ControlFuture(request.instruction_id, _failed(request.instruction_id, error))

        connection: Any = self.control_conn
        connection.push = refuse
        while not self._ending.wait(_SECONDS_BETWEEN_LOOKS):  # what was being asked at that moment comes a little later
            for name in list(connection._futures_by_id):
                future = connection._futures_by_id.pop(name, None)
                if future is not None:  # or another thread that saw the end has answered it
                    future.set(_failed(name, error))


@worker_handlers.WorkerHandler.register_environment(_URN, bytes)
class ProcessHandler(_Watched):
    """Starts a process for the runner, and ends it."""

    def __init__(self, payload: bytes, *of_grpc: Any) -> None:
        """Takes what Beam gives a handler."""
        super().__init__(*of_grpc)
        self._worker: Worker | None = None

    def start_worker(self) -> None:
        """Starts the process, and waits until it is ready.

        Raises:
            PixdexError: it died before.
        """
        options = json_format.MessageToJson(self.provision_info.provision_info.pipeline_options)
        self._worker = Worker(self.worker_id, self.control_address, options=options)
        self._worker.wait_until_ready()
        threading.Thread(target=self._watch, daemon=True).start()

    def stop_worker(self) -> None:
        """Ends the process."""
        self._ending.set()
        if self._worker is not None:
            self._worker.end()

    def _watch(self) -> None:
        """Sees an end before there is a connection, too."""
        if self._worker is not None:
            self._worker.wait()
        if not self._ending.is_set():
            self._answer()

    def _fate(self) -> str:
        assert self._worker is not None  # or nothing could have ended
        return f"a worker, process {self._worker.pid}, {self._worker.lost()}"


@worker_handlers.WorkerHandler.register_environment(
    common_urns.environments.EXTERNAL.urn, beam_runner_api_pb2.ExternalPayload
)
class PoolHandler(_Watched, worker_handlers.ExternalWorkerHandler):
    """Has a pool start the worker; a pool is on this machine, and so it is told of no other address."""

    def host_from_worker(self) -> str:
        """Where a worker finds the runner."""
        return "localhost"


def _failed(instruction: str, error: str) -> beam_fn_api_pb2.InstructionResponse:
    return beam_fn_api_pb2.InstructionResponse(instruction_id=instruction, error=error)

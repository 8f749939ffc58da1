"""The process of one worker, as its parent sees it: how it is started, whether it is ready, and how it ended.

It is the Python of its parent, and a line on its standard output says that it has imported what it needs.
"""

import itertools
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from typing import IO, Final

from apache_beam.portability.api import endpoints_pb2
from google.protobuf import text_format

from pipelines.running import worker
from pipelines.terminal import console
from transforms import interpreter
from transforms.errors import PixdexError

_SECONDS_TO_IMPORT: Final = 120.0
"""Longer than a cold start from a slow disk takes; a worker that hangs is as bad as one that died."""

_SECONDS_TO_END: Final = 10.0
_LAST_LINES: Final = 20


class Worker:
    """A worker's process and what it last said."""

    _numbers = itertools.count()

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
            interpreter.WORKER_NUMBER: str(next(self._numbers)),
            "CONTROL_API_SERVICE_DESCRIPTOR": _descriptor(control),
            **({"LOGGING_API_SERVICE_DESCRIPTOR": _descriptor(logging)} if logging else {}),
            **({"PIPELINE_OPTIONS": options} if options else {}),
        }
        self._process = subprocess.Popen(
            interpreter.command("-m", "pipelines.running.worker"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=interpreter.environment() | variables,
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
        how = f"was not ready after {seconds:g} s" if late.is_set() else f"{how_it_ended(code)} before it was ready"
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
        return how_it_ended(self._process.wait())

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


def spelled(error: object) -> str:
    """Spells an error as a worker's Python does, which is what a job looks for in what its runner says."""
    return f"{PixdexError.__module__}.{PixdexError.__name__}: {error}"


def how_it_ended(code: int) -> str:
    """Says in words what the exit code of a process means."""
    if code < 0:
        name = signal.Signals(-code).name
        memory = ", which is how a machine without memory ends a process" if -code == signal.SIGKILL else ""
        return f"was killed ({name}{memory})"
    return f"ended with exit code {code}"


def _descriptor(url: str) -> str:
    text: str = text_format.MessageToString(endpoints_pb2.ApiServiceDescriptor(url=url))
    return text


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # each is one, by how the process is started
    return stream

"""`pixdex serve` as a person runs it: a process that says where it listens."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.transforms.serving.server import wait_for


@dataclass(frozen=True)
class ServerProcess:
    """A server that runs: its address, and its process."""

    url: str
    process: subprocess.Popen[str]

    def ended(self, number: signal.Signals) -> int:
        """Its exit code, when a signal has ended it."""
        self.process.send_signal(number)
        return self.process.wait(60)


@contextlib.contextmanager
def served(root: Path, *words: str) -> Iterator[ServerProcess]:
    """Serves a root while the block lasts, at a port that is free."""
    argv = [sys.executable, "-m", "pipelines", "serve", "--root", str(root), "--port", "0", *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment, cwd=root, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()  # flushed when it listens
            assert line, f"it ended with {process.wait(30)}"
            yield ServerProcess(json.loads(line)["url"], process)
        finally:
            process.kill()
            wait_for(lambda: process.poll() is not None)

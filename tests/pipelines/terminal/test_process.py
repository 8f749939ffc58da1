"""A command ends with its exit code, once what was registered for the exit is done, whatever its threads still hold."""

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

RUN = "from pipelines.terminal import process\nprocess.run(main)\n"

HELD_FOR_EVER = """
import threading, time

class Held:
    lock = threading.Lock()

    def __del__(self):
        self.lock.acquire()

def main():
    kept = Held()
    kept.lock.acquire()
    main.kept = kept
    print("the last line")
    return 1
"""


def ended(script: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", script + RUN]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY, timeout=60)


def test_a_lock_that_is_never_given_back_keeps_no_command() -> None:
    done = ended(HELD_FOR_EVER)
    assert (done.returncode, done.stdout, done.stderr) == (1, "the last line\n", "")


def test_what_is_registered_for_the_exit_is_done() -> None:
    done = ended("import atexit\ndef main():\n    atexit.register(print, 'put away')\n    return print('done') or 0\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\nput away\n", "")


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("return 2", 2, ""),
        ("raise SystemExit", 0, ""),
        ("raise SystemExit(3)", 3, ""),
        ("raise SystemExit('not today')", 1, "not today"),
        ("raise KeyboardInterrupt", 130, "KeyboardInterrupt"),
        ("raise KeyError('x')", 1, "KeyError: 'x'"),
    ],
)
def test_the_exit_code_is_that_of_the_command(body: str, code: int, said: str) -> None:
    done = ended(f"def main():\n    {body}\n")
    assert done.returncode == code
    assert done.stderr.rstrip().endswith(said)

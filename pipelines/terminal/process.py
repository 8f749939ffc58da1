"""The process of a command: it ends when the command has said its last word, whatever libraries still do in it."""

import atexit
import os
import sys
import threading
from collections.abc import Callable
from typing import Final, NoReturn

from pipelines.terminal import console
from transforms import freed_memory

_IS_OF_A_COMMAND: Final = threading.Event()


def is_of_a_command() -> bool:
    """Tells whether this process is one command and nothing else, before it and behind it."""
    return _IS_OF_A_COMMAND.is_set()


def run(main: Callable[[], int]) -> NoReturn:
    """Runs a command as the whole of this process, and ends the process with its exit code.

    Python would take its interpreter down first, which stops daemon threads, as gRPC and other libraries have them,
    wherever they are: a lock that one of them holds is never given back, and a command whose last line is out may stay
    for ever. So what is registered for the exit from here on is done, threads that are no daemons are waited for, and
    the rest is left to the machine.
    """
    code = console.FAILED
    freed_memory.share()
    _IS_OF_A_COMMAND.set()

    def end() -> None:
        for stream in (sys.stdout, sys.stderr):
            try:
                if stream is not None:
                    stream.flush()
            except (OSError, ValueError):  # nobody reads it, or it is closed
                pass
        os._exit(code)

    atexit.register(end)  # before any library registers something, so that it comes last
    try:
        code = main()
    except SystemExit as error:  # of argparse, and as Python has it: no code is success, words are a failure
        code = error.code if isinstance(error.code, int) else console.FAILED if error.code else console.DONE
        raise
    except KeyboardInterrupt:  # while modules are imported
        code = console.INTERRUPTED
        raise
    sys.exit(code)

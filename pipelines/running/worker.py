"""One Beam worker of a pool: `pipelines.worker_pool` starts it, hears when it is ready, and it ends with its pool.

Standard output is the word that it is ready, and what is printed later goes to standard error; standard input is the
life line: nothing is read from it, and its end is the end of the pool, killed or not.
"""

import os
import signal
import sys
import threading

from pipelines.terminal import console
from transforms import freed_memory

READY = b"ready"

NEEDED = ("apache_beam.runners.worker.sdk_worker_main", "faiss", "torch", "pipelines.running.launch")
"""What an interpreter must be able to import to do the work of every job."""


def _end_with_the_pool() -> None:
    while os.read(0, 1 << 10):
        pass
    os._exit(1)  # whatever the other threads wait for, nobody wants it any more


def main() -> None:
    """Works for the runner that the environment names, until it says that this is enough."""
    freed_memory.share()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the pool too, which ends this when it will
    ready = os.dup(1)
    os.dup2(2, 1)
    threading.Thread(target=_end_with_the_pool, name="life line", daemon=True).start()

    from apache_beam.runners.worker import sdk_worker_main  # noqa: PLC0415 - what goes wrong here is the pool's to tell

    if "LOGGING_API_SERVICE_DESCRIPTOR" not in os.environ:
        console.log_warnings()
    os.write(ready, READY)
    os.close(ready)
    sdk_worker_main.main(sys.argv)


if __name__ == "__main__":
    main()

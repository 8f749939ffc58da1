"""Memory that a thread freed is the next thread's, in a process that shares it."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from transforms import freed_memory

glibc = pytest.mark.skipif(freed_memory._SET is None, reason="only glibc keeps what was freed")

MIB = 1 << 20
TAKEN_BY_TURNS = """
import os, sys, threading
from types import SimpleNamespace
from pipelines.terminal import process
from transforms import freed_memory

def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def behind_a_thread():
    thread = threading.Thread(target=lambda: bytearray(b"1") * (64 << 20))
    thread.start()
    thread.join()
    return held()

def main(argv=()):
    seen = held(), behind_a_thread(), behind_a_thread()
    freed_memory.give_back()
    print(*seen, held(), file=said, flush=True)
    return 0

said = os.fdopen(os.dup(1), "w")  # a worker's own standard output is its pool's
if sys.argv[1] == "command":
    process.run(main)
if sys.argv[1] == "worker":
    from pipelines.running import worker
    for name in ("apache_beam", "apache_beam.runners", "apache_beam.runners.worker"):
        sys.modules[name] = SimpleNamespace(sdk_worker_main=SimpleNamespace(main=main))
    worker.main()
    sys.exit()
freed_memory.share()
main()
"""


def held(way: str = "itself", **variables: str) -> list[int]:
    """Bytes that a process holds before, between and behind two threads of 64 MiB each, and once it gave them back."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(freed_memory._CHOSEN)}
    life_line, end = os.pipe()
    try:
        ended = subprocess.run(
            [sys.executable, "-c", TAKEN_BY_TURNS, way],
            env=environment | variables,
            stdin=life_line,
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        os.close(life_line)
        os.close(end)
    return [int(word) for word in ended.stdout.removeprefix("ready").split()]


@glibc
@pytest.mark.parametrize("way", ["itself", "command", "worker"])
def test_what_a_thread_freed_another_takes(way: str) -> None:
    before, between, behind, given_back = held(way)
    assert between - before > 48 * MIB and behind - between < 16 * MIB
    assert behind - given_back > 48 * MIB


@glibc
def test_whoever_says_how_memory_is_kept_is_heard() -> None:
    before, between, behind, _ = held(MALLOC_MMAP_THRESHOLD_=str(MIB))
    assert max(between, behind) - before < 16 * MIB


def said_with(monkeypatch: pytest.MonkeyPatch, accepted: Callable[[int, int], bool]) -> list[tuple[int, int]]:
    said = []

    def tell(option: int, value: int) -> int:
        said.append((option, value))
        return int(accepted(option, value))

    monkeypatch.setattr(freed_memory, "_SET", tell)
    freed_memory.share()
    return said


@pytest.mark.parametrize("name", ["GLIBC_TUNABLES", "MALLOC_ARENA_MAX", "MALLOC_TOP_PAD_", "MALLOC_TRIM_THRESHOLD_"])
def test_any_variable_of_the_library_is_left_to_speak_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "99")
    assert said_with(monkeypatch, lambda *_: True) == []


def test_a_library_that_keeps_less_keeps_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(freed_memory._CHOSEN)]:
        monkeypatch.delenv(name)
    threshold = freed_memory._MMAP_THRESHOLD
    said = said_with(monkeypatch, lambda option, value: option != threshold or value <= 32 * MIB)
    assert [value for option, value in said if option == threshold] == [256 * MIB, 32 * MIB] and len(said) == 4
    refused = said_with(monkeypatch, lambda option, _: option != threshold)
    assert [option for option, _ in refused] == [threshold, threshold]


def test_where_there_is_no_such_library_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freed_memory, "_SET", None)
    monkeypatch.setattr(freed_memory, "_TRIM", None)
    freed_memory.share()
    freed_memory.give_back()

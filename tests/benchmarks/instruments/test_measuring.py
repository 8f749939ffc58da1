"""What a command took is what it took."""

import sys
from pathlib import Path

import pytest

from tests.benchmarks.instruments import measuring

MEGABYTE = 1 << 20
_ALLOCATE = "import time; data = bytearray(b'x') * ({megabytes} << 20); time.sleep(0.6)"
_TWO_CHILDREN = (
    "import subprocess, sys; code = sys.argv[1];"
    "both = [subprocess.Popen([sys.executable, '-c', code]) for _ in range(2)]; [child.wait() for child in both]"
)


def _python(*words: str) -> list[str]:
    return [sys.executable, "-c", *words]


def test_the_memory_of_all_processes_below_counts(tmp_path: Path) -> None:
    one = measuring.run(_python(_ALLOCATE.format(megabytes=60)), tmp_path / "log")
    two = measuring.run(_python(_TWO_CHILDREN, _ALLOCATE.format(megabytes=60)), tmp_path / "log")
    assert 60 * MEGABYTE < one.peak_anonymous < 100 * MEGABYTE
    assert 120 * MEGABYTE < two.peak_anonymous < 180 * MEGABYTE


def test_mapped_files_do_not_count(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(bytes(60 * MEGABYTE))
    code = (
        "import mmap, sys, time; file = open(sys.argv[1], 'rb');"
        "view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ); sum(view[::4096]); time.sleep(0.3)"
    )
    assert measuring.run(_python(code, str(big)), tmp_path / "log").peak_anonymous < 40 * MEGABYTE


def test_seconds_are_those_of_the_clock_and_cpu_seconds_those_of_the_work(tmp_path: Path) -> None:
    slept = measuring.run(_python("import time; time.sleep(0.5)"), tmp_path / "log")
    assert slept.seconds >= 0.5
    assert slept.cpu_seconds < 0.4


def test_the_last_line_of_output_is_read_as_json(tmp_path: Path) -> None:
    code = "import sys; print('words'); print('{\"seconds\": 2}'); print('progress', file=sys.stderr)"
    assert measuring.run(_python(code), tmp_path / "log").last_json() == {"seconds": 2}


def test_a_failed_command_ends_the_benchmark_with_its_last_lines(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="out of ideas"):
        measuring.run(_python("raise RuntimeError('out of ideas')"), tmp_path / "log")


def test_figures_of_a_peer_are_remembered_only_with_the_file_they_belong_to(tmp_path: Path) -> None:
    figures, index = tmp_path / "figures.json", tmp_path / "index"
    runs = [measuring.Measured(1.5, 2.5, 3, 0.5, "{}")]
    measuring.remember(figures, runs)
    assert measuring.remembered(figures, index) == []
    index.touch()
    assert measuring.remembered(figures, index) == runs

"""Many pictures decoded at once: in memory that is known, quietly, and as each would be alone."""

import io
import os
import struct
import subprocess
import sys
import textwrap
import threading
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import REPOSITORY
from tests.transforms.pictures.drawn import ODD, drawn, encoded, needs_odd
from transforms.pictures.decode import decode


def memory_growth(body: str) -> float:
    """Peak resident memory that a program adds, in bytes, from its line `start()` on."""
    program = textwrap.dedent("""
        import io, re, sys
        from concurrent.futures import ThreadPoolExecutor
        from pathlib import Path
        from PIL import Image
        from transforms.pictures.budget import DecodeBudget
        from transforms.pictures.decode import decode
        def peak():
            return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
    """)
    program += textwrap.dedent(body) + "\nprint(peak() - before)\n"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": "."},
        cwd=REPOSITORY,
    )
    assert done.stderr == ""
    return float(done.stdout)


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads peak memory from /proc")


@linux
def test_huge_pictures_that_come_together_stay_within_the_budget(tmp_path: Path) -> None:
    Image.new("RGBA", (4000, 4000), (10, 200, 30, 128)).save(tmp_path / "huge.png", compress_level=1)

    growth = memory_growth(f"""
        data = Path({str(tmp_path / "huge.png")!r}).read_bytes()
        budget = DecodeBudget(max_bytes=130 << 20)  # two of 61 MiB
        before = peak()
        with ThreadPoolExecutor(8) as pool:
            sizes = set(pool.map(lambda _: decode(data, target=224, budget=budget).size, range(8)))
        assert sizes == {{(500, 500)}}, sizes
    """)

    assert growth < 300 << 20  # eight at once would be 500


@linux
def test_a_huge_jpeg_is_never_in_memory_at_full_size(tmp_path: Path) -> None:
    Image.new("RGB", (8000, 8000), "teal").save(tmp_path / "huge.jpg")

    growth = memory_growth(f"""
        data = Path({str(tmp_path / "huge.jpg")!r}).read_bytes()
        before = peak()
        decode(data, target=224)
    """)

    assert growth < 40 << 20  # 244 MiB in full


@needs_odd
@linux
def test_every_odd_file_passes_a_pool_of_threads_quietly_quickly_and_in_little_memory() -> None:
    growth = memory_growth(f"""
        import time, warnings
        warnings.simplefilter("error")
        files = sorted(file for file in Path({str(ODD)!r}).rglob("*") if file.is_file())
        budget = DecodeBudget()
        def attempt(file):
            started = time.thread_time()
            try:
                decode(file.read_bytes(), target=224, budget=budget)
                decoded = True
            except Exception:
                decoded = False
            assert time.thread_time() - started < 5, file
            return decoded
        before = peak()
        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(attempt, files)) > 300
    """)

    assert growth < 300 << 20


@pytest.mark.parametrize("attempts", [200])
def test_threads_decode_what_one_thread_decodes(attempts: int) -> None:
    files = [encoded(drawn(200 + size, 100), name) for size in range(5) for name in ("JPEG", "PNG", "GIF", "WEBP")]
    expected = [decode(file, target=30).tobytes() for file in files]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda n: decode(files[n % len(files)], target=30).tobytes(), range(attempts)))

    assert results == [expected[n % len(files)] for n in range(attempts)]


def test_pillows_warnings_neither_show_nor_raise() -> None:
    plain = encoded(drawn(), "PNG")
    control = b"acTL" + bytes(8)  # an animation of no frames, at which Pillow warns
    chunk = struct.pack(">I", 8) + control + struct.pack(">I", zlib.crc32(control))
    data = plain[:33] + chunk + plain[33:]
    with pytest.warns(UserWarning, match="Invalid APNG"):
        Image.open(io.BytesIO(data))
    outcomes: list[str] = []

    def attempt(work: Callable[[], object]) -> None:
        try:
            work()
            outcomes.append("fine")
        except Warning as warning:
            outcomes.append(repr(warning))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        threads = [threading.Thread(target=attempt, args=(lambda: decode(data),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with pytest.raises(UserWarning, match="ours"):  # everyone else's still do
            warnings.warn("ours", UserWarning, stacklevel=1)

    assert outcomes == ["fine"] * 4

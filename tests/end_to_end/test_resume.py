"""A build that is killed at any moment and run again gives the same bytes as one that was never stopped.

The quick round takes one of the moments, the gate three. All of them, and random ones, take some minutes:

    pytest -m slow tests/end_to_end/test_resume.py
"""

import gzip
import json
import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tests.corpora import write_pictures
from tests.end_to_end import dying
from tests.end_to_end.builds import EVERYTHING, TINY, content, leftovers, start, wait, write_corpus
from tests.end_to_end.dying import When
from tests.tiers import mostly_gate
from tests.transforms.sources.row_sources import tar_of
from transforms.storage.store import Store


@dataclass(frozen=True)
class Clean:
    """A build that nothing disturbed: its command without the root, its files, and how often it changed the root."""

    argv: tuple[object, ...]
    content: dict[str, str]
    calls: int
    seconds: float


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Clean:
    folder = tmp_path_factory.mktemp("corpus")
    csv = write_corpus(folder, 30)
    tables = write_tables(folder, csv)
    broken = write_pictures(folder / "more", 12, seed=1)
    broken[3].write_bytes(b"no picture")
    argv = ("--csv", csv, *tables, "--images", folder / "more", *EVERYTHING, *TINY, "--index-key", "IVF4,Flat")
    dying.run(["--root", folder / "warm", *argv], folder)
    started = time.monotonic()
    code, calls = dying.run(["--root", folder / "root", *argv], folder)
    assert code == 0 and calls > 100
    found = content(folder / "root")
    assert content(folder / "warm") == found
    return Clean(argv, found, calls, time.monotonic() - started)


def write_tables(folder: Path, csv: Path) -> tuple[object, ...]:
    """Writes the first rows of a CSV as JSON Lines, compressed, with their pictures as parquet and tar, and as URLs."""
    table = pa.csv.read_csv(csv).slice(0, 8)
    lines = "\n".join([*map(json.dumps, table.to_pylist()), ""])
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
    pictures = pa.array([(folder / name).read_bytes() for name in table["image"].to_pylist()])
    inside = table.set_column(table.schema.get_field_index("image"), "image", pictures)
    pq.write_table(inside, folder / "rows.parquet", row_group_size=3)
    members: dict[str, bytes] = {}
    for number, row in enumerate(inside.to_pylist()):
        members |= {f"{number}.png": row.pop("image"), f"{number}.json": json.dumps(row).encode()}
    (folder / "rows.tar").write_bytes(tar_of(members))
    urls = pa.array([f"file://{folder / name}" for name in table["image"].to_pylist()])
    pq.write_table(table.set_column(table.schema.get_field_index("image"), "image", urls), folder / "urls.parquet")
    tables = ("--jsonl", folder / "*.jsonl.{gz,zst}", "--parquet", folder / "rows.parquet")
    return (*tables, "--tars", folder / "rows.tar", "--urls", folder / "urls.parquet")


def finish(clean: Clean, folder: Path) -> None:
    """Runs the command to its end and compares every file that the generation needs."""
    code, _ = dying.run(["--root", folder / "root", *clean.argv], folder)
    assert code == 0
    assert content(folder / "root") == clean.content
    assert leftovers(folder / "root") == []


def spread(clean: Clean, rounds: int) -> list[int]:
    """Returns call numbers all over a build, other ones for another number of rounds."""
    return [1 + number * (clean.calls - 1) // (rounds - 1) for number in range(rounds)]


MOMENTS: list[tuple[int, When]] = [(1, "before"), (2, "after"), (5, "before")]
"""Of six, spread over a build."""


@pytest.mark.parametrize(("number", "when"), mostly_gate(MOMENTS, quick=[(2, "after")]))
def test_killed_at_a_change_of_the_root(clean: Clean, tmp_path: Path, number: int, when: When) -> None:
    code, _ = dying.run(["--root", tmp_path / "root", *clean.argv], tmp_path, spread(clean, 6)[number], when)
    assert code in (0, -signal.SIGKILL)
    finish(clean, tmp_path)


@pytest.mark.gate
def test_killed_again_and_again(clean: Clean, tmp_path: Path) -> None:
    deaths = 0
    for _ in range(4):
        code, _ = dying.run(["--root", tmp_path / "root", *clean.argv], tmp_path, clean.calls // 4, "before")
        deaths += code != 0
    assert deaths >= 3
    finish(clean, tmp_path)


@pytest.mark.gate
def test_killed_after_some_time(clean: Clean, tmp_path: Path) -> None:
    dying.run(["--root", tmp_path / "root", *clean.argv], tmp_path, after_seconds=0.8 * clean.seconds)
    finish(clean, tmp_path)


@pytest.mark.gate
def test_a_process_group_killed_from_outside(tmp_path: Path) -> None:
    csv = write_corpus(tmp_path, 20)
    argv = ("--csv", csv, *EVERYTHING, *TINY)
    assert wait(start("--root", tmp_path / "clean", *argv)).code == 0
    process = start("--root", tmp_path / "root", *argv)
    plan = tmp_path / "root" / "plans" / "000001" / "plan.json"
    while not plan.exists() and process.poll() is None:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    assert wait(process).code == -signal.SIGKILL
    again = wait(start("--root", tmp_path / "root", *argv))
    assert again.code == 0 and "going on" in again.err[0]
    assert content(tmp_path / "root") == content(tmp_path / "clean")


@pytest.mark.gate
def test_what_a_dead_build_left_in_its_scratch_is_swept_even_when_there_is_nothing_to_do(
    clean: Clean, tmp_path: Path
) -> None:
    finish(clean, tmp_path)
    left = None
    for call in range(clean.calls // 3, clean.calls // 3 + 10):  # at one of these it has something there
        other = tmp_path / f"other{call}"
        code, _ = dying.run(["--root", other, *clean.argv], tmp_path, call, "before")
        assert code == -signal.SIGKILL
        if (left := next((other / ".scratch").iterdir(), None)) is not None:
            break
    assert left is not None
    left.rename(tmp_path / "root" / ".scratch" / left.name)
    assert leftovers(tmp_path / "root") != []
    finish(clean, tmp_path)


def test_the_scratch_of_a_living_process_is_spared(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path))
    with store.scratch() as mine:
        store.sweep_scratch()
        assert mine.is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_change_of_the_root(clean: Clean, tmp_path: Path, when: When) -> None:
    for number in range(1, clean.calls + 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        dying.run(["--root", folder / "root", *clean.argv], folder, number, when)
        finish(clean, folder)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60))
def test_killed_at_random_times_again_and_again(clean: Clean, tmp_path: Path, seed: int) -> None:
    generator = random.Random(seed)
    for _ in range(generator.randrange(1, 4)):
        seconds = generator.random() * clean.seconds
        dying.run(["--root", tmp_path / "root", *clean.argv], tmp_path, after_seconds=seconds)
    finish(clean, tmp_path)

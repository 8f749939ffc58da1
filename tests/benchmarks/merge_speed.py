"""Times the merge of many shard indexes into one file against a plain copy of as many bytes.

    python tests/benchmarks/merge_speed.py --rows 60000000 --inputs 128 --folder DIR [--output RESULT.json]

Makes shard indexes with random codes below DIR (72 bytes a row at the default `--code-size 64`, and twice that much
while it runs), then alternates `cp --reflink=never` of the same bytes and the merge, both until the bytes are on disk,
`--repeats` times. The merge runs in a process of its own, whose anonymous memory is sampled from outside; it imports
neither torch nor faiss. Everything below DIR is deleted afterwards.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from transforms.index.list_file import ListFile
from transforms.index.list_format import ID_BYTES
from transforms.index.list_writer import write_lists
from transforms.index.range_merge import StepBuffers, merge_range, plan_pieces
from transforms.merging import PIECE_BYTES

FINGERPRINT = "ab" * 32
SAMPLE_SECONDS = 0.02


@dataclass(frozen=True)
class Round:
    """One copy and the merge after it: wall and CPU seconds, and peak anonymous memory of the merge in MB."""

    copy_seconds: float
    copy_cpu_seconds: float
    merge_seconds: float
    merge_cpu_seconds: float
    merge_anonymous_mb: float

    @property
    def ratio(self) -> float:
        """Speed of the merge, as a part of that of the copy."""
        return self.copy_seconds / self.merge_seconds


def write_inputs(folder: Path, rows: int, inputs: int, nlist: int, code_size: int) -> list[Path]:
    """Writes shard indexes of about equal numbers of rows over lists of unequal sizes; the ids are consecutive."""
    generator = np.random.default_rng(0)
    share = generator.lognormal(0, 0.7, nlist)
    files, edges = [], np.linspace(0, rows, inputs + 1).astype(np.int64)
    for number, (first, stop) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        files.append(folder / f"block-{number:05d}.ivf")
        with files[-1].open("wb") as out:
            write_lists(
                out,
                list_nos=generator.choice(nlist, stop - first, p=share / share.sum()),
                codes=generator.integers(0, 256, (stop - first, code_size), np.uint8),
                ids=np.arange(first, stop),
                nlist=nlist,
                fingerprint=FINGERPRINT,
            )
            os.fsync(out.fileno())
    return files


def merge(inputs: Sequence[Path], target: Path) -> None:
    """What a worker does with every piece of a merge, all pieces one after the other."""
    with contextlib.ExitStack() as stack:
        files = [ListFile(stack.enter_context(path.open("rb", buffering=0)), path.name) for path in inputs]
        buffers = StepBuffers()
        with target.open("wb") as out:
            for piece in plan_pieces(files, PIECE_BYTES):
                merge_range(files, piece, out, buffers=buffers)
                out.flush()
                os.fsync(out.fileno())
    found = {"torch", "faiss"} & set(sys.modules)
    assert not found, f"the merge imported {found}"


def copied(source: Path, target: Path) -> tuple[float, float]:
    """Wall and CPU seconds of a copy that is on disk."""
    started, used = time.perf_counter(), os.times()
    subprocess.run(["cp", "--reflink=never", str(source), str(target)], check=True)
    with target.open("rb") as copy:
        os.fsync(copy.fileno())
    return time.perf_counter() - started, _cpu(used)


def merged(inputs: Sequence[Path], target: Path) -> tuple[float, float, float]:
    """Wall and CPU seconds of the merge in another process, its start included, and its peak anonymous MB."""
    started, used, peak = time.perf_counter(), os.times(), 0
    argv = [sys.executable, __file__, "--merge-into", str(target), *map(str, inputs)]
    with subprocess.Popen(argv, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}) as process:
        while process.poll() is None:
            with contextlib.suppress(OSError, IndexError):
                status = Path(f"/proc/{process.pid}/status").read_text()
                peak = max(peak, int(status.split("RssAnon:")[1].split()[0]))
            time.sleep(SAMPLE_SECONDS)
    if process.returncode:
        raise SystemExit(f"the merge ended with {process.returncode}")
    return time.perf_counter() - started, _cpu(used), peak * 1024 / 1e6


def measure(folder: Path, rows: int, inputs: int, nlist: int, code_size: int, repeats: int) -> list[Round]:
    """Makes the inputs and times the rounds."""
    files = write_inputs(folder, rows, inputs, nlist, code_size)
    plain, target = folder / "plain", folder / "target"
    merged(files, plain)
    if plain.stat().st_size != rows * (code_size + ID_BYTES):
        raise SystemExit(f"the merge made {plain.stat().st_size} bytes")
    rounds = []
    for _ in range(repeats):
        copy = copied(plain, target)
        target.unlink()
        merge_ = merged(files, target)
        target.unlink()
        rounds.append(Round(*copy, *merge_))
        print(
            f"copy {copy[0]:6.2f} s (CPU {copy[1]:5.2f})   merge {merge_[0]:6.2f} s (CPU {merge_[1]:5.2f})   "
            f"ratio {rounds[-1].ratio:.2f}   anonymous {merge_[2]:.0f} MB",
            flush=True,
        )
    return rounds


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000_000)
    parser.add_argument("--inputs", type=int, default=128)
    parser.add_argument("--nlist", type=int, default=16_384)
    parser.add_argument("--code-size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the data goes (default: the temporary folder)")
    parser.add_argument("--output", type=Path, help="file for the figures, as JSON")
    own = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=own.folder, prefix="merge-speed-") as folder:
        size = own.rows * (own.code_size + ID_BYTES) / 1e9
        print(f"{own.rows:,} rows, {size:.2f} GB, {own.inputs} inputs, {own.nlist} lists")
        rounds = measure(Path(folder), own.rows, own.inputs, own.nlist, own.code_size, own.repeats)
    if own.output:
        figures = {
            "rows": own.rows,
            "inputs": own.inputs,
            "nlist": own.nlist,
            "code_size": own.code_size,
            "rounds": [asdict(one) | {"ratio": one.ratio} for one in rounds],
        }
        own.output.write_text(json.dumps(figures, indent=1) + "\n")


def _cpu(since: os.times_result) -> float:
    now = os.times()
    return sum(now[:4]) - sum(since[:4])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--merge-into"]:
        merge([Path(name) for name in sys.argv[3:]], Path(sys.argv[2]))
    else:
        main()

"""Times the merge of many shard indexes into one file against a plain copy of as many bytes.

    python tests/benchmarks/merge_speed.py --rows 60000000 --inputs 128 --folder DIR [--output RESULT.json]

Makes shard indexes with random codes below DIR (72 bytes a row at the default `--code-size 64`, and twice that much
while it runs), then alternates `cp --reflink=never` of the same bytes and the merge, each a process from its start to
its end, which comes when the bytes are on disk, `--repeats` times. The first merge is not timed: every byte of it is
compared with lists put together one by one. Everything below DIR is deleted afterwards.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transforms.index.lists.format import ID_BYTES
from transforms.index.lists.reader import ListFile
from transforms.index.lists.writer import write_lists

# Python looks for modules beside a script that is called by its path, and there only.
sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.benchmarks.instruments import measuring, report
from tests.benchmarks.instruments.measuring import Measured

FINGERPRINT = "ab" * 32
SAMPLE_SECONDS = 0.02
LISTS_AT_ONCE = 256
COPY = 'cp --reflink=never "$0" "$1" && sync "$1"'


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


def merged_lists(inputs: Sequence[Path], nlist: int, code_size: int) -> Iterator[tuple[int, bytes]]:
    """Puts every list together by itself, in the plainest way: its codes in all inputs, then its ids in all inputs."""
    for first in range(0, nlist, LISTS_AT_ONCE):
        lists = range(first, min(first + LISTS_AT_ONCE, nlist))
        codes: list[list[bytes]] = [[] for _ in lists]
        ids: list[list[bytes]] = [[] for _ in lists]
        for path in inputs:
            with path.open("rb") as stream:
                part = ListFile(stream, path.name).read(lists)
            data, offset = part.body.tobytes(), 0
            for number, size in zip(part.stored.list_nos.tolist(), part.stored.sizes.tolist(), strict=True):
                middle, end = offset + size * code_size, offset + size * (code_size + ID_BYTES)
                codes[number - first].append(data[offset:middle])
                ids[number - first].append(data[middle:end])
                offset = end
        for number in lists:
            yield number, b"".join([*codes[number - first], *ids[number - first]])


def check(inputs: Sequence[Path], merged: Path, rows: int, nlist: int, code_size: int) -> None:
    """Compares a merged file with what its inputs hold.

    Raises:
        SystemExit: it has another size, or another byte.
    """
    if merged.stat().st_size != rows * (code_size + ID_BYTES):
        raise SystemExit(f"the merge made {merged.stat().st_size} bytes of {rows} rows")
    with merged.open("rb") as stream:
        for number, expected in merged_lists(inputs, nlist, code_size):
            if stream.read(len(expected)) != expected:
                raise SystemExit(f"the merge made another list {number} than its inputs have")


def measure(
    folder: Path, rows: int, inputs: int, nlist: int, code_size: int, repeats: int
) -> tuple[list[Measured], list[Measured]]:
    """Makes the inputs, checks one merge, and times copies and merges in turn."""
    files = write_inputs(folder, rows, inputs, nlist, code_size)
    plain, target, log = folder / "plain", folder / "target", folder / "log"
    merge = [sys.executable, "-m", "tests.benchmarks.merge_child"]
    measuring.run([*merge, str(plain), *map(str, files)], log)
    check(files, plain, rows, nlist, code_size)
    copies, merges = [], []
    for number in range(repeats):
        copies.append(measuring.run(["sh", "-c", COPY, str(plain), str(target)], log, SAMPLE_SECONDS))
        target.unlink()
        merges.append(measuring.run([*merge, str(target), *map(str, files)], log, SAMPLE_SECONDS))
        if target.stat().st_size != plain.stat().st_size:
            raise SystemExit(f"the merge made {target.stat().st_size} bytes, the first time {plain.stat().st_size}")
        target.unlink()
        measuring.say(f"round {number + 1} of {repeats}: {copies[-1].seconds:.2f} s, {merges[-1].seconds:.2f} s")
    return copies, merges


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
    machine = measuring.machine()
    with tempfile.TemporaryDirectory(dir=own.folder, prefix="merge-speed-") as folder:
        copies, merges = measure(Path(folder), own.rows, own.inputs, own.nlist, own.code_size, own.repeats)
    copy, merge = report.cost(copies), report.cost(merges)
    found: dict[str, Any] = {
        "machine": machine,
        "rows": own.rows,
        "inputs": own.inputs,
        "nlist": own.nlist,
        "code_size": own.code_size,
        "copy": copy,
        "merge": merge,
        "ratio": report.ratio(copy["seconds"], merge["seconds"]),
    }
    report.write(own.output, found)
    print(f"{own.rows:,} rows, {own.rows * (own.code_size + ID_BYTES) / 1e9:.2f} GB, {own.inputs} inputs")
    print(
        report.table(
            ["until on disk", "seconds", "CPU seconds", "peak anonymous MB"],
            [
                [name, side["seconds"], side["cpu_seconds"], side["peak_anonymous_bytes"] / 1e6]
                for name, side in (("copy", copy), ("merge", merge))
            ],
        )
    )
    print(f"the merge is {found['ratio']:.2f} times as fast as a copy")


if __name__ == "__main__":
    main()

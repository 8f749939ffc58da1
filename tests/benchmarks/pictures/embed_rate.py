"""How near the embed stage comes to what its encoder, and its decoders, could do with nothing else to do.

    python -m tests.benchmarks.pictures.embed_rate --encoder ViT-B-32|demo [--pictures N] [--size 500x375] [--rounds 3]
        [--workers 1] [--output FILE.json]

Draws JPEG files like photographs and embeds them with `pixdex embed`, by turns with what limits it: a bare loop that
encodes batches of preprocessed pictures in memory, by as many threads as the job's encoder has; and processes that
decode and preprocess the same files, one a core, and do nothing else. Rates are pictures a second: of the job over the
seconds of its shards (by `--workers`, from the first shard to the end of the last). The start of the command is not in
them; what an encoder imports with its first picture, of the demo open_clip, is in those of the first shard.
`ViT-B-32` has random weights. Some minutes on two cores.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import PIL.Image
import torch

from tests.benchmarks.instruments import measuring, report
from tests.benchmarks.instruments.measuring import say
from tests.benchmarks.pictures.preprocessing import photograph
from transforms import encoders
from transforms.markers import ShardMarker
from transforms.runs import beginning
from transforms.storage.store import Store
from transforms.tasks.embed.limits import ItemLimits
from transforms.tasks.embed.load_picture import Progress, Way, load_picture, target_side

LIMITS = {"ViT-B-32": ("of the encoder", 0.95), "demo": ("of decoding", 0.8)}
PICTURES = {"ViT-B-32": 384, "demo": 6000}
DIFFERENT = 64
"""Files that are drawn; the others are copies, each with a comment of its own in its place."""

BATCH = 64


def spec_of(name: str, folder: Path) -> str:
    """The shipped encoder, or a model of open_clip whose random weights are kept in a file."""
    if name == "demo":
        return name
    import open_clip  # noqa: PLC0415 - seconds
    from safetensors.torch import save_file  # noqa: PLC0415 - likewise

    torch.manual_seed(0)
    file = folder / "weights.safetensors"
    save_file(open_clip.create_model(name, pretrained=None).state_dict(), file)
    return f"open_clip:{name}@{file}"


def draw(folder: Path, size: str, count: int) -> list[Path]:
    """Writes so many files, of which no two are the same bytes."""
    folder.mkdir()
    width, height = map(int, size.split("x"))
    rng = np.random.default_rng(0)
    drawn = [photograph(width, height, 1, rng) for _ in range(min(count, DIFFERENT))]
    files = []
    for number in range(count):
        data, comment = drawn[number % DIFFERENT], f"{number:08d}".encode()
        files.append(folder / f"{number:06d}.jpg")
        files[-1].write_bytes(data[:2] + b"\xff\xfe\x00\x0a" + comment + data[2:])
    return files


def encoder_rate(spec: str, count: int, threads: int) -> float:
    """Pictures a second of a bare loop over tensors in memory."""
    encoder = encoders.load(spec, device="cpu")
    shape = encoder.preprocess(PIL.Image.new("RGB", (8, 8))).shape
    batches = np.random.default_rng(0).standard_normal((2, BATCH, *shape), np.float32)
    torch.set_num_threads(threads)
    encoder.encode_images(batches[0])
    started, rounds = time.monotonic(), -(-count // BATCH)
    for number in range(rounds):
        encoder.encode_images(batches[number % 2])
    return rounds * BATCH / (time.monotonic() - started)


def decode_all(spec: str, files: Sequence[Path]) -> tuple[float, float]:
    """Decodes and preprocesses files, one after the other; returns when it began and when it ended."""
    torch.set_num_threads(1)
    encoder = encoders.load(spec, device="cpu")
    way = Way(encoder, "crop", target_side(encoder), 179_000_000, ItemLimits())
    load_picture(files[0].as_uri(), way, Progress())
    started = time.monotonic()
    for file in files:
        load_picture(file.as_uri(), way, Progress())
    return started, time.monotonic()


def decoder_rate(spec: str, files: Sequence[Path], processes: int) -> float:
    """Pictures a second that processes decode, one a core."""
    parts = [files[start::processes] for start in range(processes)]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        spans = list(pool.map(decode_all, [spec] * processes, parts))
    return sum(len(part) / (ended - started) for part, (started, ended) in zip(parts, spans, strict=True))


def job_rate(spec: str, pictures: Path, work: Path, workers: int, threads: int) -> tuple[float, int]:
    """Pictures a second of the embed stage, and the most memory of the job in bytes."""
    root = work / "root"
    shutil.rmtree(root, ignore_errors=True)
    words = ("--root", str(root), "--images", str(pictures), "--encoder", spec, "--workers", str(workers))
    measured = measuring.run(
        [sys.executable, "-m", "pipelines", "embed", *words, "--encoder-threads", str(threads), "--no-progress"],
        work / "job.log",
    )
    run = beginning.unfinished(Store.at(str(root)))
    assert run is not None
    shards: list[ShardMarker] = run.shards()
    spans = [(shard.spent.began, shard.spent.began + shard.seconds) for shard in shards if shard.spent]
    seconds = max(end for _, end in spans) - min(start for start, _ in spans)
    return sum(shard.items - shard.rejected for shard in shards) / seconds, measured.peak_anonymous


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", choices=PICTURES, default="demo")
    parser.add_argument("--pictures", type=int)
    parser.add_argument("--size", default="500x375")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    own = parser.parse_args(argv)
    count, cores = own.pictures or PICTURES[own.encoder], os.cpu_count() or 1
    threads = max(1, min(4, cores // own.workers))
    rates: dict[str, list[float]] = {"job": [], "encoder alone": [], "decoding alone": []}
    memory = 0
    with tempfile.TemporaryDirectory(prefix="embed-rate-") as temporary:
        work = Path(temporary)
        spec = spec_of(own.encoder, work)
        files = draw(work / "pictures", own.size, count)
        for _ in range(own.rounds):
            rate, peak = job_rate(spec, work / "pictures", work, own.workers, threads)
            memory = max(memory, peak)
            rates["job"].append(rate)
            rates["encoder alone"].append(encoder_rate(spec, min(count, 40 * BATCH), threads))
            rates["decoding alone"].append(decoder_rate(spec, files, cores))
            say(", ".join(f"{name} {found[-1]:.1f}" for name, found in rates.items()))
    medians = {name: statistics.median(found) for name, found in rates.items()}
    found = {
        "machine": measuring.machine(),
        "encoder": own.encoder,
        "size": own.size,
        "pictures": count,
        "workers": own.workers,
        "a_second": medians,
        "of the encoder": report.ratio(medians["job"], medians["encoder alone"]),
        "of decoding": report.ratio(medians["job"], medians["decoding alone"]),
        "limit": LIMITS[own.encoder],
        "memory": memory,
    }
    report.write(own.output, found)
    rows = [[own.encoder, own.size, *(f"{rate:.1f}" for rate in medians.values()), found["of the encoder"]]]
    rows[0] += [found["of decoding"], f"{memory >> 20} MiB"]
    headings = [
        "encoder",
        "size",
        *(f"{name}, a second" for name in medians),
        "of the encoder",
        "of decoding",
        "memory",
    ]
    print(report.table(headings, rows))


if __name__ == "__main__":
    main()

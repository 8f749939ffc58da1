"""How long decoding and preprocessing of a JPEG takes, beside the way of before, and how far vectors differ from then.

    python -m tests.benchmarks.pictures.preprocessing [--sizes 500x375,1600x1200,2560x1920,4000x3000] [--grain 1]
        [--encoders ViT-B-32,demo] [--pictures 4] [--rounds 15] [--seed 0] [--output FILE.json]

Draws pictures like photographs: smooth noise at all scales, the larger the stronger, and grain of so many of 255. Each
is decoded and preprocessed by turns in three ways: as before (tiles copied one by one, resized by Pillow), with the
preprocessing of before and the decoding of today, which roots of before have, and as today. Medians of CPU milliseconds
of one picture; all that a way computes counts, in whatever thread. `ViT-B-32` has random weights. Half a minute.
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray

from tests.benchmarks.instruments import measuring, report
from tests.benchmarks.instruments.vector_folder import unit
from transforms.encoders import Encoder, HasEarlier, TakesPixels, load
from transforms.pictures.decode import decode_pixels
from transforms.tasks.embed.limits import FETCH_THREADS
from transforms.tasks.embed.load_picture import target_side

LIMIT_SMALL, LIMIT_LARGE, LIMIT_COSINE = 2.3, 1.5, 0.9999
SIZES: Final = ((500, 375), (1600, 1200), (2560, 1920), (4000, 3000))
WAYS: Final = ("before", "roots of before", "today")
_TILE: Final = 256

Pixels = NDArray[np.float32]


def photograph(width: int, height: int, grain: float, rng: np.random.Generator) -> bytes:
    """A JPEG of quality 85: noise at scales of 2, 4, 8 … pixels, each twice as strong as the one before, and grain."""
    values = np.zeros((height, width, 3), np.float32)
    scale = 2
    while scale < min(width, height):
        noise = rng.standard_normal((height // scale + 2, width // scale + 2, 3), np.float32)
        noise = noise * 0.4 + noise.mean(axis=2, keepdims=True) * 1.5  # colours differ less than light does
        for channel in range(3):
            smooth = PIL.Image.fromarray(noise[:, :, channel]).resize((width, height), PIL.Image.Resampling.BICUBIC)
            values[:, :, channel] += np.asarray(smooth) * scale
        scale *= 2
    values = (values - values.mean()) * (50 / values.std()) + 120
    values += rng.standard_normal((height, width, 1), np.float32) * grain
    file = io.BytesIO()
    PIL.Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()


def decoded_before(data: bytes, target: int) -> PIL.Image.Image:
    """What `decode` made of a JPEG before, and how, without its checks: the pixels are the same."""
    image = PIL.Image.open(io.BytesIO(data))
    factor = max(1, min(image.size) // (2 * target))
    scale = next(scale for scale in (8, 4, 2, 1) if scale <= factor)
    if scale > 1:
        image.draft(None, (max(1, image.width // scale), max(1, image.height // scale)))
    image.load()
    factor = max(1, min(image.size) // (2 * target))
    result = PIL.Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    side = max(factor, _TILE // factor * factor)
    for top in range(0, image.height, side):
        for left in range(0, image.width, side):
            tile = image.crop((left, top, min(left + side, image.width), min(top + side, image.height)))
            result.paste(tile.reduce(factor) if factor > 1 else tile, (left // factor, top // factor))
    return result


def opened(name: str) -> Encoder:
    """The shipped encoder, or a model of open_clip with random weights."""
    if name == "demo":
        return load("demo", device="cpu")
    from transforms.encoders.open_clip_encoder import OpenClipEncoder  # noqa: PLC0415 - seconds

    torch.manual_seed(0)
    return OpenClipEncoder(name, torch.device("cpu"), weights="")


def ways_of(encoder: Encoder) -> dict[str, Callable[[bytes], Pixels]]:
    """From the bytes of a file to what the encoder takes, in each of the ways."""
    assert isinstance(encoder, HasEarlier) and isinstance(encoder, TakesPixels)
    earlier, target = encoder.earlier(), target_side(encoder)
    assert isinstance(earlier, TakesPixels) and target is not None
    return dict(
        zip(
            WAYS,
            (
                lambda data: earlier.preprocess(decoded_before(data, target)),
                lambda data: earlier.preprocess_pixels(decode_pixels(data, target=target)[0]),
                lambda data: encoder.preprocess_pixels(decode_pixels(data, target=target)[0]),
            ),
            strict=True,
        )
    )


def measure(encoder: Encoder, files: Sequence[bytes], rounds: int) -> dict[str, Any]:
    """Milliseconds of each way, files a second of many threads, the lowest cosine of vectors of before and of today."""
    ways = ways_of(encoder)
    pixels = {name: np.stack([way(data) for data in files]) for name, way in ways.items()}
    np.testing.assert_array_equal(pixels["before"], pixels["roots of before"])
    spent: dict[str, list[float]] = {name: [] for name in ways}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for data in files:
            for name, way in ways.items():
                started = time.process_time()
                way(data)
                spent[name].append(1000 * (time.process_time() - started))
        if number % 5 == 0:
            for name, way in ways.items():
                started = time.monotonic()
                with ThreadPoolExecutor(FETCH_THREADS) as pool:
                    list(pool.map(way, [*files] * 8))
                rates[name].append(8 * len(files) / (time.monotonic() - started))
    vectors = [unit(encoder.encode_images(pixels[name])) for name in ("before", "today")]
    milliseconds = {name: statistics.median(times) for name, times in spent.items()}
    return {
        "milliseconds": milliseconds,
        "times_faster": report.ratio(milliseconds["before"], milliseconds["today"]),
        "a_second": {name: statistics.median(found) for name, found in rates.items()},
        "cosine": float((vectors[0] * vectors[1]).sum(axis=1).min()),
        "difference_of_255": float(np.abs(pixels["before"] - pixels["today"]).mean() * 255 * 0.27),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = ",".join(f"{width}x{height}" for width, height in SIZES)
    parser.add_argument("--sizes", default=sizes)
    parser.add_argument("--grain", type=float, default=1, help="deviation of the noise of a pixel (default 1)")
    parser.add_argument("--encoders", default="ViT-B-32,demo")
    parser.add_argument("--pictures", type=int, default=4, help="of each size")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    machine, found, rows = measuring.machine(), [], []
    encoders = {name: opened(name) for name in options.encoders.split(",")}
    for size in options.sizes.split(","):
        width, height = (int(side) for side in size.split("x"))
        rng = np.random.default_rng(options.seed)
        files = [photograph(width, height, options.grain, rng) for _ in range(options.pictures)]
        bytes_a_pixel = sum(map(len, files)) / (len(files) * width * height)
        for name, encoder in encoders.items():
            one = measure(encoder, files, options.rounds)
            found.append({"size": size, "encoder": name, "bytes_a_pixel": bytes_a_pixel, **one})
            took = [f"{one['milliseconds'][way]:.2f}" for way in WAYS]
            rates = [f"{one['a_second'][way]:.0f}" for way in WAYS]
            rest = [f"{one['times_faster']:.2f}", *rates, f"{one['cosine']:.6f}"]
            rows.append([f"{size}, {bytes_a_pixel:.3f} bytes a pixel, {name}", *took, *rest])
    limits = {"small": LIMIT_SMALL, "large": LIMIT_LARGE, "cosine": LIMIT_COSINE}
    report.write(options.output, {"machine": machine, "grain": options.grain, "found": found, "limits": limits})
    headings = ["", *(f"{way}, ms" for way in WAYS), "times faster"]
    headings += [*(f"{way}, a second by {FETCH_THREADS} threads" for way in WAYS), "lowest cosine"]
    print(report.table(headings, rows))


if __name__ == "__main__":
    main()

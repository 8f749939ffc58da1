"""A small shop whose pictures and rows are searched: among them rows that a hostile person wrote."""

import base64
import csv
import io
from pathlib import Path
from typing import Final

import numpy as np
import PIL.Image

from pipelines import build

ENCODER: Final = "tests.encoders:TinyEncoder"
HOSTILE: Final = {
    "script": "<script>alert('script')</script>",
    "markup": "\"><img src=x onerror=alert('markup')>",
    "right-to-left": "\u202e\u05d9\u05dc\u05d3\u05d9\u05dd\u202e \u05e2\u05d5\u05dc\u05dd",
    "long": "endless" * 1500,
    "emoji": "🦊👩‍👩‍👧‍👦🏳️‍🌈 zalgo̶̷̸",
}
"""What stands in names, captions and keys, by what it is called."""

ODD_FILE: Final = "x\"><img src=x onerror=alert('file')>#%3Cb%3E.png"
PLAIN: Final = 40


def picture(seed: int) -> PIL.Image.Image:
    """A picture that no other is like: a few large coloured squares."""
    squares = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), np.uint8)
    return PIL.Image.fromarray(squares).resize((64, 48), PIL.Image.Resampling.NEAREST)


def file_of(image: PIL.Image.Image, kind: str = "png") -> bytes:
    """The file of a picture."""
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def base64_of(file: bytes) -> str:
    """A file as requests carry it."""
    return base64.b64encode(file).decode()


def open_shop(folder: Path) -> Path:
    """Writes pictures and a CSV, and builds their root; returns its folder."""
    (folder / "pictures").mkdir(parents=True)
    rows = [
        {"sku": f"item-{seed}", "name": f"thing {seed}", "price": seed, "image": f"pictures/{seed}.png"}
        for seed in range(PLAIN)
    ]
    for seed, (kind, text) in enumerate(HOSTILE.items(), PLAIN):
        file = ODD_FILE if kind == "markup" else f"{seed}.png"
        rows.append({"sku": f"{kind} {text}", "name": text, "price": seed, "image": f"pictures/{file}"})
    for seed, row in enumerate(rows):
        picture(seed).save(folder / str(row["image"]))
    with (folder / "shop.csv").open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, [*rows[0], "description"])
        table.writeheader()
        table.writerows({**row, "description": f"about {row['name']}"} for row in rows)
    words = ("--key-column", "sku", "--image-column", "image", "--text-column", "description", "--encoder", ENCODER)
    root = folder / "root"
    assert build.main(["--root", str(root), "--csv", str(folder / "shop.csv"), *words, "--no-progress"]) == 0
    return root

"""Writes a small corpus for `pixdex demo` and the tests: a folder of PNG pictures and a CSV that describes them."""

import csv
from pathlib import Path

import numpy as np

from transforms.demo.captions import full
from transforms.demo.drawing import draw, sample_scenes

COLUMNS = ("image", "name", "group", "description", "colour", "size", "count", "position")
_PNG_EFFORT = 1  # zlib's fastest: half again as many bytes, three times the speed


def write_corpus(folder: Path, count: int, seed: int, *, size: int = 128) -> Path:
    """Draws `count` pictures, `size` pixels wide and high, into `folder/images`; returns `folder/corpus.csv`.

    Columns: image (relative to the CSV, with forward slashes), name (unique), group (the shape), description (a caption
    of everything in the picture), colour, size, count, position. Same count, seed and size: same bytes. Existing files
    are replaced. Cost: about 700 pictures a second on one core, 5 KB a picture.
    """
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    table = folder / "corpus.csv"
    rng = np.random.default_rng([seed, 4])
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for number, scene in enumerate(sample_scenes(count, rng)):
            name = f"{scene.colour}-{scene.shape}-{number:05d}"
            draw(scene, rng, size).save(images / f"{name}.png", compress_level=_PNG_EFFORT)
            writer.writerow(
                {
                    "image": f"images/{name}.png",
                    "name": name,
                    "group": scene.shape,
                    "description": full(scene).text,
                    "colour": scene.colour,
                    "size": scene.size,
                    "count": scene.count,
                    "position": scene.position,
                }
            )
    return table

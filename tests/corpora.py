"""Small realistic inputs that every test makes in the same way."""

import csv
from pathlib import Path

import numpy as np
import PIL.Image


def write_pictures(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Writes `count` different PNG pictures named `group_name.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    paths = []
    for number in range(count):
        pixels = generator.integers(0, 256, (12, 10, 3), np.uint8)
        path = folder / f"g{number % 3}_p{number:04d}.png"
        PIL.Image.fromarray(pixels).save(path)
        paths.append(path)
    return paths


def write_csv(file: Path, pictures: list[Path]) -> Path:
    """Writes a CSV that names pictures relative to itself, with a text, keywords and a group for each."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "name", "group", "description", "words"])
        for number, picture in enumerate(pictures):
            name = picture.relative_to(file.parent)
            writer.writerow([name, f"name {number}", f"g{number % 3}", f"text {number}", f"red, w{number}"])
    return file


def write_texts(file: Path, count: int) -> Path:
    """Writes a CSV with a column of different texts."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["description"])
        writer.writerows([f"text {number}"] for number in range(count))
    return file

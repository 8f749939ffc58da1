import csv
from pathlib import Path

from PIL import Image

from transforms.demo import write_corpus


def test_the_corpus_is_a_csv_beside_its_pictures(tmp_path: Path) -> None:
    table = write_corpus(tmp_path, 12, seed=5)
    rows = list(csv.DictReader(table.open(encoding="utf-8", newline="")))
    assert list(rows[0]) == ["image", "name", "group", "description", "colour", "size", "count", "position"]
    assert len(rows) == len({row["image"] for row in rows}) == len({row["name"] for row in rows}) == 12
    for row in rows:
        with Image.open(table.parent / row["image"]) as picture:
            assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (128, 128))
        assert {row["colour"], row["size"]} <= set(row["description"].split())
        assert row["group"] in row["description"]


def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    first, second, other = (
        _bytes(write_corpus(tmp_path / name, 5, seed)) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == second
    assert first != other


def _bytes(table: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(table.parent.rglob("*.*"))]

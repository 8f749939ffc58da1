"""Files of rows of several formats become one root, and a night finds in each of them what is new, changed or gone."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import reindex, verify
from tests.end_to_end.builds import TINY, rejects_of, run_here
from tests.end_to_end.reindexing import picture
from tests.transforms.sources.row_sources import packed

Rows = dict[str, tuple[str, int]]
"""Text, and seed of the picture, by primary key."""


def write(folder: Path, rows: Rows) -> None:
    (folder / "p").mkdir(parents=True, exist_ok=True)
    for file, seed in ((folder / "p" / f"{seed}.png", seed) for _, seed in rows.values()):
        if not file.exists():  # a time of its own is a version of its own
            file.write_bytes(picture(seed))
    table = [{"sku": key, "text": text, "image": f"p/{seed}.png"} for key, (text, seed) in rows.items()]
    lines = ["sku,text,image", *(",".join(row.values()) for row in table), ""]
    (folder / "rows.csv.gz").write_bytes(packed("\n".join(lines).encode(), ".gz"))
    objects = [*map(json.dumps, table), "[]", ""]
    (folder / "rows.jsonl.zst").write_bytes(packed("\n".join(objects).encode(), ".zst"))
    pictures = [{"bytes": picture(seed), "path": f"{seed}.png"} for _, seed in rows.values()]
    columns = {"sku": list(rows), "text": [text for text, _ in rows.values()], "image": pictures}
    pq.write_table(pa.table(columns), folder / "rows.parquet", row_group_size=4)


def test_a_root_of_every_format_is_built_and_goes_through_a_night(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, root = tmp_path / "data", tmp_path / "root"
    rows: Rows = {f"k{number}": (f"text {number}", number) for number in range(10)}
    write(data, rows)
    sources = ("--csv", data / "*.csv.gz", "--jsonl", data / "rows.jsonl.{gz,zst}", "--parquet", data / "**/*.parquet")
    columns = ("--image-column", "image", "--text-column", "text", "--key-column", "sku", *TINY)
    built = run_here(capsys, "--root", root, *sources, *columns)
    assert (built.code, built.said["items"], built.said["vectors"], built.said["rejected"]) == (0, 31, 60, 1)
    (reject,) = rejects_of(root)
    assert (reject["type"], reject["message"]) == ("NoObject", "line 11: the line is a list, and no object")

    rows = {**{key: rows[key] for key in list(rows)[2:]}, "k9": ("another", 9), "new": ("text new", 77)}
    write(data, rows)
    assert reindex.main(["--root", str(root), "--no-progress"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [said[name] for name in ("new", "changed", "gone", "unchanged")] == [3, 3, 6, 21]
    assert verify.main(["--root", str(root)]) == 0

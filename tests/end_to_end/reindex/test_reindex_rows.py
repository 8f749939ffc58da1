"""Files of rows of several formats become one root, and a night finds in each of them what is new, changed or gone."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pixdex
from pipelines import reindex, verify
from tests.end_to_end.builds import TINY, rejects_of, run_here
from tests.end_to_end.reindexing import picture
from tests.transforms.sources.row_sources import packed, tar_of
from transforms.storage import uris

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
    urls = [{**row, "image": f"file://{folder}/{row['image']}"} for row in table]
    (folder / "urls.ndjson").write_text("\n".join([*map(json.dumps, urls), ""]))
    pictures = [{"bytes": picture(seed), "path": f"{seed}.png"} for _, seed in rows.values()]
    columns = {"sku": list(rows), "text": [text for text, _ in rows.values()], "image": pictures}
    pq.write_table(pa.table(columns), folder / "rows.parquet", row_group_size=4)
    samples = [(f"{key}.png", picture(seed), {"sku": key, "text": text}) for key, (text, seed) in rows.items()]
    members = {name: data for name, data, _ in samples}
    members |= {name.replace(".png", ".json"): json.dumps(fields).encode() for name, _, fields in samples}
    (folder / "rows.tar").write_bytes(tar_of(dict(sorted(members.items())) | {"bad.jpg": b"no picture"}))


def test_a_root_of_every_format_is_built_and_goes_through_a_night(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, root = tmp_path / "data", tmp_path / "root"
    rows: Rows = {f"k{number}": (f"text {number}", number) for number in range(10)}
    write(data, rows)
    tables = ("--csv", data / "*.csv.gz", "--jsonl", data / "rows.jsonl.{gz,zst}", "--parquet", data / "**/*.parquet")
    sources = (*tables, "--tars", data / "*.tar", "--urls", data / "urls.*")
    columns = ("--image-column", "image", "--text-column", "text", "--key-column", "sku", *TINY)
    built = run_here(capsys, "--root", root, *sources, *columns)
    assert (built.code, built.said["items"], built.said["vectors"], built.said["rejected"]) == (0, 52, 100, 2)
    rejects = sorted((reject["type"], reject["message"]) for reject in rejects_of(root))
    assert rejects[0] == ("NoObject", "line 11: the line is a list, and no object")
    assert rejects[1][0] == "UnidentifiedImageError"

    rows = {**{key: rows[key] for key in list(rows)[2:]}, "k9": ("another", 9), "new": ("text new", 77)}
    write(data, rows)
    assert reindex.main(["--root", str(root), "--no-progress"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    found = [said[name] for name in ("new", "changed", "gone", "unchanged", "carried", "embedded")]
    # In the tar all moved, which embeds nothing; what was rejected is tried again.
    assert found == [5, 13, 10, 28, 7, 10]
    with pixdex.open(str(root)) as opened:
        hits = [hit for hit in opened.search("text new", k=100, modality="image") if ".tar#" in hit.key]
    assert {hit.key.rpartition("#")[2] for hit in hits} == rows.keys()
    for hit in hits:
        text, seed = rows[hit.key.rpartition("#")[2]]
        assert (hit.caption, uris.read(hit.uri)) == (text, picture(seed))
    assert verify.main(["--root", str(root)]) == 0

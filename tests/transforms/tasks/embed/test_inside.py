"""Pictures that are in a parquet file are embedded as those of files are, and read a few at a time."""

import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.end_to_end.reindexing import picture
from tests.transforms.embedded import embed, planned
from transforms.errors import PixdexError
from transforms.records import Source
from transforms.sources import table_rows
from transforms.storage.uris import ObjectTooLargeError
from transforms.tasks.embed.inside import PicturesInside

COUNT = 30


def layouts(pictures: list[bytes | None]) -> dict[str, pa.Array]:
    names = [f"p{number}.png" for number in range(len(pictures))]
    structs = [
        None if data is None else {"bytes": data, "path": name} for data, name in zip(pictures, names, strict=True)
    ]
    return {
        "binary": pa.array(pictures, pa.binary()),
        "large": pa.array(pictures, pa.large_binary()),
        "struct": pa.array(structs, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        "other struct": pa.array(structs, pa.struct([("path", pa.string()), ("bytes", pa.binary())])),
    }


def write(file: Path, column: pa.Array, **other: Any) -> Source:
    pq.write_table(pa.table({"im.age": column, "n": list(range(len(column))), **other}), file, row_group_size=7)
    source = table_rows.of_what_is_there(Source("parquet", f"file://{file}", image_column="im.age"))
    table_rows.check(source)
    return source


@pytest.mark.parametrize("layout", layouts([]))
def test_a_picture_in_a_file_has_the_vector_of_the_same_picture_outside(tmp_path: Path, layout: str) -> None:
    pictures: list[bytes | None] = [picture(number) for number in range(COUNT)]
    pictures[4], pictures[9] = None, b"no picture"
    file = tmp_path / "x.parquet"
    found = embed(planned(tmp_path / "root", write(file, layouts(pictures)[layout])))

    for number, data in enumerate(pictures):
        (tmp_path / f"p{number:02}.png").write_bytes(data or b"")
    outside = embed(planned(tmp_path / "other", Source("images", f"file://{tmp_path}/*.png")))
    there = {row["n"]: row["embedding"] for row in found.table.to_pylist()}
    assert sorted(map(int, there)) == [n for n in range(COUNT) if n not in (4, 9)]
    assert [there[number] for number in sorted(there, key=int)] == outside.table["embedding"].to_pylist()
    assert found.table["uri"].to_pylist()[0] == f"file://{file}#0"
    messages = {reject.uri: (reject.type, reject.message) for reject in found.rejects}
    assert messages[f"file://{file}#4"] == ("Empty", "line 5: the item has neither a picture nor a text")
    assert messages[f"file://{file}#9"][0] == "UnidentifiedImageError"


def read(inside: PicturesInside, uri: str) -> bytes:
    located = inside.locate(uri, 100)
    assert located is not None
    return located.read()


def test_threads_get_each_its_own_picture_in_whatever_order(tmp_path: Path) -> None:
    pictures: list[bytes | None] = [b"%d" % number * 3 for number in range(COUNT)]
    write(tmp_path / "x.parquet", layouts(pictures)["struct"])
    uris = [f"file://{tmp_path}/x.parquet#{number}" for number in range(COUNT) if number % 3]
    inside = PicturesInside(dict.fromkeys(uris, "im.age.bytes"))
    found: dict[str, bytes] = {}

    def take(some: list[str]) -> None:
        for uri in some:
            found[uri] = read(inside, uri)

    threads = [threading.Thread(target=take, args=(uris[start::4],)) for start in (3, 1, 0, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {uri: pictures[int(uri.rpartition("#")[2])] for uri in uris}


def test_a_picture_that_is_too_large_is_rejected_and_one_that_is_gone_stops_the_run(tmp_path: Path) -> None:
    write(tmp_path / "x.parquet", layouts([b"long" * 99, b"short"])["binary"])
    uris = [f"file://{tmp_path}/x.parquet#{number}" for number in (0, 1, 2)]
    inside = PicturesInside(dict.fromkeys(uris, "im.age"))
    with pytest.raises(ObjectTooLargeError, match="has 396 bytes, the limit is 100: raise --max-file-bytes"):
        inside.locate(uris[0], 100)
    assert read(inside, uris[1]) == b"short"
    with pytest.raises(PixdexError, match="has no picture in row 2, and had one when it was listed: put it back"):
        inside.locate(uris[2], 100)

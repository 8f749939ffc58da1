"""Damage that could be believed: wrong bytes in the merged file, and tables of other columns or without checksums."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from pipelines import verify
from tests.damages import spoiled
from tests.transforms.upkeep.verify.changed import named, with_table
from transforms.errors import PixdexError
from transforms.generations import merged_index, published
from transforms.generations.manifest import Generation
from transforms.search.searcher import Searcher
from transforms.storage import layout, parquet_files
from transforms.storage.store import Store

DAMAGES = [pytest.param(6, id="few"), pytest.param(300, id="many", marks=pytest.mark.slow)]
TABLES = ("shards", "blocks", "segments", "rejects", "tombstones", "keys")


@pytest.mark.parametrize("many", DAMAGES)
@pytest.mark.parametrize("place", ["head", "lists"])
def test_every_damage_of_the_merged_file_is_named(store: Store, generation: Generation, place: str, many: int) -> None:
    rng, file = random.Random(many), store.local_path(generation.index.path)
    head, content = merged_index.ranges(store, generation)[0].bytes, file.read_bytes()
    where = (0, head) if place == "head" else (head, len(content) - head)
    for _ in range(many):
        file.write_bytes(spoiled(content, *where, rng))
        assert named(store, generation) == {generation.index.path}
        with pytest.raises(PixdexError, match=rf"^{file} is damaged"):
            Searcher(store, generation, check=place == "lists")


@pytest.mark.parametrize("checksum", ["", "sha256:", "sha256:00", "xxh3:" + "0" * 15, "md5:" + "0" * 32, "0" * 64])
@pytest.mark.parametrize("name", ["shards", "blocks", "rejects", "tombstones", "keys"])
def test_a_table_that_names_a_file_without_a_whole_checksum_is_not_believed(
    store: Store, generation: Generation, name: str, checksum: str
) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[-1]["checksum"] = checksum

    wrong = with_table(store, generation, name, change)
    table = getattr(wrong.tables, name).path
    assert table in named(store, wrong)
    with pytest.raises(PixdexError, match=rf"{table} is damaged .* checksum '{checksum}', which is none"):
        published.files(store, wrong)


def _dropped(table: pa.Table) -> pa.Table:
    return table.drop_columns([table.column_names[0]])


def _of_strings(table: pa.Table) -> pa.Table:
    return table.set_column(0, table.column_names[0], pa.array(["x"] * len(table)))


def _with_null(table: pa.Table) -> pa.Table:
    values = table.column(0).to_pylist()
    return table.set_column(0, table.column_names[0], pa.array([None, *values[1:]], pa.int64()))


def _negative(table: pa.Table) -> pa.Table:
    return table.set_column(0, table.column_names[0], pa.array([-1] * len(table)))


@pytest.mark.parametrize("change", [_dropped, _of_strings, _with_null, _negative])
@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_other_columns_is_damaged(
    store: Store, generation: Generation, name: str, change: Callable[[pa.Table], pa.Table]
) -> None:
    written = parquet_files.write_table(store, change(parquet_files.read(store, getattr(generation.tables, name))))
    wrong = replace(generation, tables=replace(generation.tables, **{name: written}))
    assert written.path in named(store, wrong)
    assert written.path in named(store, wrong, quick=True)
    looks: list[Callable[[], object]] = [lambda: published.files(store, wrong)]
    if name in ("shards", "blocks", "segments"):
        looks.append(lambda: Searcher(store, wrong))
    for look in looks:
        with pytest.raises(PixdexError, match=rf"{written.path} is damaged"):
            look()


def test_manifests_are_missed_where_none_is_left(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):
        store.remove(layout.generation(number))
    assert verify.main(["--root", store.url]) == 1
    out, err = capsys.readouterr()
    assert f"{store.url}/{layout.generation(2)} is missing, and its plan says that it was published" in err
    assert (json.loads(out)["generation"], json.loads(out)["vectors"]) == (2, 0)

"""What a generation says that a run publishes, and what is not published."""

import dataclasses
from pathlib import Path

import pytest

from tests.transforms.bare_runs import REQUEST, finish, lay, plan, publish_run, reference
from transforms.errors import PixdexError
from transforms.generations import published
from transforms.markers import PieceMarker, ShardMarker
from transforms.ready_range import VectorRange
from transforms.record_json import encode
from transforms.runs import beginning
from transforms.runs.run import Run
from transforms.storage import layout, parquet_files
from transforms.storage.store import Store
from transforms.tasks import publish


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path / "root"))


def test_a_generation_counts_what_its_shards_hold(store: Store) -> None:
    found = publish_run(store)

    totals = found.totals
    assert (totals.items, totals.embedded, totals.rejected, totals.vectors, totals.images) == (6, 5, 1, 5, 5)
    assert (totals.texts, totals.keywords, totals.tombstones, totals.shards, totals.blocks) == (0, 0, 0, 2, 1)
    assert (found.request, found.next_shard) == (REQUEST, 2)
    assert found.index.path == "index/000001/index.faiss"
    assert found.index.bytes == 100 + 5 * 72
    assert len(encode(found)) < 1 << 20


def test_the_tables_of_a_generation_name_its_files(store: Store) -> None:
    found = publish_run(store)
    tables = [
        parquet_files.read(store, table)["path"].to_pylist()
        for table in (found.tables.shards, found.tables.blocks, found.tables.rejects)
    ]

    assert tables == [["files/e0", None], ["files/lists"], ["files/r1"]]
    segments = parquet_files.read(store, found.tables.segments).to_pylist()
    assert [(row["first_list"], row["last_list"], row["offset"], row["bytes"]) for row in segments] == [
        (0, 0, 0, 100), (0, 1, 100, 360),
    ]  # fmt: skip
    assert published.files(store, found) == sorted(
        [
            "generations/000001.json", "index/000001/index.faiss", "files/index", "files/training", "files/e0",
            "files/lists", "files/r1", "files/keys", *(table.path for table in found.tables.all),
        ]
    )  # fmt: skip


def test_the_table_of_shards_says_where_ready_embeddings_are(store: Store) -> None:
    run = beginning.begin(store, REQUEST)
    plan(run)
    finish(run)
    ready = VectorRange("file:///v.npy", "npy", 10, 16, "stat:1", None, "file:///m.parquet", "text", "stat:2")
    store.local_path(layout.marker(1, "embed", 0)).unlink()
    run.commit("embed", 0, ShardMarker(0, 0, "d", 6, 1, 5, 0, 5, 0, None, reference("r1"), 0.0, ready))
    found = publish.publish(run)

    rows = parquet_files.read(store, found.tables.shards).to_pylist()
    assert [(row["path"], row["rows"]) for row in rows] == [(None, 5), (None, 0)]
    assert VectorRange(**rows[0]["ready"]) == ready and rows[1]["ready"] is None
    rejects = parquet_files.read(store, found.tables.rejects).to_pylist()
    assert [(row["shard"], row["rejected"]) for row in rejects] == [(0, 1), (1, 1)]


def test_a_merged_index_with_a_part_of_a_vector_is_refused(store: Store) -> None:
    run = beginning.begin(store, REQUEST)
    plan(run)
    finish(run)
    store.local_path(layout.marker(1, "merge", 1)).unlink()
    run.commit("merge", 1, PieceMarker(1, "d", 0, 1, 100, 5 * 72 + 1, f"xxh3:{1:016}"))
    with pytest.raises(PixdexError, match="has 361 bytes of lists, no multiple of the 72 that a vector takes"):
        publish.publish(run)


def test_what_two_level_assignment_needs_is_a_file_of_the_generation(store: Store) -> None:
    run = beginning.begin(store, REQUEST)
    plan(run)
    finish(run)
    lay(store, "files/assignment", 1)
    marker = run.trained()
    store.local_path(layout.marker(1, "train", 0)).unlink()
    trained = dataclasses.replace(marker.trained, assignment=reference("assignment"))
    run.commit("train", 0, dataclasses.replace(marker, trained=trained))

    assert "files/assignment" in published.files(store, publish.publish(run))


def test_publishing_twice_publishes_once(store: Store) -> None:
    found = publish_run(store)

    assert publish.publish(Run(store, 1)) == found
    assert published.numbers(store) == [1]


@pytest.mark.parametrize(("listed", "merged"), [(4, 5), (5, 4), (6, 6), (5, 0)])
def test_counts_that_do_not_agree_are_not_published(store: Store, listed: int, merged: int) -> None:
    run = beginning.begin(store, REQUEST)
    plan(run)
    finish(run, listed, merged)

    said = rf"shards hold 5 live rows, .* {listed}, the merged index {merged}: .*--abandon"
    with pytest.raises(PixdexError, match=said):
        publish.publish(run)
    assert published.current(store) is None

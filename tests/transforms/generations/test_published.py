"""Which generation is current, which run comes next, and what is published."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from transforms.errors import PixdexError
from transforms.generations import published as generations
from transforms.generations.manifest import Generation
from transforms.markers import KeysMarker, ListsMarker, PieceMarker, ShardMarker, TrainedIndex, TrainMarker
from transforms.records import (
    EncoderSettings,
    FileReference,
    IndexSettings,
    Partition,
    Plan,
    Request,
    Source,
    VectorRange,
    encode,
)
from transforms.runs import partitions as planning
from transforms.runs.run import Run
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.tasks import publish

REQUEST = Request(
    (Source("images", "file:///pictures"),), EncoderSettings("demo", "f", 16, ("image",)), IndexSettings()
)
OTHER = dataclasses.replace(REQUEST, seed=1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path / "root"))


def reference(name: str, size: int = 1) -> FileReference:
    return FileReference(f"files/{name}", size, "sha256:00")


def plan(run: Run, first_shard: int = 0, shards: int = 2) -> None:
    partitions = [Partition(first_shard + number, 0, (), 3, 3) for number in range(shards)]
    table = planning.write_partitions(run.store, layout.plan_folder(run.generation), partitions)
    found = Plan(run.generation, "r", table, first_shard, shards, 1, 6, 5, "IVF1,Flat")
    run.store.commit(layout.plan(run.generation), found)


def lay(store: Store, path: str, size: int) -> None:
    """Puts a file of this size there: markers are not believed without their files."""
    file = store.local_path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(bytes(size))


def finish(run: Run, listed: int = 5, merged: int = 5) -> None:
    """Commits the markers of a run of two shards: five rows, and one item that was rejected."""
    first = run.plan.first_shard
    for name in ("index", "training", "lists", "keys", f"e{first}", f"r{first + 1}"):
        lay(run.store, f"files/{name}", 1)
    lay(run.store, layout.merged_index(run.generation), 100 + merged * 72)
    trained = TrainedIndex("t", "IVF1,Flat", "ip", 16, 1, 64, 1, reference("index"), reference("training"))
    for shard, rows, rejected in ((first, 5, 0), (first + 1, 0, 1)):
        marker = ShardMarker(
            shard, 0, "d", rows + rejected, rejected, rows, rows, 0, 0,
            reference(f"e{shard}") if rows else None, reference(f"r{shard}") if rejected else None, 0.0,
        )  # fmt: skip
        run.commit("embed", shard, marker)
    run.commit("keys", 0, KeysMarker(0, "d", 6, 1, 5, 0, 0, reference("keys")))
    run.commit("train", 0, TrainMarker("d", trained))
    run.commit("add", 0, ListsMarker(0, "d", listed, reference("lists")))
    run.commit("merge", 0, PieceMarker(0, "d", 0, 0, 0, 100, "xxh3:0"))
    run.commit("merge", 1, PieceMarker(1, "d", 0, 1, 100, merged * 72, "xxh3:1"))


def published(store: Store, request: Request = REQUEST) -> Generation:
    run = generations.begin(store, request)
    plan(run, generations.next_shard(store))
    finish(run)
    return publish.publish(run)


def test_a_new_root_has_nothing(store: Store) -> None:
    assert generations.current(store) is None
    assert generations.unfinished(store) is None
    assert generations.numbers(store) == generations.runs(store) == []
    assert (generations.next_number(store), generations.next_shard(store)) == (1, 0)


def test_the_highest_number_is_the_current_generation(store: Store) -> None:
    first, second = published(store), published(store, OTHER)

    assert (first.generation, second.generation) == (1, 2)
    assert generations.current(store) == second
    assert generations.numbers(store) == [1, 2]


def test_what_is_no_manifest_is_no_generation(store: Store) -> None:
    found = published(store)
    for name in ("LATEST", "000009.json.bak", "x.json", ".000009.json.123"):
        store.create(f"generations/{name}", b"{}")

    assert generations.current(store) == found


def test_a_run_is_unfinished_until_it_is_published(store: Store) -> None:
    run = generations.begin(store, REQUEST)
    assert generations.unfinished(store) == run == Run(store, 1)
    assert run.request == REQUEST

    plan(run)
    finish(run)
    assert generations.unfinished(store) == run
    publish.publish(run)
    assert generations.unfinished(store) is None


def test_a_run_killed_before_its_request_was_there_burns_no_number(store: Store) -> None:
    store.local_path("plans/000001").mkdir(parents=True)
    assert generations.runs(store) == []
    assert generations.begin(store, REQUEST).generation == 1


def test_an_abandoned_run_burns_its_generation_and_its_shards(store: Store) -> None:
    run = generations.begin(store, REQUEST)
    plan(run, shards=7)
    generations.abandon(run)
    generations.abandon(run)

    assert generations.unfinished(store) is None
    assert (generations.next_number(store), generations.next_shard(store)) == (2, 7)
    assert published(store).next_shard == 9


def test_two_that_begin_the_same_request_at_once_share_the_run(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        begun = set(pool.map(lambda _: generations.begin(store, REQUEST), range(8)))

    assert begun == {Run(store, 1)}
    assert generations.unfinished(store) == Run(store, 1)


def test_of_two_that_begin_different_requests_at_once_one_is_told_to_wait(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    generations.begin(store, REQUEST)
    monkeypatch.setattr(generations, "next_number", lambda _: 1)  # what it had read before the other began

    with pytest.raises(PixdexError, match=r"another run has just begun .* wait for it, then run again"):
        generations.begin(store, OTHER)


def test_one_that_begins_a_moment_later_gives_way(store: Store) -> None:
    first = generations.begin(store, REQUEST)

    with pytest.raises(PixdexError, match="another run has just begun"):
        generations.begin(store, OTHER)
    assert generations.begin(store, REQUEST) == first
    assert generations.unfinished(store) == first


def test_a_generation_counts_what_its_shards_hold(store: Store) -> None:
    found = published(store)

    totals = found.totals
    assert (totals.items, totals.embedded, totals.rejected, totals.vectors, totals.images) == (6, 5, 1, 5, 5)
    assert (totals.texts, totals.keywords, totals.tombstones, totals.shards, totals.blocks) == (0, 0, 0, 2, 1)
    assert (found.request, found.next_shard) == (REQUEST, 2)
    assert found.index.path == "index/000001/index.faiss"
    assert found.index.bytes == 100 + 5 * 72
    assert len(encode(found)) < 1 << 20


def test_the_tables_of_a_generation_name_its_files(store: Store) -> None:
    found = published(store)
    tables = [
        generations.read_table(store, table)["path"].to_pylist()
        for table in (found.tables.shards, found.tables.blocks, found.tables.rejects)
    ]

    assert tables == [["files/e0", None], ["files/lists"], ["files/r1"]]
    segments = generations.read_table(store, found.tables.segments).to_pylist()
    assert [(row["first_list"], row["last_list"], row["offset"], row["bytes"]) for row in segments] == [
        (0, 0, 0, 100), (0, 1, 100, 360),
    ]  # fmt: skip
    assert generations.files(store, found) == sorted(
        [
            "generations/000001.json", "index/000001/index.faiss", "files/index", "files/training", "files/e0",
            "files/lists", "files/r1", "files/keys", *(table.path for table in found.tables.all),
        ]
    )  # fmt: skip


def test_the_table_of_shards_says_where_ready_embeddings_are(store: Store) -> None:
    run = generations.begin(store, REQUEST)
    plan(run)
    finish(run)
    ready = VectorRange("file:///v.npy", "npy", 10, 16, "stat:1", None, "file:///m.parquet", "text", "stat:2")
    store.local_path(layout.marker(1, "embed", 0)).unlink()
    run.commit("embed", 0, ShardMarker(0, 0, "d", 6, 1, 5, 0, 5, 0, None, reference("r1"), 0.0, ready))
    found = publish.publish(run)

    rows = generations.read_table(store, found.tables.shards).to_pylist()
    assert [(row["path"], row["rows"]) for row in rows] == [(None, 5), (None, 0)]
    assert VectorRange(**rows[0]["ready"]) == ready and rows[1]["ready"] is None
    rejects = generations.read_table(store, found.tables.rejects).to_pylist()
    assert [(row["shard"], row["rejected"]) for row in rejects] == [(0, 1), (1, 1)]


def test_a_merged_index_with_a_part_of_a_vector_is_refused(store: Store) -> None:
    run = generations.begin(store, REQUEST)
    plan(run)
    finish(run)
    store.local_path(layout.marker(1, "merge", 1)).unlink()
    run.commit("merge", 1, PieceMarker(1, "d", 0, 1, 100, 5 * 72 + 1, "xxh3:1"))
    with pytest.raises(PixdexError, match="has 361 bytes of lists, no multiple of the 72 that a vector takes"):
        publish.publish(run)


def test_what_two_level_assignment_needs_is_a_file_of_the_generation(store: Store) -> None:
    run = generations.begin(store, REQUEST)
    plan(run)
    finish(run)
    lay(store, "files/assignment", 1)
    marker = run.trained()
    store.local_path(layout.marker(1, "train", 0)).unlink()
    trained = dataclasses.replace(marker.trained, assignment=reference("assignment"))
    run.commit("train", 0, dataclasses.replace(marker, trained=trained))

    assert "files/assignment" in generations.files(store, publish.publish(run))


def test_publishing_twice_publishes_once(store: Store) -> None:
    found = published(store)

    assert publish.publish(Run(store, 1)) == found
    assert generations.numbers(store) == [1]


@pytest.mark.parametrize(("listed", "merged"), [(4, 5), (5, 4), (6, 6), (5, 0)])
def test_counts_that_do_not_agree_are_not_published(store: Store, listed: int, merged: int) -> None:
    run = generations.begin(store, REQUEST)
    plan(run)
    finish(run, listed, merged)

    said = rf"shards hold 5 live rows, .* {listed}, the merged index {merged}: .*--abandon"
    with pytest.raises(PixdexError, match=said):
        publish.publish(run)
    assert generations.current(store) is None


def test_a_marker_of_other_work_is_an_error_and_never_a_skip(store: Store) -> None:
    run = generations.begin(store, REQUEST)
    lay(store, "files/lists", 1)
    run.commit("add", 3, ListsMarker(3, "a" * 64, 5, reference("lists")))

    assert run.marker("add", 4, ListsMarker, "a" * 64) is None
    assert run.marker("add", 3, ListsMarker, "a" * 64) is not None
    with pytest.raises(PixdexError, match=r"answers aaaaaaaaaaaa…, this run asks for bbbbbbbbbbbb…: .*--abandon-plan"):
        run.marker("add", 3, ListsMarker, "b" * 64)


@pytest.mark.parametrize("size", [None, 0, 2])
def test_a_marker_without_its_file_is_not_believed_and_not_adopted(store: Store, size: int | None) -> None:
    run = generations.begin(store, REQUEST)
    lay(store, "files/lists", 1)
    marker = run.commit("add", 3, ListsMarker(3, "d", 5, reference("lists")))
    if size is None:
        store.local_path("files/lists").unlink()
    else:
        lay(store, "files/lists", size)

    assert run.marker("add", 3, ListsMarker, "d") is None
    with pytest.raises(PixdexError, match=r"files/lists is missing or cut short, .* different this time: .*--abandon"):
        run.commit("add", 3, dataclasses.replace(marker, lists=reference("other")))


def test_markers_are_read_in_the_order_of_their_tasks(store: Store) -> None:
    run = generations.begin(store, REQUEST)
    lay(store, "files/lists", 1)
    for number in (2, 0, 1):
        run.commit("add", number, ListsMarker(number, "d", number, reference("lists")))

    assert [marker.number for marker in run.markers("add", range(3), ListsMarker)] == [0, 1, 2]

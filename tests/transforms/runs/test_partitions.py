"""A plan cuts every item into exactly one partition, in order, and blocks of consecutive shards."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.work import at_most
from transforms.errors import UsageError
from transforms.ready_range import VectorRange
from transforms.records import ROWS_PER_SHARD, Block, FileReference, Partition, Plan
from transforms.runs.partitions import (
    Listing,
    block_rows,
    check_not_empty,
    cut,
    cut_ready,
    partition_rows,
    read_blocks,
    read_partitions,
    write_partitions,
)
from transforms.storage import parquet_files
from transforms.storage.store import Store

CHUNK = st.integers(1, 1024).flatmap(lambda items: st.tuples(st.just(items), st.integers(0, 5120)))
LISTINGS = st.lists(
    st.tuples(st.integers(0, 2), st.lists(CHUNK, max_size=40)), min_size=1, max_size=6
).map(
    lambda found: [
        Listing(source, f"c{number}", FileReference(f"t{number}", number, f"sha256:{0:064}"), tuple(chunks))
        for number, (source, chunks) in enumerate(found)
    ]
)  # fmt: skip


@given(LISTINGS, st.integers(0, 10**6), st.sampled_from([65_536, 1 << 22]), st.randoms(use_true_random=False))
def test_every_item_is_in_exactly_one_partition_in_plan_order(
    listings: list[Listing], first_shard: int, block_limit: int, order: object
) -> None:
    partitions = cut(listings, first_shard, block_limit)
    covered = [piece for partition in partitions for piece in partition.slices]

    expected = sorted(
        (listing for listing in listings if listing.chunks), key=lambda x: (x.source, x.container.split("/"))
    )
    assert [table for table, _ in itertools.groupby(covered, key=lambda piece: piece.table)] == [
        listing.table for listing in expected
    ]
    for listing in expected:
        pieces = [piece for piece in covered if piece.table == listing.table]
        assert [piece.start for piece in pieces] == [0, *[piece.stop for piece in pieces[:-1]]]
        assert pieces[-1].stop == sum(items for items, _ in listing.chunks)
    assert cut(listings[::-1], first_shard, block_limit) == partitions


@given(LISTINGS, st.integers(0, 10**6))
def test_counts_add_up_and_shards_are_numbered_on(listings: list[Listing], first_shard: int) -> None:
    partitions = cut(listings, first_shard, 65_536)
    total = sum(rows for listing in listings for _, rows in listing.chunks)

    assert [partition.shard for partition in partitions] == list(range(first_shard, first_shard + len(partitions)))
    assert sum(partition.rows for partition in partitions) == total
    for partition in partitions:
        assert partition.items == sum(piece.stop - piece.start for piece in partition.slices) > 0
        assert partition.rows <= ROWS_PER_SHARD
        assert partition.items <= ROWS_PER_SHARD
        assert partition.rows <= max(partition_rows(total), 5120)


@given(st.lists(st.integers(1, 1024), min_size=1, max_size=300), st.sampled_from([1, 16, 20_000]))
def test_blocks_are_consecutive_and_within_their_limit(chunks: list[int], nlist: int) -> None:
    listing = Listing(0, "c", FileReference("t", 1, f"sha256:{0:064}"), tuple((rows, rows) for rows in chunks))
    with pytest.MonkeyPatch.context() as patched:  # small numbers make many blocks
        patched.setattr("transforms.runs.partitions.MIN_PARTITION_ROWS", 1024)
        patched.setattr("transforms.runs.partitions.ROWS_PER_SHARD", 1024)
        limit = block_rows(sum(chunks), nlist, 72)
        partitions = cut([listing], 0, limit)
    blocks = [list(members) for _, members in itertools.groupby(partitions, key=lambda partition: partition.block)]

    assert [members[0].block for members in blocks] == list(range(len(blocks)))
    for members, following in itertools.zip_longest(blocks, blocks[1:]):
        rows = sum(partition.rows for partition in members)
        assert rows <= limit
        if following:  # no block is closed while the next shard would have fitted
            assert rows + following[0].rows > limit


@given(st.integers(0, 10**11))
def test_partitions_hold_between_4096_and_65536_rows(rows: int) -> None:
    assert 4096 <= partition_rows(rows) <= 65_536


@given(st.integers(0, 10**11), st.integers(1, 1 << 22), st.integers(9, 8200))
def test_a_block_has_eight_rows_a_list_unless_a_worker_could_not_hold_it(rows: int, nlist: int, entry: int) -> None:
    limit = block_rows(rows, nlist, entry)

    assert 65_536 <= limit <= max(4 << 20, 8 * nlist)
    assert limit == 65_536 or limit * entry <= 512 << 20
    assert limit >= 8 * nlist or (limit + 1) * entry > 512 << 20


def test_folders_go_in_the_order_of_a_walk_wherever_a_tree_was_divided() -> None:
    names = ["/p", "/p/a", "/p/a/x/", "/p/a b/", "/p/b/"]
    tables = {name: FileReference(f"t{name.strip('/')}", 1, f"sha256:{0:064}") for name in names}
    listings = [Listing(0, name, tables[name], ((1, 1),)) for name in reversed(names)]

    (partition,) = cut(listings, 0, 65_536)
    assert [piece.table for piece in partition.slices] == list(tables.values())


def test_small_containers_share_a_shard() -> None:
    listings = [
        Listing(0, f"c{number}", FileReference(f"t{number}", 1, f"sha256:{0:064}"), ((1, 1),)) for number in range(9)
    ]

    (partition,) = cut(listings, 5, 65_536)
    assert (partition.shard, partition.items, len(partition.slices)) == (5, 9, 9)


@given(listings=LISTINGS)
def test_partitions_read_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, listings: list[Listing]
) -> None:
    store = Store.at(str(tmp_path_factory.mktemp("root")))
    partitions = cut(listings, 3, 65_536)

    assert list(read_partitions(store, write_partitions(store, "plans", partitions))) == partitions


def test_blocks_of_a_plan_cover_its_shards(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path))
    partitions = [Partition(10 + number, number // 700, (), 1, 1) for number in range(2500)]
    table = write_partitions(store, "plans", partitions)
    plan = Plan(1, "d", table, 10, 2500, 4, 2500, 2500, "IVF1,Flat")

    blocks = list(read_blocks(store, plan))

    assert blocks == [Block(0, 10, 710), Block(1, 710, 1410), Block(2, 1410, 2110), Block(3, 2110, 2510)]
    assert [shard for block in blocks for shard in block.shards] == list(range(10, 2510))


@pytest.mark.parametrize(("ready", "words"), [(False, "the sources hold no item"), (True, "of --vectors hold no")])
def test_sources_without_an_item_are_refused(ready: bool, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_not_empty(0, ready=ready)


RANGES = st.lists(st.integers(0, 200_000), max_size=8).map(
    lambda counts: [VectorRange(f"file:///{number}.npy", "npy", 0, rows, "v") for number, rows in enumerate(counts)]
)


@given(RANGES, st.integers(0, 10**6), st.sampled_from([65_536, 1 << 18]))
def test_every_ready_row_is_in_one_range_that_is_as_long_as_it_can_be(
    files: list[VectorRange], first_shard: int, block_limit: int
) -> None:
    partitions = cut_ready(files, first_shard, block_limit)
    ranges = [partition.ready for partition in partitions if partition.ready]

    assert [partition.shard for partition in partitions] == list(range(first_shard, first_shard + len(ranges)))
    assert [partition.rows for partition in partitions] == [piece.stop - piece.start for piece in ranges]
    assert all(not partition.slices and partition.items == partition.rows for partition in partitions)
    assert [piece for whole in files for piece in ranges if piece.uri == whole.uri] == ranges
    for whole in files:
        own = [piece for piece in ranges if piece.uri == whole.uri]
        assert [(piece.start, piece.stop) for piece in own] == [
            (start, min(start + 65_536, whole.stop)) for start in range(0, whole.stop, 65_536)
        ]
    for _, members in itertools.groupby(partitions, key=lambda partition: partition.block):
        assert sum(partition.rows for partition in members) <= block_limit


@given(st.integers(1, 200_000))
def test_both_rows_of_a_pair_are_in_one_shard(items: int) -> None:
    whole = VectorRange("file:///i.npy", "npy", 0, items, "v", text_uri="file:///t.npy", text_version="w")
    partitions = cut_ready([whole], 0, 65_536)
    ranges = [partition.ready for partition in partitions if partition.ready]
    assert [(piece.start, piece.stop) for piece in ranges] == [
        (start, min(start + 32_768, items)) for start in range(0, items, 32_768)
    ]
    assert [(one.items, one.rows) for one in partitions] == [(piece.items, 2 * piece.items) for piece in ranges]


@pytest.mark.parametrize("pairs", [False, True])
def test_a_table_has_columns_of_pairs_only_where_there_are_any(tmp_path: Path, pairs: bool) -> None:
    store = Store.at(str(tmp_path))
    ready = VectorRange("file:///i.npy", "npy", 0, 9, "v", text_uri="file:///t.npy" if pairs else None)
    table = parquet_files.read(store, write_partitions(store, "plans", cut_ready([ready], 0, 65_536)))
    names = {field.name for field in table.schema.field("ready").type}
    assert ({"text_uri", "text_version", "uri_column"} <= names) == pairs


def test_ready_ranges_read_back_as_they_were_written(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path))
    npy = VectorRange("file:///a.npy", "npy", 0, 100_000, "etag:1", metadata="file:///a.parquet", modality="text")
    parquet = VectorRange("s3://b/a.parquet", "parquet", 0, 7, "stat:1", column="vector")
    pairs = replace(npy, uri="file:///i.npy", text_uri="file:///t.npy", text_version="etag:2", uri_column="url")
    partitions = cut_ready([npy, parquet, pairs], 3, 65_536)

    assert list(read_partitions(store, write_partitions(store, "plans", partitions))) == partitions


def test_the_work_for_a_file_does_not_grow_with_their_number() -> None:
    files = [VectorRange(f"s3://bucket/{number:06d}.npy", "npy", 0, 65_537, "etag:1") for number in range(10_000)]

    with at_most(400 * len(files)):
        partitions = cut_ready(files, 0, 1 << 22)

    assert len(partitions) == 20_000
    assert partitions[-1].block > 100

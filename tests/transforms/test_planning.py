"""A plan cuts every item into exactly one partition, in order, and blocks of consecutive shards."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms import planning
from transforms.errors import UsageError
from transforms.planning import Block, Listing, block_rows, cut, partition_rows
from transforms.records import ROWS_PER_SHARD, FileReference, Partition, Plan
from transforms.store import Store

CHUNK = st.integers(1, 1024).flatmap(lambda items: st.tuples(st.just(items), st.integers(0, 5120)))
LISTINGS = st.lists(
    st.tuples(st.integers(0, 2), st.lists(CHUNK, max_size=40)), min_size=1, max_size=6
).map(
    lambda found: [
        Listing(source, f"c{number}", FileReference(f"t{number}", number, "sha256:0"), tuple(chunks))
        for number, (source, chunks) in enumerate(found)
    ]
)  # fmt: skip


@given(LISTINGS, st.integers(0, 10**6), st.sampled_from([1, 64, 65_536]), st.randoms(use_true_random=False))
def test_every_item_is_in_exactly_one_partition_in_plan_order(
    listings: list[Listing], first_shard: int, nlist: int, order: object
) -> None:
    partitions = cut(listings, first_shard, nlist)
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
    assert cut(listings[::-1], first_shard, nlist) == partitions


@given(LISTINGS, st.integers(0, 10**6))
def test_counts_add_up_and_shards_are_numbered_on(listings: list[Listing], first_shard: int) -> None:
    partitions = cut(listings, first_shard, 1)
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
    listing = Listing(0, "c", FileReference("t", 1, "sha256:0"), tuple((rows, rows) for rows in chunks))
    with pytest.MonkeyPatch.context() as patched:  # small numbers make many blocks
        patched.setattr(planning, "MIN_PARTITION_ROWS", 1024)
        patched.setattr(planning, "ROWS_PER_SHARD", 1024)
        partitions = cut([listing], 0, nlist)
        limit = block_rows(sum(chunks), nlist)
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


@given(st.integers(0, 10**11), st.integers(1, 1 << 22))
def test_a_block_has_eight_rows_a_list_and_no_more_than_a_worker_holds(rows: int, nlist: int) -> None:
    limit = block_rows(rows, nlist)

    assert limit >= 8 * nlist
    assert limit <= max(4 << 20, 8 * nlist)


def test_folders_go_in_the_order_of_a_walk_wherever_a_tree_was_divided() -> None:
    names = ["/p", "/p/a", "/p/a/x/", "/p/a b/", "/p/b/"]
    listings = [Listing(0, name, FileReference(name, 1, "sha256:0"), ((1, 1),)) for name in reversed(names)]

    (partition,) = cut(listings, 0, 1)
    assert [piece.table.path for piece in partition.slices] == names


def test_small_containers_share_a_shard() -> None:
    listings = [Listing(0, f"c{number}", FileReference(f"t{number}", 1, "sha256:0"), ((1, 1),)) for number in range(9)]

    (partition,) = cut(listings, 5, 1)
    assert (partition.shard, partition.items, len(partition.slices)) == (5, 9, 9)


@settings(max_examples=20, deadline=None)
@given(listings=LISTINGS)
def test_partitions_read_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, listings: list[Listing]
) -> None:
    store = Store.at(str(tmp_path_factory.mktemp("root")))
    partitions = cut(listings, 3, 1)

    assert list(planning.read_partitions(store, planning.write_partitions(store, "plans", partitions))) == partitions


def test_blocks_of_a_plan_cover_its_shards(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path))
    partitions = [Partition(10 + number, number // 700, (), 1, 1) for number in range(2500)]
    table = planning.write_partitions(store, "plans", partitions)
    plan = Plan(1, "d", table, 10, 2500, 4, 2500, 2500, "IVF1,Flat")

    blocks = list(planning.read_blocks(store, plan))

    assert blocks == [Block(0, 10, 710), Block(1, 710, 1410), Block(2, 1410, 2110), Block(3, 2110, 2510)]
    assert [shard for block in blocks for shard in block.shards] == list(range(10, 2510))


def test_sources_without_an_item_are_refused() -> None:
    with pytest.raises(UsageError, match="the sources hold no item"):
        planning.check_not_empty([Listing(0, "c", FileReference("t", 1, "sha256:0"), ())])

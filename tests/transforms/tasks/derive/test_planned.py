"""How the rows of a root are shared out among parts, and parts among shards."""

import numpy as np
import pytest

from transforms.derivation import Derivation, RootPart
from transforms.errors import UsageError
from transforms.records import ROWS_PER_SHARD
from transforms.tasks.derive import planned


def group(first: int, *rows: int) -> RootPart:
    return RootPart((rows[0], rows[1], rows[2]), first_list=first, stop_list=first + 1)


def condense(rows: int) -> Derivation:
    return Derivation("condense", 1, "seal", rows=rows)


@pytest.mark.parametrize("rows", [1, 7, 99, 300, 1110])
def test_rows_are_shared_out_in_proportion_and_there_are_exactly_as_many(rows: int) -> None:
    parts = [group(2, 0, 0, 100), group(0, 700, 10, 0), group(1, 200, 0, 100)]
    shards = planned.shards_of(condense(rows), parts)
    made = [part for shard in shards for part in shard]
    assert planned.made_of(made) == rows
    assert [part.first_list for part in made] == sorted(part.first_list for part in made)
    kinds = np.array([part.wanted for part in made]).sum(axis=0)
    assert (abs(kinds - np.array([900, 10, 200]) * rows / 1110) <= 1).all()
    for part in made:
        there, wanted = np.array(part.rows), np.array(part.wanted)
        assert (wanted <= there).all() and (abs(wanted - there * rows / 1110) <= 1).all()


def test_more_rows_than_there_are_are_refused() -> None:
    with pytest.raises(UsageError, match="--rows 11 is more than the 10 rows"):
        planned.shards_of(condense(11), [group(0, 10, 0, 0)])


def test_a_shard_is_made_of_some_groups_and_has_no_more_rows_than_one_may() -> None:
    many = [group(number, 60_000, 0, 0) for number in range(6)]
    shards = planned.shards_of(condense(360_000), many)
    assert len(shards) == 6 and all(planned.made_of(shard) <= ROWS_PER_SHARD for shard in shards)
    few = [group(number, 100, 0, 0) for number in range(1000)]
    shards = planned.shards_of(condense(2000), few)
    sizes = [sum(sum(part.rows) for part in shard) for shard in shards]
    assert max(sizes) <= planned.LEAST_ROWS and len(sizes) == -(-100_000 // (planned.LEAST_ROWS // 100 * 100))


def test_of_augmentation_each_shard_becomes_one() -> None:
    parts = [RootPart((1, 2, 3), shard=7), RootPart((4, 0, 0), shard=2)]
    shards = planned.shards_of(Derivation("augment", 1, "seal"), parts)
    assert [[(part.shard, part.wanted) for part in shard] for shard in shards] == [[(2, (4, 0, 0))], [(7, (1, 2, 3))]]

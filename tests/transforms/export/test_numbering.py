"""Dense numbers of rows: as counting them one by one gives them, and back."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from transforms.export.numbering import NO_NUMBER, Numbering, NumberingBuilder
from transforms.records import ROW_BITS, ROWS_PER_SHARD

SHARDS = st.dictionaries(
    st.integers(0, 1 << 40),
    st.lists(st.tuples(st.integers(0, ROWS_PER_SHARD - 1), st.integers(1, 200)), max_size=4),
    max_size=5,
)
"""Of each shard runs of rows, by the first of each and how many there are."""


def numbered(shards: dict[int, list[tuple[int, int]]], first: int) -> tuple[Numbering, list[int]]:
    """A numbering, and the ids that it should number, in order."""
    builder, ids = NumberingBuilder(), []
    for shard in sorted(shards):
        wanted = np.zeros(ROWS_PER_SHARD, np.bool_)
        for start, count in shards[shard]:
            wanted[start : start + count] = True
        builder.add(shard, wanted)
        ids += [(shard << ROW_BITS) + int(row) for row in np.flatnonzero(wanted)]
    return builder.made(first), ids


@given(SHARDS, st.integers(0, 1 << 40), st.data())
def test_numbers_are_those_of_counting(
    shards: dict[int, list[tuple[int, int]]], first: int, data: st.DataObject
) -> None:
    numbering, ids = numbered(shards, first)
    assert (numbering.count, numbering.stop) == (len(ids), first + len(ids))
    assert numbering.numbers(np.array(ids, np.int64)).tolist() == list(range(first, first + len(ids)))
    others = data.draw(st.lists(st.integers(0, 1 << 57), max_size=20))
    others += [one + step for one in ids[:5] + ids[-5:] for step in (-1, 1, ROWS_PER_SHARD) if one + step >= 0]
    expected = {one: first + place for place, one in enumerate(ids)}
    found = numbering.numbers(np.array(others, np.int64)).tolist()
    assert found == [expected.get(one, NO_NUMBER) for one in others]

    start = data.draw(st.integers(max(0, first - 3), first + len(ids) + 3))
    stop = data.draw(st.integers(start, first + len(ids) + 3))
    some = [(shard << ROW_BITS) + int(row) for shard, rows in numbering.rows_between(start, stop) for row in rows]
    assert some == ids[max(0, start - first) : max(0, stop - first)]


def test_a_shard_whose_rows_are_one_run_takes_no_bits() -> None:
    numbering, _ = numbered({3: [(0, 100)], 4: [(50, 7)]}, 0)
    assert len(numbering.bits) == 0
    assert len(numbered({3: [(0, 100), (101, 1)]}, 0)[0].bits) == 1

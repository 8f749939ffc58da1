"""Rounds of new rows, dead rows and merges: however they came about, lists are those of the living, written once."""

import io
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from transforms.generations.tombstones import Tombstones
from transforms.index.lists.merge import merge_range, merge_segment, merged_sizes
from transforms.index.lists.reader import ListFile
from transforms.index.lists.writer import write_lists
from transforms.records import ROW_BITS
from transforms.tasks.compact import write_living

FINGERPRINT = "1a77" * 16


@dataclass
class Rows:
    """All rows that ever were: `list_nos`, `ids` int64 `(n,)`, `codes` uint8 `(n, code_size)`, and which live."""

    nlist: int
    codes: NDArray[np.uint8]
    list_nos: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    ids: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    alive: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))

    def come(self, generator: np.random.Generator, count: int, shard: int) -> ListFile:
        """Adds rows of a new shard, some of whose rows are in no list. Returns their shard index."""
        first = len(self.ids)
        rows = np.sort(generator.choice(4 * count + 1, count, replace=False))
        self.list_nos = np.append(self.list_nos, generator.integers(0, self.nlist, count) ** 2 // self.nlist)
        self.ids = np.append(self.ids, (shard << ROW_BITS) + rows)
        codes = generator.integers(0, 256, (count, self.codes.shape[1]), dtype=np.uint8)
        self.codes = np.concatenate([self.codes, codes])
        self.alive = np.append(self.alive, np.ones(count, np.bool_))
        return self.written(np.arange(len(self.ids)) >= first)

    def written(self, chosen: NDArray[np.bool_]) -> ListFile:
        """One list file of some rows."""
        out = io.BytesIO()
        write_lists(
            out,
            list_nos=self.list_nos[chosen],
            codes=self.codes[chosen],
            ids=self.ids[chosen],
            nlist=self.nlist,
            fingerprint=FINGERPRINT,
        )
        return ListFile(out, "lists.ivf")

    @property
    def tombstones(self) -> Tombstones:
        return Tombstones.of(self.ids[~self.alive])


def bytes_of(source: ListFile) -> bytes:
    file = source._file
    assert isinstance(file, io.BytesIO)
    return file.getvalue()


def without_dead(source: ListFile, rows: Rows) -> ListFile:
    out = io.BytesIO()
    count, seal = write_living(source, rows.tombstones.are_alive, out)
    made = ListFile(out, "compact.ivf", seal)
    assert made.rows == count
    return made


def merged(blocks: list[ListFile], nlist: int) -> ListFile:
    """The merged lists as a segment; those of a faiss file have the same bodies."""
    out, body = io.BytesIO(), io.BytesIO()
    merge_segment(blocks, range(nlist), out, fingerprint=FINGERPRINT)
    merge_range(blocks, range(nlist), body, fingerprint=FINGERPRINT)
    whole = ListFile(out, "merged.ivf")
    assert whole.read(range(nlist)).body.tobytes() == body.getvalue()
    assert whole.rows == merged_sizes(blocks).sum()
    return whole


@given(
    seed=st.integers(0, 1000),
    nlist=st.sampled_from([1, 2, 7, 64]),
    code_size=st.sampled_from([1, 4, 33]),
    rounds=st.lists(
        st.tuples(st.integers(0, 60), st.floats(0, 0.9), st.sampled_from(["delta", "merge", "merge into one"])),
        min_size=1,
        max_size=8,
    ),
)
def test_any_rounds_leave_the_bytes_of_one_merge_of_what_lives(
    seed: int, nlist: int, code_size: int, rounds: list[tuple[int, float, str]]
) -> None:
    generator = np.random.default_rng(seed)
    rows = Rows(nlist, np.empty((0, code_size), np.uint8))
    blocks = [rows.come(generator, 50, 0)]
    for number, (new, die, then) in enumerate(rounds, start=1):
        rows.alive &= generator.random(len(rows.ids)) >= die
        blocks.append(rows.come(generator, new, number))
        if then == "delta":
            continue
        # As a reindex has it: shard indexes with dead rows are written anew, those without a row are left out.
        blocks = [block for block in (without_dead(block, rows) for block in blocks) if block.rows] or blocks[:0]
        whole = merged(blocks, nlist) if blocks else None
        fresh = rows.written(rows.alive)
        assert fresh.rows == (whole.rows if whole else 0)
        if whole is not None:
            assert bytes_of(whole) == bytes_of(fresh)
            if then == "merge into one":
                blocks = [whole]


@given(seed=st.integers(0, 1000), die=st.floats(0, 1))
def test_what_lives_of_a_shard_index_is_written_as_if_nothing_else_had_been(seed: int, die: float) -> None:
    generator = np.random.default_rng(seed)
    rows = Rows(7, np.empty((0, 5), np.uint8))
    block = rows.come(generator, 80, 3)
    rows.alive &= generator.random(len(rows.ids)) >= die
    once = without_dead(block, rows)
    assert bytes_of(once) == bytes_of(rows.written(rows.alive))
    assert bytes_of(without_dead(once, rows)) == bytes_of(once)

"""How long lists are: figures of a merged index, of deltas, and of both."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import build
from tests.end_to_end.reindexing import collection, generation_of, run
from transforms.index.training.passes import imbalance
from transforms.report.lists import Histogram, ListFigures, lists_of
from transforms.storage.store import Store
from transforms.upkeep.listed_ids import list_sizes


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=300))
def test_a_histogram_has_each_list_once(sizes: list[int]) -> None:
    made = Histogram.of(np.array(sizes, np.int64))
    assert sum(made.counts) == len(sizes)
    assert len(made.edges) == len(made.counts) + 1 and made.edges[0] == 0
    for low, high, count in zip(made.edges, made.edges[1:-1], made.counts[:-1], strict=False):
        assert count == sum(low <= size < high for size in sizes)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=300))
def test_figures_are_those_of_the_sizes(sizes: list[int]) -> None:
    made = ListFigures.of(np.array(sizes, np.int64))
    assert (made.codes, made.lists, made.most) == (sum(sizes), len(sizes), max(sizes))
    assert made.empty == sizes.count(0)
    assert made.imbalance == pytest.approx(imbalance(np.array(sizes)), abs=1e-3)
    assert [codes for _, codes in made.largest] == [size for size in sorted(sizes, reverse=True)[:5] if size]


def test_sizes_are_read_of_the_merged_index_and_of_deltas_apart(tmp_path: Path) -> None:
    grown, root = collection(tmp_path / "collection", 40, 0), tmp_path / "root"
    assert build.main(["--root", str(root), *grown.arguments, "--no-report"]) == 0
    before = generation_of(root).totals.vectors
    grown.pictures |= {f"q{number:03}": 500 + number for number in range(6)}
    del grown.pictures["p000"]
    grown.write()
    assert run(root, "--retrain", "never", "--max-tombstones", "1") == 0

    store, generation = Store.at(str(root)), generation_of(root)
    merged, added = list_sizes(store, generation)
    assert (merged.sum(), added.sum()) == (before, 6)
    assert len(merged) == len(added) == generation.trained.nlist
    made = lists_of(store, generation)
    assert made.deltas is not None and made.deltas.codes == 6
    assert made.both.codes == generation.totals.vectors + generation.totals.tombstones

"""Rounds of new, changed and gone rows, deltas and merges: the index is that of one merge of what lives, to the bit."""

from pathlib import Path

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines import build, verify
from tests.end_to_end import reindexing
from tests.end_to_end.builds import generation_of, make_work_small, rows_of
from tests.end_to_end.reindexing import Collection, build_with_trained_of, collection, deltas
from tests.tiers import mostly_gate
from transforms.generations import tombstones
from transforms.storage.store import Store

ROUNDS = 5
KEYS = ["OPQ4_8,IVF4,PQ4x4", "PCA8,IVF4,SQ4"]
"""Codes without floats: a root that is built anew encodes rows in other slots, which may change their last bits."""
Row = tuple[str, str, int]
"""Key, modality and part."""


def change(items: Collection, night: int) -> None:
    """A night: some are new, some change, some go, some come back that went."""
    generator = np.random.default_rng(night)
    names, keys = list(items.pictures), list(items.rows)
    for name in generator.choice(names, 8, replace=False).tolist():
        del items.pictures[name]
    for name in generator.choice(list(items.pictures), 6, replace=False).tolist():
        items.pictures[name] = 5_000 + 100 * night + len(name)
    items.pictures |= {f"n{night:02d}-{number}": 9_000 + 100 * night + number for number in range(8)}
    items.pictures |= {
        name: int(name[1:]) for name in ("p001", "p002") if name not in items.pictures and night % 3 == 0
    }
    for key in generator.choice(keys, 3, replace=False).tolist():
        del items.rows[key]
    for key in generator.choice(list(items.rows), 3, replace=False).tolist():
        items.rows[key] = (f"other words of night {night}", items.rows[key][1])
    items.rows |= {f"r{night:02d}-{number}": (f"row {night} {number}", 700 + number) for number in range(3)}
    items.write()


def living(root: Path) -> tuple[list[Row], NDArray[np.int64], NDArray[np.float32]]:
    """What every row is, its id and its vector, of all rows of the shards that live, in the order of their ids."""
    dead = tombstones.read_all(Store.at(str(root)), generation_of(root).tables.tombstones)
    rows = sorted(rows_of(root, ["id", "key", "modality", "part", "embedding"]))
    alive = dead.are_alive(np.array([row[0] for row in rows], np.int64))
    rows = [row for row, lives in zip(rows, alive.tolist(), strict=True) if lives]
    return (
        [(row[1], row[2], row[3]) for row in rows],
        np.array([row[0] for row in rows], np.int64),
        np.array([row[4] for row in rows], np.float32),
    )


def lists_of(root: Path) -> dict[Row, tuple[int, bytes]]:
    """The list and the code of every row of the merged index."""
    what, ids, _ = living(root)
    name = dict(zip(ids.tolist(), what, strict=True))
    whole = faiss.read_index(str(root / generation_of(root).index.path))  # the name keeps what is in it alive
    index = faiss.extract_index_ivf(whole)
    lists = index.invlists
    found: dict[Row, tuple[int, bytes]] = {}
    for number in range(index.nlist):
        size = lists.list_size(number)
        if not size:
            continue
        ids = faiss.rev_swig_ptr(lists.get_ids(number), size)
        codes = faiss.rev_swig_ptr(lists.get_codes(number), size * lists.code_size).reshape(size, -1)
        assert (np.diff(ids) > 0).all(), "ids ascend in a list"
        found |= {name[id]: (number, code.tobytes()) for id, code in zip(ids.tolist(), codes, strict=True)}
        assert len(found) <= len(name)
    return found


@pytest.mark.parametrize("key", mostly_gate(KEYS, quick=[]))
def test_five_rounds_are_one_merge_of_what_lives_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    make_work_small(monkeypatch)
    items, root = collection(tmp_path / "sources", pictures=200, rows=40), tmp_path / "root"
    assert build.main(["--root", str(root), *items.arguments, "--index-key", key]) == 0
    trained = generation_of(root).trained
    for number in range(ROUNDS):
        change(items, 2 * number)
        assert reindexing.run(root, "--retrain", "never", "--max-tombstones", "1") == 0  # beside what is merged
        assert deltas(root)
        change(items, 2 * number + 1)
        assert reindexing.run(root, "--retrain", "never", "--max-deltas", "0") == 0
        generation = generation_of(root)
        assert (generation.trained, deltas(root), generation.totals.tombstones) == (trained, 0, 0)

        what, ids, vectors = living(root)
        assert len(set(what)) == len(what) == generation.totals.vectors
        alone = faiss.read_index(str(root / trained.index.path))
        alone.add_with_ids(vectors, ids)
        faiss.write_index(alone, str(tmp_path / "alone.faiss"))
        assert (root / generation.index.path).read_bytes() == (tmp_path / "alone.faiss").read_bytes()

    build_with_trained_of(root, tmp_path / "anew", [*items.arguments, "--index-key", key], monkeypatch)
    assert lists_of(root) == lists_of(tmp_path / "anew")
    assert verify.main(["--root", str(root)]) == 0

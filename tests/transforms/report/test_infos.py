"""`index_infos.json` of a report says what autofaiss means by its names."""

import json
from pathlib import Path

import faiss
import numpy as np
import pytest

from tests.end_to_end.builds import generation_of
from tests.transforms.export.exported import DIM, made, root, shard
from transforms.generations import tables
from transforms.index.reconstruction import reconstruction_error
from transforms.report import draw, infos
from transforms.report.facts import gather
from transforms.storage.store import Store

PICTURES = [shard(40 * number, 40) for number in range(3)]
RANDOM = np.random.default_rng(3).standard_normal((300, DIM)).astype(np.float32)
TRAINED_ON = RANDOM / np.linalg.norm(RANDOM, axis=1, keepdims=True)


def infos_of(store: Store, folder: Path) -> dict[str, float]:
    facts = gather(store, generation_of(folder), lambda: None)
    assert facts.samples is not None, facts.unread
    return infos.infos_of(facts)


@pytest.mark.parametrize("key", ["OPQ4_8,IVF4,PQ4x4np", "IVF4,SQ8", "IVF4,RaBitQ"])
def test_the_reconstruction_error_is_that_of_an_export_for_autofaiss(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draw, "runs", draw.single)  # which draws all of so few rows, as an export takes them
    store = root(tmp_path / "root", key, PICTURES, {3}, train_on=TRAINED_ON)
    made(store, tmp_path / "out", "autofaiss")
    exported = json.loads((tmp_path / "out/index_infos.json").read_text())["reconstruction error %"]
    assert infos_of(store, tmp_path / "root")["reconstruction error %"] == pytest.approx(exported, abs=1e-3)


def test_codes_that_nobody_decodes_have_no_error() -> None:
    class Undecodable:
        def sa_encode(self, vectors: object) -> object:
            return vectors

        def sa_decode(self, codes: object) -> object:
            raise RuntimeError("standalone codec not implemented for this type of index")

    some = np.ones((2, DIM), np.float32)
    assert reconstruction_error(Undecodable(), some) is None
    assert reconstruction_error(faiss.IndexFlatL2(DIM), some) == 0
    assert reconstruction_error(faiss.IndexFlatL2(DIM), some[:0]) is None
    assert reconstruction_error(faiss.IndexFlatL2(DIM), 0 * some) is None


def test_the_compression_is_that_of_the_rows_in_the_merged_index(tmp_path: Path) -> None:
    store = root(tmp_path / "root", "IVF4,SQ8", PICTURES, {3}, train_on=TRAINED_ON)
    generation = generation_of(tmp_path / "root")
    blocks = tables.blocks_of(store, generation)
    merged = sum(block.rows for block in blocks if block.merged)
    assert merged < generation.totals.vectors
    ratio = 4 * DIM * merged / generation.index.bytes
    assert infos_of(store, tmp_path / "root")["compression ratio"] == pytest.approx(ratio, abs=1e-3)

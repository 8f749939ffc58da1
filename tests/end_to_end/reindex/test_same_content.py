"""Whole roots: the same picture is found once, however its vector is stored; of ready embeddings, the same vector."""

import io
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import pixdex
from pipelines import build, reindex
from tests.corpora import write_pictures
from tests.tiers import mostly_gate
from tests.transforms.ready import random_vectors, save_npy, save_parquet

pytestmark = pytest.mark.gate

TINY = ("--encoder", "tests.encoders:TinyEncoder", "--no-progress")


def keys(root: Path, vector: object, **how: object) -> list[str]:
    with pixdex.open(root, encoder="tests.encoders:TinyEncoder") as opened:
        hits = opened.search(vector=vector, **how)  # type: ignore[arg-type]
    return [hit.key.rpartition("/")[2] for hit in hits]


def packed(picture: Path, level: int) -> bytes:
    stream = io.BytesIO()
    PIL.Image.open(picture).save(stream, "png", compress_level=level)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["f16", "sq8", "none", "flat"])
def test_copies_that_came_at_another_night_are_the_same(tmp_path: Path, kind: str) -> None:
    pictures, root = tmp_path / "pictures", tmp_path / "root"
    paths = write_pictures(pictures, 60)
    for number in range(3):
        shutil.copy(paths[number], pictures / f"z_copy{number}.png")
    (pictures / "z_packed.png").write_bytes(packed(paths[0], 0))
    index = ("--index-key", "Flat") if kind == "flat" else ("--index-key", "IVF2,PQ4x4", "--refine-store", kind)
    assert build.main(["--root", str(root), "--images", str(pictures), *index, *TINY]) == 0
    shutil.copy(paths[0], pictures / "zz_later.png")
    write_pictures(tmp_path / "others", 40, seed=7)
    for number, path in enumerate((tmp_path / "others").iterdir()):
        path.rename(pictures / f"other{number}.png")
    assert reindex.main(["--root", str(root), "--retrain", "never", "--no-progress", "--encoder", TINY[1]]) == 0
    with pixdex.open(root, encoder=TINY[1]) as opened:
        first = opened.search(image=paths[0], k=200, nprobe=2, shortlist=200)
        once = opened.search(image=paths[0], k=200, nprobe=2, shortlist=200, dedup="content")
    left = {hit.key for hit in first} - {hit.key for hit in once}
    assert len(first) == 105 and len(once) == 101
    same = {f"file://{path}" for path in (paths[0], pictures / "z_copy0.png", pictures / "zz_later.png")}
    assert len(left & same) == 2
    assert not any("packed" in key or "other" in key for key in left)


COSINES, DISTANCES = (), ("--no-normalize", "--metric-type", "l2")
EVERY = [(kind, flags) for flags in (COSINES, DISTANCES) for kind in ("f16", "sq8", "none")]
SLOW = [("sq8", COSINES), ("f16", DISTANCES), ("none", DISTANCES)]


@pytest.mark.parametrize(("kind", "flags"), mostly_gate(EVERY, quick=[("f16", COSINES)], slow=SLOW))
def test_equal_ready_embeddings_are_one_result_and_near_ones_are_not(
    tmp_path: Path, kind: str, flags: tuple[str, ...]
) -> None:
    vectors = random_vectors(300, 16, "<f4")
    vectors[200] = vectors[10]
    vectors[120] = vectors[10] * np.float32(1.01) + 0.01 * vectors[11]
    vectors[0] *= 1000  # which makes steps of bytes large
    save_npy(tmp_path / "ready" / "a.npy", vectors[:100])
    save_parquet(tmp_path / "ready" / "b.parquet", np.concatenate([vectors[100:], vectors[10:12]]))
    root, words = tmp_path / "root", ("--index-key", "IVF2,PQ4x4", "--refine-store", kind, "--no-progress", *flags)
    assert build.main(["--root", str(root), "--vectors", str(tmp_path / "ready"), *words]) == 0
    every = {"k": 400, "nprobe": 2, "shortlist": 400}
    before, once = keys(root, vectors[10], **every), keys(root, vectors[10], **every, dedup="content")
    assert (len(before), len(once)) == (302, 299)
    assert len({"a.npy#10", "b.parquet#100", "b.parquet#200"} & set(once)) == 1
    assert len({"a.npy#11", "b.parquet#201"} & set(once)) == 1
    assert "b.parquet#20" in once

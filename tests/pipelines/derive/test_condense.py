"""`pixdex condense`: a root of exactly so many rows, each of which stands for some."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pixdex
from pipelines import build, condense, verify
from tests.end_to_end.builds import content, generation_of, make_work_small
from tests.pipelines.derive import roots
from tests.pipelines.derive.roots import Rows, rows_of
from tests.tiers import mostly_gate
from transforms.index.derived.condensed import condensed
from transforms.records import MODALITIES
from transforms.tasks.derive import cut


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return roots.make(tmp_path_factory.mktemp("condense"))


def made(root: Path, to: Path, rows: int, *words: str) -> Rows:
    assert condense.main(["--root", str(root), "--to", str(to), "--rows", str(rows), "--no-progress", *words]) == 0
    return rows_of(to)


def test_it_has_exactly_so_many_rows_and_each_is_the_centre_of_its_cluster(root: Path, tmp_path: Path) -> None:
    before, after = rows_of(root), made(root, tmp_path / "new", 40)
    assert len(after.vectors) == 40 == generation_of(tmp_path / "new").totals.vectors
    for modality in MODALITIES:
        old, new = before.of(modality), after.of(modality)
        assert abs(len(new) - 40 * len(old) / len(before.vectors)) <= 1
        # All of a kind are one group here, in the order of ids.
        centres, places = condensed(before.vectors[old], len(new), spherical=True, seed=0)
        stored = centres.astype(np.float16).astype(np.float32)
        chosen = before.table.take(old[places]).drop_columns(["id", "part"]).to_pylist()
        wanted = {(row["key"], row["caption"]): (row, vector) for row, vector in zip(chosen, stored, strict=True)}
        got = after.table.take(new).drop_columns(["id", "part"]).to_pylist()
        assert len(wanted) == len(got)
        for row, vector in zip(got, after.vectors[new], strict=True):
            expected, centre = wanted[row["key"], row["caption"]]
            assert row == expected and (vector == centre).all()
    assert verify.main(["--root", str(tmp_path / "new")]) == 0


def test_in_groups_there_are_as_many_and_each_list_has_its_share(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_work_small(monkeypatch)
    after = made(root, tmp_path / "new", 77)
    assert len(after.vectors) == 77 and generation_of(tmp_path / "new").totals.shards > 1
    names = [(key, kind, caption) for key, kind, caption in zip(
        *(after.table[name].to_pylist() for name in ("key", "modality", "caption")), strict=True
    )]  # fmt: skip
    before = rows_of(root).table
    there = set(zip(*(before[name].to_pylist() for name in ("key", "modality", "caption")), strict=True))
    assert len(set(names)) == 77 and set(names) <= there
    assert verify.main(["--root", str(tmp_path / "new")]) == 0
    with pixdex.open(tmp_path / "new") as opened:
        hits = opened.search(vector=after.vectors[0], k=77, nprobe=99, modality="any")
    shown = {uri if uri.endswith(".png") else key for key, uri in zip(
        *(after.table[name].to_pylist() for name in ("key", "uri")), strict=True
    )}  # fmt: skip
    assert {hit.uri if hit.uri.endswith(".png") else hit.key for hit in hits} == shown and len(hits) == len(shown)
    assert max(Counter(key for key, _, _ in names).values()) > 1


def test_a_list_with_too_many_rows_is_cut(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cut, "GROUP_ROWS", 8)
    monkeypatch.setattr(cut, "ROWS_PER_SHARD", 16)
    after = made(root, tmp_path / "new", 50)
    assert len(set(after.names())) == 50
    assert {name[0] for name in after.names()} <= {name[0] for name in rows_of(root).names()}


def test_as_many_as_there_are_stay_as_they_are(root: Path, tmp_path: Path) -> None:
    before = rows_of(root)
    after = made(root, tmp_path / "new", len(before.vectors))
    old, new = ({name: place for place, name in enumerate(rows.names())} for rows in (before, after))
    assert old.keys() == new.keys()
    order = [new[name] for name in before.names()]
    assert (after.vectors[order] == before.vectors).all()


def test_rows_of_each_value_of_a_column_are_condensed_apart(tmp_path: Path) -> None:
    assert build.main(["--root", str(tmp_path / "root"), *roots.write_ready(tmp_path / "ready", 300)]) == 0
    after = made(tmp_path / "root", tmp_path / "new", 31, "--by", "label")
    labels = after.table["label"].to_pylist()
    assert sorted(Counter(labels).values()) == [10, 10, 11]  # a hundred rows have each
    ready = np.load(tmp_path / "ready" / "rows.npy")
    ready /= np.linalg.norm(ready, axis=1, keepdims=True)
    for label in range(3):
        mine = np.flatnonzero(np.array(labels) == label)
        of_label = ready[label::3]
        centres, places = condensed(of_label, len(mine), spherical=True, seed=0)
        own = [int(key.rpartition("#")[2]) for key in after.table["key"].take(mine).to_pylist()]
        assert own == (3 * places + label).tolist()
        np.testing.assert_allclose(after.vectors[mine], centres, atol=1e-6)


def test_rare_values_have_their_share_over_many_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cut, "GROUP_ROWS", 40)
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.array(["common"] * 1800 + ["rare"] * 120 + [None] * 80, object)).tolist()
    (tmp_path / "ready").mkdir()
    np.save(tmp_path / "ready" / "rows.npy", rng.standard_normal((2000, 8)).astype(np.float32))
    tags = [[str(label), "x"] for label in labels]
    pq.write_table(pa.table({"label": labels, "tags": tags}), tmp_path / "ready" / "rows.parquet")
    sources = (
        "--vectors",
        str(tmp_path / "ready" / "rows.npy"),
        "--metadata",
        str(tmp_path / "ready" / "rows.parquet"),
    )
    assert build.main(["--root", str(tmp_path / "root"), *sources, "--index-key", "IVF64,Flat", "--no-progress"]) == 0
    counts = Counter(made(tmp_path / "root", tmp_path / "new", 200, "--by", "label").table["label"].to_pylist())
    assert counts.total() == 200 and 5 <= counts["rare"] <= 20 and 3 <= counts[None] <= 15
    counts = Counter(
        map(str, made(tmp_path / "root", tmp_path / "lists", 200, "--by", "tags").table["tags"].to_pylist())
    )
    assert counts.total() == 200 and len(counts) == 3


def test_a_column_that_no_row_has_is_refused(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--root", str(root), "--to", str(tmp_path / "new"), "--rows", "5", "--by", "colour"]
    assert condense.main(words) == 2
    assert "has no column colour" in capsys.readouterr().err


def test_the_seed_chooses_the_rows(root: Path, tmp_path: Path) -> None:
    for name, seed in (("one", "1"), ("again", "1"), ("other", "2")):
        made(root, tmp_path / name, 30, "--seed", seed)
    one, again, other = (content(tmp_path / name) for name in ("one", "again", "other"))
    assert one == again != other


@pytest.mark.parametrize(
    ("metric", "key"), mostly_gate([("l2", "IVF4,Flat"), ("ip", "IVF4,SQ8")], [("l2", "IVF4,Flat")])
)
def test_of_ready_embeddings(tmp_path: Path, metric: str, key: str) -> None:
    words = (*roots.write_ready(tmp_path / "ready"), "--index-key", key, "--metric-type", metric)
    assert build.main(["--root", str(tmp_path / "root"), *words, "--no-normalize"]) == 0
    after = made(tmp_path / "root", tmp_path / "new", 30)
    raw = np.load(tmp_path / "ready" / "rows.npy")
    places = [int(name.rpartition("#")[2]) for name in after.table["key"].to_pylist()]
    assert len(set(places)) == 30
    assert after.table["label"].to_pylist() == [place % 3 for place in places]
    # Means of rows, shorter than these, and nearer to their own row than to most.
    assert np.linalg.norm(after.vectors, axis=1).mean() < np.linalg.norm(raw, axis=1).mean()
    distances = ((raw[None] - after.vectors[:, None]) ** 2).sum(axis=2)
    assert (distances[np.arange(30), places] <= np.sort(distances, axis=1)[:, 3]).all()
    made(tmp_path / "new", tmp_path / "newer", 5)  # a root that was condensed is a root

"""Exact scores: whatever nights made of an index, a shortlist of all rows finds what exact codes would find."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pixdex
from pipelines import build, gc, verify
from pipelines import search as command_of
from tests import s3
from tests.end_to_end import reindexing
from tests.end_to_end.reindexing import QUERIES, Collection, collection, deltas, generation_of
from transforms.generations import manifest, tables
from transforms.record_json import encode
from transforms.search.hits import Hit
from transforms.search.searcher import Searcher
from transforms.shards.stored_vectors import Extent, VectorWriter, opened_vectors
from transforms.storage import layout
from transforms.storage.store import Store

pytestmark = pytest.mark.gate

CODES = ("--index-key", "IVF4,PQ4x4")
EVERY_ROW = 10_000
KINDS = ("f16", "sq8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection, the index of its exact vectors, and one of each kind of codes with stored vectors."""
    folder = tmp_path_factory.mktemp("refined")
    made = collection(folder / "sources")
    assert build.main(["--root", str(folder / "exact"), *made.arguments, "--index-key", "IVF4,Flat"]) == 0
    for kind in (*KINDS, "none"):
        assert build.main(["--root", str(folder / kind), *made.arguments, *CODES, "--refine-store", kind]) == 0
    return folder


@pytest.fixture
def roots(folder: Path, tmp_path: Path) -> Path:
    for name in ("exact", *KINDS):
        shutil.copytree(folder / name, tmp_path / name)
    return tmp_path


def search(root: Path, shortlist: int | None = EVERY_ROW) -> list[list[Hit]]:
    searcher = Searcher.open(Store.at(str(root)))
    hits = [searcher.search(QUERIES, 10, 4, modality, shortlist) for modality in ("image", "text", None)]
    return [found for one in hits for found in one]


def assert_exact(roots: Path) -> None:
    wanted = search(roots / "exact")
    assert all(hit.exact for hits in wanted for hit in hits)
    for kind, error in (("f16", 2e-3), ("sq8", 1e-2)):
        found = search(roots / kind)
        assert all(hit.exact for hits in found for hit in hits)
        for mine, theirs in zip(found, wanted, strict=True):
            assert [hit.score for hit in mine] == pytest.approx([hit.score for hit in theirs], abs=error)
            last = theirs[-1].score
            ours = {hit.key for hit in mine}
            assert all(hit.key in ours for hit in theirs if hit.score > last + 2 * error)
        assert verify.main(["--root", str(roots / kind)]) == 0


def night(roots: Path, *flags: str) -> None:
    for name in ("exact", *KINDS):
        assert reindexing.run(roots / name, *flags) == 0


def stored(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "vectors").rglob("*") if path.is_file())


def test_a_shortlist_of_all_rows_is_exact_and_none_is_not(folder: Path) -> None:
    assert_exact(folder)
    codes, exact = search(folder / "f16", 0), search(folder / "exact")
    assert not any(hit.exact for hits in codes for hit in hits)
    assert [[hit.key for hit in hits] for hits in codes] != [[hit.key for hit in hits] for hits in exact]
    assert search(folder / "none") == codes == search(folder / "sq8", 0)


def test_an_index_whose_codes_are_exact_stores_no_vectors(folder: Path) -> None:
    assert [bool(stored(folder / name)) for name in ("f16", "sq8", "none", "exact")] == [True, True, False, False]


def test_a_shortlist_is_at_least_the_results_wanted(folder: Path) -> None:
    searcher = Searcher.open(Store.at(str(folder / "f16")))
    ((short,), (long,)) = (searcher.search(QUERIES[:1], 30, 4, "image", rows) for rows in (1, EVERY_ROW))
    assert len(short) == len(long) == 30 and all(hit.exact for hit in short)
    assert [hit.score for hit in short] == sorted((hit.score for hit in short), reverse=True)


def test_it_is_exact_through_deltas_tombstones_compaction_and_retraining(
    folder: Path, roots: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = collection(folder / "sources")
    try:
        _live_through(items, roots)
    finally:
        collection(folder / "sources")
    capsys.readouterr()


def _live_through(items: Collection, roots: Path) -> None:
    items.pictures |= {f"q{number}": 3000 + number for number in range(30)}
    del items.pictures["p001"], items.rows["k003"]
    items.write()
    night(roots, "--max-deltas", "9", "--max-tombstones", "1")
    assert [deltas(roots / kind) for kind in KINDS] == [1, 1] and generation_of(roots / "f16").totals.tombstones
    assert all(len(stored(roots / kind)) == 2 for kind in KINDS)
    assert_exact(roots)

    for number in range(10, 40):
        items.pictures[f"p{number:03d}"] = 5000 + number
    items.write()
    night(roots, "--max-deltas", "0")
    assert [deltas(roots / kind) for kind in KINDS] == [0, 0] and not generation_of(roots / "f16").totals.tombstones
    assert_exact(roots)

    night(roots, "--retrain", "always")
    assert_exact(roots)
    for kind in KINDS:
        assert gc.main(["--root", str(roots / kind), "--keep", "1", "--older-than", "0s"]) == 0
        assert len(stored(roots / kind)) == 1
    assert_exact(roots)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server."""
    with s3.serving() as address:
        yield address


def test_it_is_exact_on_an_object_store(
    folder: Path, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    items = collection(folder / "sources")
    with s3.bucket_of(server) as bucket:
        for kind in KINDS:
            assert build.main(["--root", f"{bucket}/{kind}", *items.arguments, *CODES, "--refine-store", kind]) == 0
            for shortlist in (7, EVERY_ROW):
                searcher = Searcher.open(Store.at(f"{bucket}/{kind}"), check=True)
                hits = searcher.search(QUERIES, 10, 4, "image", shortlist)
                local = Searcher.open(Store.at(str(folder / kind))).search(QUERIES, 10, 4, "image", shortlist)
                assert hits == local


@pytest.mark.parametrize("command", ["verify", "search"])
def test_a_file_of_vectors_that_is_damaged_is_named(
    roots: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    (name,) = stored(roots / "f16")
    file = roots / "f16" / "vectors" / "none" / name
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    capsys.readouterr()
    root = ["--root", str(roots / "f16")]
    if command == "verify":
        assert verify.main([*root, "--json"]) == 1
        (finding,) = json.loads(capsys.readouterr().out.splitlines()[-1])["findings"]
        assert name in str(finding) and "rows 0 to" in str(finding)
        return
    np.save(roots / "query.npy", QUERIES[0])
    assert command_of.main([*root, "--vector", str(roots / "query.npy"), "--check"]) == 1
    assert name in capsys.readouterr().err
    file.unlink()
    assert command_of.main([*root, "--vector", str(roots / "query.npy")]) == 1
    assert name in capsys.readouterr().err
    assert command_of.main([*root, "--vector", str(roots / "query.npy"), "--shortlist", "0"]) == 0


def test_vectors_of_other_shards_are_named(roots: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, (name,) = roots / "f16", stored(roots / "f16")
    store, current = Store.at(str(root)), generation_of(root)
    (block,) = tables.blocks_of(store, current)
    assert block.vectors is not None
    shards = opened_vectors(store, block.vectors).extent.shards
    file = roots / "other.f16"
    with file.open("wb") as out:
        length, checksum = VectorWriter(out, Extent.of("f16", 16, [(int(shard) + 1, 9) for shard in shards])).finish()
    other = store.upload(file, layout.VECTORS, "other", f"xxh3:{checksum}")
    assert other.bytes == length
    table = tables.write_blocks(store, [replace(block, vectors=other)])
    forged = replace(current, tables=replace(current.tables, blocks=table))
    (root / layout.generation(current.generation)).write_bytes(encode(manifest.seal(forged)))
    capsys.readouterr()
    assert verify.main(["--root", str(root)]) == 1
    err = capsys.readouterr().err
    assert "other-" in err and "rows of shard" in err and name not in err


def test_an_item_is_a_query_and_what_it_finds_expands_it(folder: Path) -> None:
    for name in ("exact", *KINDS):
        with pixdex.open(folder / name) as root:
            first = root.search(vector=QUERIES[0], modality="image", k=3, shortlist=EVERY_ROW)
            alike = root.search(like=first[0].key, k=4, nprobe=4, shortlist=EVERY_ROW)
            assert alike[0].key == first[0].key and alike[0].score == pytest.approx(1, abs=5e-3)
            both = root.search(like=[hit.key for hit in first], weights=[1, 0, 0], k=4, nprobe=4, shortlist=EVERY_ROW)
            assert [hit.key for hit in both] == [hit.key for hit in alike]
            same = root.search(like=first[0].key, k=4, nprobe=4, shortlist=EVERY_ROW, expand=0)
            assert same == alike
            wide = root.search(like=first[0].key, k=4, nprobe=4, shortlist=EVERY_ROW, expand=3, alpha=1)
            assert wide[0].score < 1 and {hit.key for hit in wide[:2]} & {hit.key for hit in alike[:2]}
            near = root.search(like=first[0].key, k=9, nprobe=4, shortlist=EVERY_ROW, dedup=0.5)
            vectors = root.search_many(
                like=[hit.key for hit in near], k=9, nprobe=4, shortlist=EVERY_ROW, min_score=0.51
            )
            pairs = list(zip(vectors["query"].to_pylist(), vectors["key"].to_pylist(), strict=True))
            for number in range(len(near)):
                assert not {near[other].key for other in range(number)} & {
                    key for query, key in pairs if query == number
                }
            with pytest.raises(pixdex.UsageError, match="has no item of the key 'none'"):
                root.search(like="none")


def test_a_condition_finds_the_nearest_of_what_it_leaves(folder: Path) -> None:
    conditions = (
        "text LIKE '%3'",
        "key LIKE '%#k00_' OR key LIKE '%/p01_.png'",
        "modality = 'text' AND text > 'text 2'",
    )
    for condition in conditions:
        found = {}
        for name in ("exact", *KINDS):
            searcher = Searcher.open(Store.at(str(folder / name)))
            found[name] = searcher.search(QUERIES, 5, modality=None, where=condition)
            assert all(hit.exact for hits in found[name] for hit in hits)
        for kind, error in (("f16", 2e-3), ("sq8", 1e-2)):
            for mine, theirs in zip(found[kind], found["exact"], strict=True):
                assert len(mine) == len(theirs) > 0
                assert [hit.score for hit in mine] == pytest.approx([hit.score for hit in theirs], abs=error)


def test_the_command_line_answers_as_the_api_does(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pixdex.open(folder / "f16") as root:
        key = root.search("text 7", k=1)[0].key
        wanted = root.search(["text 7", "text 8"], like=key, weights=[1, 0.5, 2], minus="text 9", k=5, expand=2)
    capsys.readouterr()
    words = ["text 7", "text 8", "--like", key, "--weight", "1", "--weight", ".5", "--weight", "2", "--not", "text 9"]
    more = ["-k", "5", "--expand", "2", "--json"]
    assert command_of.main(["--root", str(folder / "f16"), *words, *more]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])["results"]
    assert [(hit["key"], hit["exact"]) for hit in said] == [(hit.key, True) for hit in wanted]
    assert command_of.main(["--root", str(folder / "f16"), *words, "--weight", "1", *more]) == 2
    assert "4 weights for 3 queries" in capsys.readouterr().err

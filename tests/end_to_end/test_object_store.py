"""Whole builds on object stores: servers in processes of their own, reached as a user would reach a store.

S3 is moto's, Cloud Storage is fake-gcs-server.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipelines import build, gc, inspect, reindex, search, verify
from tests import gcs, s3
from tests.end_to_end.builds import TINY, make_work_small, run_here, write_corpus
from tests.jobs import JOBS
from tests.tiers import mostly_gate
from transforms.errors import UsageError
from transforms.generations import published
from transforms.generations.manifest import Generation
from transforms.index.lists.format import ID_BYTES
from transforms.index.lists.opened import open_lists
from transforms.index.lists.writer import write_lists
from transforms.records import Source
from transforms.sources.left_out import Tally
from transforms.sources.pictures import PictureListing
from transforms.storage import uris
from transforms.storage.store import Store

ROWS = 200
KEY = ("--index-key", "IVF4,Flat")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server that lives as long as the tests of this file."""
    with s3.serving() as address:
        yield address


@pytest.fixture(scope="module")
def gcs_server() -> Iterator[str]:
    """The address of a Cloud Storage server that lives as long."""
    with gcs.serving() as address:
        yield address


@pytest.fixture(params=["s3", "gs"])
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A new bucket, as `s3://name` or `gs://name`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if request.param == "gs":
        with gcs.bucket_of(request.getfixturevalue("gcs_server")) as name:
            yield name
    else:
        with s3.bucket_of(request.getfixturevalue("server")) as name:
            yield name


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    file = tmp_path / "rows.csv"
    file.write_text("text\n" + "".join(f"words {number}\n" for number in range(ROWS)), encoding="utf-8")
    return file


def argv_of(root: object, csv: Path) -> list[object]:
    return ["--root", root, "--csv", csv, "--text-column", "text", *KEY, *TINY]


def generation_of(root: object) -> tuple[Store, Generation]:
    store = Store.at(str(root))
    generation = published.current(store)
    assert generation is not None
    return store, generation


def changed(store: Store, path: str) -> object:
    """When an object was last written."""
    info = store.filesystem.info(path)
    return info.get("LastModified") or info["updated"]


def found(root: object, capsys: pytest.CaptureFixture[str]) -> list[str]:
    capsys.readouterr()
    assert search.main(["--root", str(root), "words 17", "-k", "5", "--json"]) == 0
    return [line.replace(str(root), "ROOT") for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("bucket", mostly_gate(["s3", "gs"], quick=["gs"]), indirect=True)
def test_a_build_on_a_bucket_finds_what_one_on_a_folder_finds(
    bucket: str, csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_work_small(monkeypatch)
    for root in (f"{bucket}/root", tmp_path / "root"):
        done = run_here(capsys, *argv_of(root, csv))
        assert done.code == 0, done.err
    store, generation = generation_of(f"{bucket}/root")
    assert generation.totals.blocks > 1
    assert generation.index.path == "index/000001" and generation.is_segmented
    assert found(f"{bucket}/root", capsys) == found(tmp_path / "root", capsys)

    assert inspect.main(["--root", store.url, "--files"]) == 0
    listed = capsys.readouterr().out.split()
    assert sorted(listed) == published.files(store, generation)
    assert all(store.exists(path) for path in listed)
    assert any(path.startswith("index/000001/segment-00000-") for path in listed)

    (copy,) = (tmp_path / "cache" / "pixdex").glob("*/*/index.faiss")
    local = tmp_path / "root" / "index" / "000001" / "index.faiss"
    assert copy.read_bytes() == local.read_bytes()
    before = copy.stat().st_mtime_ns
    found(f"{bucket}/root", capsys)
    assert copy.stat().st_mtime_ns == before, "the copy was made again"


@pytest.mark.parametrize(
    "bucket",
    [pytest.param("gs", marks=pytest.mark.gate), pytest.param("s3", marks=pytest.mark.slow)],
    indirect=True,
)
def test_pictures_and_rows_are_read_where_the_root_is(
    bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = write_corpus(tmp_path / "corpus", count=20)
    store = Store.at(f"{bucket}/root")
    store.filesystem.put(str(tmp_path / "corpus"), f"{bucket}/corpus", recursive=True)
    source = ["--csv", f"{bucket}/corpus/{rows.name}", "--image-column", "image", "--text-column", "description"]
    done = run_here(capsys, "--root", store.url, *source, "--images", f"{bucket}/corpus/pictures/g0_*.png", *TINY)
    assert done.code == 0, done.err
    totals = generation_of(store.url)[1].totals
    assert (totals.images, totals.texts, totals.rejected) == (27, 20, 0)


@pytest.mark.parametrize(
    ("bucket", "stage"),
    [
        pytest.param("s3", "embed", marks=pytest.mark.gate),
        pytest.param("gs", "add", marks=pytest.mark.slow),
        pytest.param("gs", "embed", marks=pytest.mark.slow),
        pytest.param("s3", "add", marks=pytest.mark.slow),
    ],
    indirect=["bucket"],
)
def test_an_interrupted_build_goes_on_where_it_was(
    bucket: str, csv: Path, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [str(word) for word in argv_of(f"{bucket}/root", csv)]
    assert JOBS[stage](argv) == 0
    store = Store.at(f"{bucket}/root")
    before = {path: changed(store, path) for path in store.filesystem.find(store.full("plans"))}
    capsys.readouterr()
    assert build.main(argv) == 0
    assert "going on with the unfinished run of generation 1" in capsys.readouterr().err
    store.filesystem.invalidate_cache()
    after = {path: changed(store, path) for path in before}
    assert after == before, "what was done was written again"
    assert generation_of(store.url)[1].totals.vectors == ROWS


@pytest.mark.gate
def test_two_builds_at_once_make_one_generation(bucket: str, csv: Path) -> None:
    from tests.end_to_end.builds import start, wait  # noqa: PLC0415 - beside its one use

    running = [start(*argv_of(f"{bucket}/root", csv)) for _ in range(2)]
    finished = [wait(process) for process in running]
    assert [done.code for done in finished] == [0, 0], [done.err[-40:] for done in finished]
    store, generation = generation_of(f"{bucket}/root")
    assert published.numbers(store) == [1] and generation.totals.vectors == ROWS


def test_the_first_of_two_creates_wins(bucket: str) -> None:
    one, other = Store.at(f"{bucket}/root"), Store.at(f"{bucket}/root")
    assert one.create("a", b"first") and not other.create("a", b"second")
    assert other.read("a") == b"first"
    one.probe()


def test_a_store_that_ignores_the_condition_is_refused(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.at(f"{bucket}/root")
    pipe = store.filesystem.pipe_file

    def ignoring(path: str, data: bytes, mode: str) -> None:
        assert mode == "create"
        pipe(path, data)

    monkeypatch.setattr(store.filesystem, "pipe_file", ignoring)
    with pytest.raises(UsageError, match="ignores create-only writes"):
        store.probe()


def test_a_listing_sees_what_another_client_wrote(bucket: str) -> None:
    store = Store.at(f"{bucket}/root")
    store.create("folder/a", b"")
    assert store.names("folder") == ["a"]
    with store.open("folder/a"):
        pass
    code = f"from transforms.storage.store import Store; Store.at('{bucket}/root').create('folder/b', b'b')"
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ), cwd=Path(__file__).parents[2])
    with store.open("folder/b") as stream, store.open_ranges("folder/b") as ranges:
        assert stream.read() == ranges.read() == b"b"
    assert store.names("folder") == ["a", "b"] and store.exists("folder/b")


def test_only_the_lists_asked_for_are_read(bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nlist, in_a_list, code_size = 64, 100, 16
    rows, entry = nlist * in_a_list, code_size + ID_BYTES
    with (tmp_path / "lists.ivf").open("wb") as out:
        seal = write_lists(
            out,
            list_nos=np.arange(rows) % nlist,
            codes=np.zeros((rows, code_size), np.uint8),
            ids=np.arange(rows),
            nlist=nlist,
            fingerprint="ab" * 32,
            fence_bytes=in_a_list * entry,
        )
    store = Store.at(f"{bucket}/root")
    stream, lists = open_lists(store, store.upload(tmp_path / "lists.ivf", "index", "lists", f"xxh3:{seal.checksum}"))
    requested = []
    fetch = stream._fetch_range  # type: ignore[attr-defined]  # every request for bytes of a file of s3fs or gcsfs

    def counting(start: int, end: int) -> bytes:
        requested.append(end - start)
        data: bytes = fetch(start, end)
        return data

    monkeypatch.setattr(stream.cache, "fetcher", counting)  # type: ignore[attr-defined]  # fsspec is untyped
    with stream:
        assert lists.read(range(40, 44)).stored.rows == 4 * in_a_list
    bodies, sizes = 4 * in_a_list * entry, 4 * 16
    assert bodies + sizes <= sum(requested) < 2 * bodies < seal.bytes / 8


NIGHTS = (("--max-deltas", "9"), ("--max-deltas", "0"), ("--retrain", "always"))


@pytest.mark.parametrize(
    ("bucket", "nights"),
    [
        pytest.param("gs", NIGHTS[:2], marks=pytest.mark.gate),
        pytest.param("gs", NIGHTS, marks=pytest.mark.slow),
        pytest.param("s3", NIGHTS, marks=pytest.mark.slow),
    ],
    indirect=["bucket"],
)
def test_nights_on_a_bucket_find_what_nights_on_a_folder_find(
    bucket: str,
    nights: tuple[tuple[str, str], ...],
    csv: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_work_small(monkeypatch)
    roots = [f"{bucket}/root", str(tmp_path / "root")]
    for root in roots:
        assert run_here(capsys, *argv_of(root, csv)).code == 0
    lines = csv.read_text(encoding="utf-8").splitlines()
    for number, flags in enumerate(nights):
        lines = [line for line in lines if line not in (f"words {number}", f"words {17 + number}")]
        lines += [f"words {1000 * number + n}" for n in range(300, 320)]
        csv.write_text("\n".join([*lines, ""]), encoding="utf-8")
        said = []
        for root in roots:
            capsys.readouterr()
            # Late nights tell apart a folder's times, of whole seconds on some stores, and the same second twice.
            assert reindex.main(["--root", root, "--no-progress", *flags]) == 0
            said.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
            assert verify.main(["--root", root]) == 0
            assert not Store.at(root).exists("lease.json")
        names = ("new", "gone", "vectors", "tombstones", "trained")
        assert [said[0][name] for name in names] == [said[1][name] for name in names]
        assert (said[0]["new"], said[0]["gone"]) == (20, 2)
        assert found(roots[0], capsys) == found(roots[1], capsys)

    assert gc.main(["--root", roots[0], "--keep", "1", "--older-than", "0s"]) == 0
    assert published.numbers(Store.at(roots[0])) == [1 + len(nights)]
    assert verify.main(["--root", roots[0]]) == 0
    assert found(roots[0], capsys) == found(roots[1], capsys)


def test_keys_with_two_slashes_make_no_listing_endless(bucket: str, tmp_path: Path) -> None:
    filesystem, path = uris.filesystem_of(bucket)
    for name in ("pics/a.png", "pics//dbl.png", "pics/deep/b.png", "pics/deep//c.png"):
        filesystem.pipe_file(f"{path}/{name}", b"content")
    listing, tally = PictureListing(Source("images", f"{bucket}/pics")), Tally()

    containers = listing.containers()
    keys = [
        key for name in containers for table in listing.batches(name, tally=tally) for key in table["key"].to_pylist()
    ]

    assert len(set(containers)) == len(containers)
    assert keys == [f"{bucket}/pics/a.png", f"{bucket}/pics/deep/b.png"]
    assert tally.left_out == {"folder without a name": 2}

"""`pixdex evaluate` that is stopped, of a root that changes, or asked what cannot be."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pipelines.evaluated import Capture, encoded, refused, said, text_root, without_times
from tests.roots import Row, make_root, unit
from transforms.proof import exact
from transforms.records import NO_ENCODER
from transforms.shards.vectors import read_batches


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pixdex" / "proofs"


class Reading:
    """Counts the shards that are read, and fails beyond some."""

    def __init__(self, patch: pytest.MonkeyPatch, most: int) -> None:
        self.most, self.shards = most, list[int]()

        def counted(store: Any, shard: Any, *how: Any) -> Iterator[Any]:
            if len(self.shards) >= self.most:
                raise OSError(28, "No space left on device")
            self.shards.append(shard.shard)
            return read_batches(store, shard, *how)

        patch.setattr(exact, "read_batches", counted)


def test_an_evaluation_that_was_stopped_goes_on(
    tmp_path: Path, cache: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    text_root(tmp_path / "root")
    whole = said(capsys, "--root", tmp_path / "root", "--work", tmp_path / "other")
    reading = Reading(monkeypatch, 2)
    words = ("--root", tmp_path / "root")
    assert "run the same command again to go on from here" in refused(capsys, *words, code=1)
    assert sorted(reading.shards) == [0, 1]
    reading.most = 100
    assert without_times(said(capsys, *words)) == without_times(whole)
    assert sorted(reading.shards) == [0, 1, 2]
    assert len(list(cache.iterdir())) == 1


def test_another_generation_is_another_request(tmp_path: Path, cache: Path, capsys: Capture) -> None:
    text_root(tmp_path / "root", 80)
    assert said(capsys, "--root", tmp_path / "root")["queries"] == 40
    text_root(tmp_path / "root", 120, number=2)
    record = said(capsys, "--root", tmp_path / "root", "--nprobe", 6)
    assert (record["generation"], record["queries"], record["curve"][0]["recall"]) == (2, 60, 1)
    assert len(list(cache.iterdir())) == 2


def test_other_queries_are_another_request(tmp_path: Path, cache: Path, capsys: Capture) -> None:
    text_root(tmp_path / "root")
    for number in range(2):
        np.save(tmp_path / "q.npy", encoded([f"words {number}"]))
        said(capsys, "--root", tmp_path / "root", "--queries", tmp_path / "q.npy")
    said(capsys, "--root", tmp_path / "root", "--queries", tmp_path / "q.npy", "-k", 60)  # more neighbours
    assert len(list(cache.iterdir())) == 3


def test_damaged_work_is_named(tmp_path: Path, cache: Path, capsys: Capture) -> None:
    text_root(tmp_path / "root")
    said(capsys, "--root", tmp_path / "root")
    (work,) = cache.iterdir()
    (file,) = (work / "joined").glob("*.npz")
    file.write_bytes(b"\0" * file.stat().st_size)
    assert str(work) in refused(capsys, "--root", tmp_path / "root", code=1)


def test_workers_elsewhere_need_a_folder_that_they_reach(tmp_path: Path, capsys: Capture) -> None:
    text_root(tmp_path / "root")
    with socket.create_server(("localhost", 0)) as pool:
        runner = ("--runner", "PortableRunner", "--job_endpoint", "embed", "--environment_type", "EXTERNAL")
        address = ("--environment_config", f"localhost:{pool.getsockname()[1]}")
        assert "--work is missing" in refused(capsys, "--root", tmp_path / "root", *runner, *address)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--root", ""), "--root"),
        (("--root", "gone"), "no such folder"),
        (("--root", "empty"), "holds no vectors: there is nothing to evaluate"),
        (("--root", "one"), "holds too few rows to be asked about: give --queries FILE"),
        (("-k", "0"), "-k"),
        (("--nprobe", "0"), "--nprobe"),
        (("--num-queries", "0"), "--num-queries"),
        (("--modality", "image"), "this index has none"),
        (("--work", ""), "--work is empty"),
        (("--work", "root/work"), "--work root/work lies in the root"),
        (("--work", "file.txt"), "--work"),
        (("--work", "foo://x/y"), "--work foo://x/y"),
        (("--output", ""), "--output '': name a folder"),
        (("--output", "s3://b/out"), "--output 's3://b/out': name a folder"),
        (("--output", "file.txt"), "--output file.txt cannot be written"),
        (("--queries", ""), "--queries is empty"),
        (("--queries", "gone.npy"), "--queries"),
        (("--queries", "foo://q.npy"), "cannot be read"),
        (("--queries", "q.json"), "name a file that ends in"),
        (("--queries", "q3.npy"), "holds vectors of 3 components, this root takes 16"),
        (("--queries", "none.npy"), "holds nothing that can be searched with"),
        (("--queries", "q.csv"), "name its column with --text-column or --image-column"),
        (("--queries", "q.csv", "--text-column", "gone"), "--text-column gone"),
        (("--root", "ready", "--queries", "q.txt"), "this index holds ready embeddings"),
        (("--root", "ready", "--judgements", "j.csv"), "this index holds ready embeddings"),
        (("--judgements", "gone.csv"), "--judgements gone.csv cannot be read"),
        (("--judgements", "none.csv"), "--judgements none.csv has no rows"),
        (("--judgements", "j.csv", "--queries", "q.npy"), "--judgements j.csv is of none of the queries"),
        (("--label-column", "gone"), "has no column gone"),
        (("--label-column", ""), "has no column"),
        (("--label-column", "few"), "4 rows have something in it; five are the least"),
        (("--runner", "NoRunner"), "NoRunner"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    tmp_path: Path, cache: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [
        Row(f"k{n}", row.tolist(), "text", columns={"few": "x" if n < 4 else ""})
        for n, row in enumerate(encoded(list("abcdefghij")))
    ]
    make_root(tmp_path / "root", rows)
    make_root(tmp_path / "one", [Row("k", unit(0))])
    make_root(tmp_path / "empty", [Row("k", unit(0))], dead=(0,))
    make_root(tmp_path / "ready", [Row(f"k{n}", unit(n)) for n in range(9)], spec=NO_ENCODER)
    np.save("q.npy", encoded(list("xyz")))
    np.save("q3.npy", np.ones((2, 3), np.float32))
    np.save("none.npy", np.zeros((2, 16), np.float32))
    Path("q.csv").write_text("text\neast\n")
    Path("q.txt").write_text("east\n")
    Path("j.csv").write_text("query,key\neast,k1\n")
    Path("none.csv").write_text("query,key\n")
    Path("file.txt").write_text("mine")
    root = () if "--root" in words else ("--root", "root")
    assert said in refused(capsys, *root, *words)
    assert not cache.exists() or not list(cache.glob("*/found"))
    assert Path("file.txt").read_text() == "mine"

"""A batch search makes the same file on every runner and store, and one that is killed goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines import batch_search, build
from tests import s3
from tests.end_to_end.runners.test_runners import RUNNERS
from tests.tiers import mostly_gate
from transforms.index.lists import merge, writer
from transforms.index.lists.format import fence_spacing
from transforms.storage.store import Store

DIM, ROWS, QUERIES = 16, 3000, 4000


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root, queries, and what this process answers."""
    folder = tmp_path_factory.mktemp("batch")
    rng = np.random.default_rng(3)
    np.save(folder / "rows.npy", rng.standard_normal((ROWS, DIM)).astype(np.float32))
    np.save(folder / "queries.npy", rng.standard_normal((QUERIES, DIM)).astype(np.float32))
    words = ("--vectors", str(folder / "rows.npy"), "--index-key", "IVF16,PQ4x4", "--no-progress")
    assert build.main(["--root", str(folder / "root"), *words]) == 0
    assert batch_search.main(argv_of(folder, folder / "here.parquet")) == 0
    return folder


def argv_of(folder: Path, output: object) -> list[str]:
    words = ("--root", folder / "root", "--queries", folder / "queries.npy", "--output", output, "--no-progress")
    return [*map(str, words)]


@pytest.mark.parametrize("runner", mostly_gate(RUNNERS, quick=["processes"], slow=["flink-uber-jar"]))
def test_the_same_results_on_every_runner(
    tmp_path: Path, here: Path, runner: str, request: pytest.FixtureRequest
) -> None:
    flags = RUNNERS[runner](request)
    assert batch_search.main([*argv_of(here, tmp_path / "there.parquet"), *flags]) == 0
    assert (tmp_path / "there.parquet").read_bytes() == (here / "here.parquet").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["there.parquet"]


@pytest.mark.gate
def test_a_process_that_is_killed_goes_on_where_it_was(tmp_path: Path, here: Path) -> None:
    output, parts_done = tmp_path / "killed.parquet", "killed.parquet.*.unfinished/parts/*.json"
    words = [sys.executable, "-m", "pipelines", "batch-search", *argv_of(here, output)]
    for parts in (1, 3):
        job = subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while job.poll() is None and len(list(tmp_path.glob(parts_done))) < parts:
            time.sleep(0.002)
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert output.read_bytes() == (here / "here.parquet").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["killed.parquet"]


@pytest.mark.gate
def test_queries_and_results_may_lie_in_a_bucket(tmp_path: Path, here: Path) -> None:
    with s3.serving() as server, s3.bucket_of(server) as bucket:
        store, output = Store.at(bucket), f"{bucket}/out/results.parquet"
        store.create("in/queries.npy", (here / "queries.npy").read_bytes())
        words = ("--root", str(here / "root"), "--queries", f"{bucket}/in/queries.npy", "--output", output)
        assert batch_search.main([*words, "--no-progress"]) == 0
        (tmp_path / "results.parquet").write_bytes(store.read("out/results.parquet"))
        assert [file.path for file in store.walk("out", hidden=True)] == ["out/results.parquet"]
    assert pq.read_table(tmp_path / "results.parquet") == pq.read_table(here / "here.parquet")


@pytest.mark.gate
def test_an_index_in_a_bucket_is_scanned_in_slices_by_several_processes(
    tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3.serving() as server, s3.bucket_of(server) as bucket:
        with monkeypatch.context() as patched:
            for module in (writer, merge):  # of few rows as much as of many
                patched.setattr(module, "fence_spacing", lambda lists, size, _: fence_spacing(lists, size, 1))
            words = ("--vectors", str(here / "rows.npy"), "--index-key", "IVF16,SQ8", "--no-progress")
            assert build.main(["--root", f"{bucket}/root", *words]) == 0
        tables = []
        for name, flags in (("whole", ()), ("sliced", ("--slice-bytes", "16K", "--workers", "2"))):
            output = f"{bucket}/{name}.parquet"
            asked = ("--root", f"{bucket}/root", "--queries", str(here / "queries.npy"), "--output", output)
            assert batch_search.main([*asked, "--no-progress", *flags]) == 0
            (tmp_path / name).write_bytes(Store.at(bucket).read(f"{name}.parquet"))
            tables.append(pq.read_table(tmp_path / name).replace_schema_metadata(None))
    assert tables[0].drop_columns("score") == tables[1].drop_columns("score")

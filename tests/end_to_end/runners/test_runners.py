"""Every job makes the same bytes on every runner.

A job is what `tests/jobs.py` lists, a runner what `RUNNERS` lists; a job that is listed there joins by itself. Quick
tests try what needs no service, the gate a job or two on each of the others, and these the rest:

    pytest -m slow tests/end_to_end/runners/test_runners.py
"""

import csv
import itertools
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from tests import corpora
from tests.end_to_end.builds import Finished, content, run_apart
from tests.end_to_end.flink import FlinkCluster
from tests.jobs import JOBS
from tests.transforms.sources.csv_files import write

Capture = pytest.CaptureFixture[str]
Flags = tuple[str, ...]

BEFORE = {"train": "embed", "add": "train", "merge": "add", "reindex": "evening"}
"""A job that goes on where another one stopped; the others begin with nothing. (`evening` is a root whose sources have
changed since it was built.)"""

RUNNERS: dict[str, Callable[[pytest.FixtureRequest], Flags]] = {
    "processes": lambda _: ("--workers", "2"),
    "worker-pool": lambda request: (
        *("--runner", "PortableRunner", "--job_endpoint", "embed", "--direct_num_workers", "2"),
        *("--environment_type", "EXTERNAL", "--environment_config", request.getfixturevalue("pool")),
    ),
    "prism": lambda request: ("--runner", "PrismRunner", "--prism_location", request.getfixturevalue("prism")),
    "flink-job-server": lambda request: (*request.getfixturevalue("flink").job_server, "--parallelism", "2"),
    "flink-uber-jar": lambda request: (*request.getfixturevalue("flink").uber_jar, "--parallelism", "2"),
}


@dataclass(frozen=True)
class Reference:
    """What the in-process runner makes.

    Attributes:
        folder: holds a root for each job, named for it.
        sources: arguments of a job that makes a root of them.
    """

    folder: Path
    sources: tuple[str, ...]

    def arguments(self, job: str) -> tuple[str, ...]:
        """Of a job, but for the root."""
        return ("--progress", "json", "--max-tombstones", "1") if job == "reindex" else self.sources

    def root(self, job: str) -> Path:
        """What the job leaves, made when it is first asked for."""
        root = self.folder / job
        if not root.exists():
            run(job, self.begin(job, root), *self.arguments(job))
        return root

    def begin(self, job: str, root: Path) -> Path:
        """Makes a root as the job finds it."""
        if job in BEFORE:
            shutil.copytree(self.root(BEFORE[job]), root)
        return root


ENCODER = (
    *("--encoder", "tests.encoders:TinyEncoder", "--encoder-threads", "1", "--index-key", "IVF16,PQ4x4"),
    *("--progress", "json"),
)


def evening(folder: Path) -> None:
    """Builds a root of sources of its own, then makes some of them new, others changed, and others gone."""
    pictures, texts = corpora.write_pictures(folder / "night", 40), folder / "night.csv"
    corpora.write_texts(texts, 6000)
    sources = ("--images", str(folder / "night"), "--csv", str(texts), "--text-column", "description")
    run("build", folder / "roots" / "evening", *sources, *ENCODER)
    pictures[3].unlink()
    pictures[4].write_bytes(pictures[5].read_bytes())
    pictures[6].write_bytes(b"no picture")
    corpora.write_texts(texts, 5990)
    corpora.write_pictures(folder / "night" / "more", 5, seed=1)
    with texts.open("a", encoding="utf-8") as stream:
        stream.writelines(f"another text {number}\n" for number in range(5000))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """Pictures and enough texts for several partitions, some of them rejects, with a small encoder."""
    folder = tmp_path_factory.mktemp("runners")
    evening(folder)
    pictures = corpora.write_pictures(folder / "pictures", 40)
    pictures[7].write_bytes(pictures[7].read_bytes()[:100])
    texts = corpora.write_texts(folder / "texts.csv", 9000)
    return Reference(
        folder / "roots",
        (
            *("--images", str(folder / "pictures"), "--csv", str(texts), "--text-column", "description"),
            *ENCODER,
        ),
    )


def run(job: str, root: Path, *arguments: str) -> None:
    assert JOBS[job](["--root", str(root), *arguments]) == 0


def made(root: Path) -> dict[str, str]:
    """Every file below a root with its hash, but for plans and reports, where times and hosts may be."""
    timed = ("plans", "reports")
    files = [path for path in root.rglob("*") if path.is_file() and path.relative_to(root).parts[0] not in timed]
    return {str(path.relative_to(root)): sha256(path.read_bytes()).hexdigest() for path in files}


QUICK = [("processes", "build")]
GATE = [
    *(("worker-pool", "build"), ("prism", "build"), ("prism", "reindex")),
    *(("flink-job-server", "reindex"), ("flink-uber-jar", "embed")),  # and a build of real pictures, below
]


def combined(runner: str, job: str) -> object:
    """A test, which is quick, or of the gate, or slow."""
    if (runner, job) in QUICK:
        return pytest.param(runner, job)
    return pytest.param(runner, job, marks=pytest.mark.gate if (runner, job) in GATE else pytest.mark.slow)


@pytest.mark.parametrize(("runner", "job"), [combined(runner, job) for runner in RUNNERS for job in JOBS])
def test_a_job_makes_the_same_bytes_on_every_runner(
    tmp_path: Path, reference: Reference, runner: str, job: str, request: pytest.FixtureRequest, capsys: Capture
) -> None:
    flags = RUNNERS[runner](request)
    expected = made(reference.root(job))
    root = reference.begin(job, tmp_path / "root")
    assert made(root) != expected, "the job would have nothing to do"
    capsys.readouterr()
    run(job, root, *reference.arguments(job), *flags)
    assert made(root) == expected
    check_progress(job, capsys.readouterr().err)


def check_progress(job: str, said: str) -> None:
    """Every stage of a job ended with all that was planned, and none was left."""
    events = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    states = [(event["stage"], event["state"]) for event in events if event["event"] == "stage"]
    ends = [event for event in events if event.get("state") == "done"]
    assert {stage for stage, _ in states} == {event["stage"] for event in ends}
    assert all(event["done"] == event["planned"] and event["share"] == 1 for event in ends)
    last = {"embed": "embed", "train": "train", "add": "add"}.get(job, "publish")
    assert ends[-1]["stage"] == last


@pytest.mark.parametrize("count", [300, pytest.param(1609, marks=pytest.mark.slow)])
def test_real_pictures_and_texts_make_the_same_index_on_flink(
    tmp_path: Path, shared_data: Path, flink: FlinkCluster, count: int, request: pytest.FixtureRequest
) -> None:
    emoji = shared_data / "emoji"
    with (emoji / "emoji.csv").open(encoding="utf-8", newline="") as file:
        some = itertools.islice(csv.DictReader(file), count)
        rows = [[str(emoji / row["image"]), row["description"]] for row in some]
    table = write(tmp_path / "some.csv", [["image", "description"], *rows])
    arguments = (
        *("--csv", table, "--image-column", "image", "--text-column", "description"),
        *("--encoder", "demo", "--encoder-threads", "1"),
    )
    here = run_apart("--root", tmp_path / "here", *arguments)
    there = run_apart("--root", tmp_path / "there", *arguments, *RUNNERS["flink-job-server"](request), timeout=240)
    assert (here.code, there.code) == (0, 0), there.err
    assert totals(here) == totals(there) == {"items": count, "embedded": count, "rejected": 0, "vectors": 2 * count}
    assert content(tmp_path / "there") == content(tmp_path / "here")


@pytest.mark.gate
def test_processes_start_from_a_python_whose_path_has_a_space(
    tmp_path: Path, reference: Reference, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    python = tmp_path / "a folder" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    run("embed", tmp_path / "root", *reference.arguments("embed"), *RUNNERS["processes"](request))
    assert made(tmp_path / "root") == made(reference.root("embed"))


def totals(done: Finished) -> dict[str, int]:
    return {name: done.said[name] for name in ("items", "embedded", "rejected", "vectors")}

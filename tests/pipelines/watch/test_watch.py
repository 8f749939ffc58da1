"""`pixdex watch`: follows a run of another process, and never waits for one that is dead."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines import build, reindex, watch
from tests.conftest import REPOSITORY
from tests.corpora import write_texts
from tests.end_to_end.builds import TINY, start, wait
from tests.transforms.runs.planned import FIRST, embed, light, over, plan
from tests.transforms.small_runs import begin, pictures
from transforms.record_json import encode
from transforms.runs import beginning
from transforms.runs.run import Run
from transforms.runs.worked_on import Process
from transforms.storage import layout
from transforms.upkeep.lease import Lease

Capture = pytest.CaptureFixture[str]


def followed(capsys: Capture, root: Path, *words: str) -> tuple[int, dict[str, object], list[str]]:
    """What watching a root says: the exit code, the last line on stdout, and the lines on stderr."""
    capsys.readouterr()
    code = watch.main(["--root", str(root), *words])
    said = capsys.readouterr()
    return code, json.loads(said.out.splitlines()[-1]) if said.out else {}, said.err.splitlines()


@contextmanager
def meanwhile(*steps: object) -> Iterator[None]:
    """Does something beside the block: numbers are seconds to wait, others are called."""

    def go() -> None:
        for step in steps:
            step() if callable(step) else time.sleep(float(str(step)))

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = begin(tmp_path / "root", pictures(tmp_path))
    plan(made)
    embed(made, FIRST)
    return made


def root_of(run: Run) -> Path:
    assert run.store.local is not None
    return run.store.local


def texts(folder: Path, count: int = 200) -> list[str]:
    return ["--csv", str(write_texts(folder / "texts.csv", count)), "--text-column", "description", *TINY]


def test_a_run_of_another_process_is_followed_to_its_end(tmp_path: Path, capsys: Capture) -> None:
    job = start("--root", tmp_path / "root", *texts(tmp_path))
    try:
        code, last, said = followed(capsys, tmp_path / "root", "--wait", "--progress", "json")
    finally:
        done = wait(job, 60)
    assert (code, done.code) == (0, 0)
    assert (last["generation"], last["published"]) == (1, True)
    assert set(last["seconds"]) >= {"embed", "add", "merge", "publish"}  # type: ignore[call-overload]
    events = [json.loads(line) for line in said if line.startswith("{")]
    ends = [event for event in events if event.get("state") == "done"]
    assert [event["stage"] for event in ends] == ["plan", "embed", "keys", "train", "add", "merge", "publish"]
    assert all(event["done"] == event["planned"] and event["share"] == 1 for event in ends)
    assert next(event for event in ends if event["stage"] == "embed")["done"] == 200


def test_of_a_root_that_is_no_folder_the_same_is_told(tmp_path: Path, capsys: Capture) -> None:
    root, words = f"memory://{tmp_path.name}/root", [word for word in texts(tmp_path) if word != "--no-progress"]
    assert build.main(["--root", root, *words, "--progress", "json"]) == 0
    said = capsys.readouterr()
    events = [json.loads(line) for line in said.err.splitlines() if line.startswith("{")]
    done = {event["stage"]: (event["done"], event["unit"]) for event in events if event.get("state") == "done"}
    vectors = json.loads(said.out.splitlines()[-1])["vectors"]
    assert done["add"] == done["merge"] == (vectors, "vectors")
    assert watch.main(["--root", root]) == 0


def test_nothing_is_under_way(tmp_path: Path, capsys: Capture) -> None:
    assert build.main(["--root", str(tmp_path / "root"), *texts(tmp_path)]) == 0
    code, last, said = followed(capsys, tmp_path / "root")
    assert (code, last) == (0, {"generation": 1, "published": False, "seconds": {}})
    assert said[-1].endswith("no run is under way, generation 1 is the current one")


def test_a_folder_without_a_run_is_bad_usage(tmp_path: Path, capsys: Capture) -> None:
    code, _, said = followed(capsys, tmp_path)
    assert code == 2
    assert len(said) == 1
    assert said[0].startswith(
        f"pixdex: file://{tmp_path} has no run and no generation: begin one with pixdex build, or"
    )
    assert followed(capsys, tmp_path, "--progress", "lines", "--no-progress")[0] == 2


def test_a_run_that_is_given_up_ends_it(run: Run, capsys: Capture) -> None:
    with meanwhile(0.5, lambda: beginning.abandon(run)):
        code, _, said = followed(capsys, root_of(run))
    assert code == 1
    assert said[-1].endswith("the run of generation 1 was given up (embed, 100 of 500 items)")


def test_a_reindex_that_finds_nothing_to_do_is_no_failure(tmp_path: Path, capsys: Capture) -> None:
    root = tmp_path / "root"
    assert build.main(["--root", str(root), *texts(tmp_path)]) == 0
    with meanwhile(0.3, lambda: reindex.main(["--root", str(root), "--no-progress"])):
        code, last, _ = followed(capsys, root, "--wait")
    assert (code, last["generation"], last["published"]) == (0, 1, False)


def test_a_run_whose_process_is_dead_is_said_to_be_dead_at_once(run: Run, capsys: Capture) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    now = time.time()
    dead = Lease("token", socket.gethostname(), gone.pid, "", "reindex", now, now, run=1)
    run.store.overwrite(layout.LEASE, encode(dead))
    code, _, said = followed(capsys, root_of(run))
    assert code == 1
    assert f"pixdex reindex on {socket.gethostname()} (process {gone.pid}) has ended without publishing" in said[-1]
    assert "(embed, 100 of 500 items): run its command again, which goes on from there" in said[-1]


def test_a_process_that_gave_its_lease_back_without_publishing_has_failed(run: Run, capsys: Capture) -> None:
    now = time.time()
    mine = Lease("token", socket.gethostname(), os.getpid(), "", "reindex", now, now, run=1)
    run.store.overwrite(layout.LEASE, encode(mine))
    with meanwhile(0.7, lambda: run.store.remove(layout.LEASE)):
        code, _, said = followed(capsys, root_of(run))
    assert code == 1 and "has ended without publishing generation 1" in said[-1]


def test_a_build_whose_process_has_ended_here_is_said_to_be_dead(
    run: Run, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_SECONDS_OF_ANOTHER", 0.5)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    run.store.overwrite(layout.worked_on(1), encode(Process(socket.gethostname(), gone.pid, "")))
    code, _, said = followed(capsys, root_of(run))
    assert code == 1
    assert f"process {gone.pid} on {socket.gethostname()} has ended without publishing generation 1" in said[-1]


@pytest.mark.parametrize("process", [Process("elsewhere", 1 << 22, ""), replace(Process.here(), started="")])
def test_a_build_elsewhere_and_one_that_lives_is_waited_for(
    run: Run, capsys: Capture, monkeypatch: pytest.MonkeyPatch, process: Process
) -> None:
    monkeypatch.setattr(watch, "_SECONDS_OF_ANOTHER", 0.0)
    run.store.overwrite(layout.worked_on(1), encode(process))
    code, _, said = followed(capsys, root_of(run), "--stalled-after", "1")
    assert code == 1 and "nothing was heard of the run" in said[-1]


def test_silence_has_an_end_and_a_beacon_is_a_sign_of_life(run: Run, capsys: Capture) -> None:
    began = time.monotonic()
    beats = [step for share in (0.1, 0.2, 0.3) for step in (0.8, lambda share=share: light(run, "embed", 6, share))]
    with meanwhile(*beats):
        code, _, said = followed(capsys, root_of(run), "--stalled-after", "1.5")
    assert code == 1
    assert time.monotonic() - began > 3.5
    assert "nothing was heard of the run of generation 1 for" in said[-1]
    assert "(embed, 190 of 500 items): look at its job" in said[-1]


def test_a_run_that_fell_silent_long_ago_is_not_waited_for_as_long_again(
    run: Run, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_GRACE", 0.5)
    for file in (root_of(run) / "plans").rglob("*"):
        os.utime(file, (1e9, 1e9))
    began = time.monotonic()
    code, _, said = followed(capsys, root_of(run))
    assert code == 1 and time.monotonic() - began < 10
    assert "nothing was heard" in said[-1]


def test_an_interrupt_ends_it_and_stops_nothing(run: Run) -> None:
    words: Sequence[str] = [sys.executable, "-m", "pipelines.watch", "--root", str(root_of(run))]
    job = subprocess.Popen(words, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    assert job.stderr is not None
    assert "following the run of generation 1" in job.stderr.readline()
    job.send_signal(signal.SIGINT)
    assert job.wait(20) == 130
    job.stderr.close()


def test_it_needs_neither_beam_nor_a_model(run: Run) -> None:
    over(run, "embed", tasks=4)
    beginning.abandon(run)
    code = (
        "import sys; from pipelines import cli\n"
        "code = cli.main(sys.argv[1:])\n"
        "print(code, sorted({'apache_beam', 'grpc', 'torch', 'PIL', 'tqdm'} & set(sys.modules)))"
    )
    words = ["watch", "--root", str(root_of(run))]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1].endswith(" []"), done.stderr

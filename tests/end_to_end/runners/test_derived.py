"""A root made of a root is the same, byte for byte, on every runner, and whenever its making was killed."""

import signal
from pathlib import Path

import numpy as np
import pytest

from pipelines import augment, build, condense
from tests.end_to_end import dying
from tests.end_to_end.builds import content, leftovers, make_work_small
from tests.end_to_end.dying import When
from tests.end_to_end.runners.test_runners import RUNNERS
from tests.tiers import mostly_gate

ROWS, DIM = 3000, 16
COMMANDS = {"augment": (augment.main, ("--neighbours", "4")), "condense": (condense.main, ("--rows", "300"))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Has a root of several shards."""
    folder = tmp_path_factory.mktemp("derived")
    vectors = np.random.default_rng(3).standard_normal((ROWS, DIM)).astype(np.float32)
    for number, some in enumerate(np.array_split(vectors, 3)):
        np.save(folder / f"rows-{number}.npy", some)
    words = ("--vectors", str(folder / "rows-*.npy"), "--index-key", "IVF16,PQ4x4", "--no-progress")
    assert build.main(["--root", str(folder / "root"), *words]) == 0
    return folder


def argv_of(folder: Path, command: str, to: Path) -> list[str]:
    return ["--root", str(folder / "root"), "--to", str(to), "--no-progress", *COMMANDS[command][1]]


def reference(folder: Path, command: str) -> dict[str, str]:
    """The files that this process makes, once."""
    if not (folder / command).exists():
        assert COMMANDS[command][0](argv_of(folder, command, folder / command)) == 0
    return content(folder / command)


EVERYWHERE = [(runner, command) for runner in RUNNERS for command in COMMANDS]
QUICK = [("processes", command) for command in COMMANDS]
SLOW = [*(("flink-uber-jar", command) for command in COMMANDS), ("flink-job-server", "condense")]


@pytest.mark.parametrize(("runner", "command"), mostly_gate(EVERYWHERE, QUICK, SLOW))
def test_the_same_bytes_on_every_runner(
    tmp_path: Path, folder: Path, runner: str, command: str, request: pytest.FixtureRequest
) -> None:
    expected = reference(folder, command)
    flags = RUNNERS[runner](request)
    assert COMMANDS[command][0]([*argv_of(folder, command, tmp_path / "new"), *flags]) == 0
    assert content(tmp_path / "new") == expected


MOMENTS: list[tuple[float, When]] = [(0.1, "before"), (0.3, "after"), (0.8, "before")]
KILLED = [(command, *moment) for command in COMMANDS for moment in MOMENTS]


@pytest.mark.parametrize(("command", "share", "when"), mostly_gate(KILLED, quick=[("augment", 0.3, "after")]))
def test_killed_at_a_change_of_the_root(
    tmp_path: Path, folder: Path, command: str, share: float, when: When, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_work_small(monkeypatch)  # as the job that dies does
    clean = tmp_path / "clean"
    code, calls = dying.run(argv_of(folder, command, clean), tmp_path, job=command)
    assert code == 0 and calls > 50
    new = argv_of(folder, command, tmp_path / "new")
    code, _ = dying.run(new, tmp_path, int(share * calls), when, job=command)
    assert code == -signal.SIGKILL
    code, _ = dying.run(new, tmp_path, job=command)
    assert code == 0 and content(tmp_path / "new") == content(clean)
    assert leftovers(tmp_path / "new") == []

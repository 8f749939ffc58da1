"""A reindex that is killed at any moment and run again ends with the bytes of one that was never stopped.

The gate takes a sample of moments. Two hundred, at random moments of every phase, take half an hour:

    pytest -m slow tests/end_to_end/reindex/test_reindex_killed.py
"""

import random
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines import verify
from tests.end_to_end import dying
from tests.end_to_end.builds import content, leftovers
from tests.end_to_end.dying import When
from tests.end_to_end.reindexing import collection, generation_of
from transforms.storage.store import Store

NIGHTS: dict[str, tuple[str, ...]] = {
    "delta": ("--max-tombstones", "1"),
    "compaction": ("--max-deltas", "0"),
    "retrain": ("--retrain", "always"),
}
"""What a night does beside embedding: nothing, or one of the two that rewrite the index."""

ROUNDS = 200


@dataclass(frozen=True)
class Night:
    """A root before a night, what an undisturbed night makes of it, how often it changes the root, and its seconds.

    Attributes:
        flags: of the reindex.
    """

    before: Path
    flags: tuple[str, ...]
    content: dict[str, str]
    calls: int
    seconds: float

    def argv(self, root: Path) -> tuple[object, ...]:
        """The command."""
        return ("--root", root, "--no-progress", *self.flags)

    def is_done(self, root: Path) -> bool:
        """Whether the night is over."""
        return generation_of(root).generation == 2

    def finish(self, folder: Path) -> None:
        """Runs the command to its end, and compares every file that the generation needs."""
        root = folder / "root"
        while not self.is_done(root) or Store.at(str(root)).exists("lease.json"):
            # Once more when it was killed behind the end; but who asks for a training twice gets it twice.
            last = ("--retrain", "never") if self.is_done(root) else ()
            code, _ = dying.run([*self.argv(root), *last], folder, job="reindex")
            assert (code, generation_of(root).generation) == (0, 2)
        assert content(root) == self.content
        assert leftovers(root) == []
        assert verify.main(["--root", str(root)]) == 0


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Night]:
    folder = tmp_path_factory.mktemp("nights")
    items = collection(folder / "sources", pictures=60, rows=60)
    root = folder / "before"
    code, _ = dying.run(["--root", root, *items.arguments, "--index-key", "IVF4,Flat"], folder)
    assert code == 0
    items.pictures |= {f"new {number}": 400 + number for number in range(20)} | {"bad": -1, "p003": 77}
    items.rows["k001"] = ("other words", 88)
    for number in range(10, 14):
        del items.pictures[f"p{number:03d}"], items.rows[f"k{number:03d}"]
    items.write()
    made = {}
    for name, flags in NIGHTS.items():
        shutil.copytree(root, folder / name)
        started = time.monotonic()
        code, calls = dying.run(["--root", folder / name, "--no-progress", *flags], folder, job="reindex")
        assert (code, generation_of(folder / name).generation) == (0, 2)
        made[name] = Night(root, flags, content(folder / name), calls, time.monotonic() - started)
    return made


@pytest.mark.gate
@pytest.mark.parametrize(("name", "share", "when"), [("delta", 0.5, "after"), ("compaction", 0.9, "before")])
def test_killed_at_a_change_of_the_root(
    nights: dict[str, Night], tmp_path: Path, name: str, share: float, when: When
) -> None:
    night = nights[name]
    shutil.copytree(night.before, tmp_path / "root")
    code, _ = dying.run(night.argv(tmp_path / "root"), tmp_path, int(share * night.calls), when, job="reindex")
    assert code == -signal.SIGKILL
    night.finish(tmp_path)


@pytest.mark.gate
def test_killed_again_and_again(nights: dict[str, Night], tmp_path: Path) -> None:
    night = nights["retrain"]
    shutil.copytree(night.before, tmp_path / "root")
    deaths = 0
    for _ in range(4):
        code, _ = dying.run(night.argv(tmp_path / "root"), tmp_path, night.calls // 4, "before", job="reindex")
        deaths += code != 0
    assert deaths >= 3
    night.finish(tmp_path)


@pytest.mark.slow
def test_killed_at_random_moments(nights: dict[str, Night], tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for number in range(ROUNDS):
        night = nights[chance.choice(list(NIGHTS))]
        folder = tmp_path / str(number)
        folder.mkdir()
        shutil.copytree(night.before, folder / "root")
        for _ in range(chance.randint(1, 2)):
            if night.is_done(folder / "root"):
                break
            argv = night.argv(folder / "root")
            if chance.random() < 0.5:
                moment = chance.uniform(0, night.seconds)
                dying.run(argv, folder, after_seconds=moment, job="reindex")
            else:
                when: When = "before" if chance.random() < 0.5 else "after"
                dying.run(argv, folder, chance.randint(1, night.calls), when, job="reindex")
        night.finish(folder)
        shutil.rmtree(folder)
        print(f"round {number + 1}", flush=True)

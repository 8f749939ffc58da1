"""A root that a stranger made runs nothing, and reaches nothing but itself: whatever command is run on it."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from tests.conftest import REPOSITORY
from tests.end_to_end.strangers.hostile_roots import HOSTILE, MODULE, READS, Ground, Hostile, make

of_every_root = pytest.mark.parametrize(
    "hostile",
    [pytest.param(each, id=each.name, marks=[pytest.mark.gate] if each.variant else []) for each in HOSTILE],
)


class Door:
    """A port of this machine, over IPv4 and IPv6, that remembers who comes."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        sockets = [socket.create_server(("127.0.0.1", 0))]
        self.port = int(sockets[0].getsockname()[1])
        if socket.has_ipv6:
            with contextlib.suppress(OSError):  # compiled in, but switched off
                sockets.append(socket.create_server(("::1", self.port), family=socket.AF_INET6))
        for listening in sockets:
            threading.Thread(target=self._wait, args=(listening,), daemon=True).start()

    def _wait(self, listening: socket.socket) -> None:
        while True:
            connection, _ = listening.accept()
            with connection:
                self.asked.append(connection.recv(1 << 10).decode("latin-1"))


def commands(hostile: Hostile, ground: Ground, query: Path) -> dict[str, list[str]]:
    """What is run on a root, in this order: what changes it comes last."""
    root = ["--root", str(ground.root)]
    page = query.parent / "page.html"
    every = {
        "search": ["search", *root, "--vector", str(query), "--json"],
        "page": ["search", *root, "--vector", str(query), "--html", str(page)],
        "inspect": ["inspect", *root],
        "files": ["inspect", *root, "--files"],
        "verify": ["verify", *root],
        "text": ["search", *root, "words"],
        "same": ["search", *root, "--vector", str(query), "--dedup", "content"],
        "reindex": ["reindex", *root, "--dry-run"],
        "rollback": ["rollback", *root, "--to", "1"],
        "gc": ["gc", *root, "--keep", "1", "--older-than", "0s"],
    }
    some = ("text", "same", "reindex")
    return {name: words for name, words in every.items() if name not in some or name in hostile.also}


@pytest.fixture(scope="module")
def door() -> Door:
    return Door()


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, door: Door
) -> dict[str, dict[str, Any]]:
    """What each command did on each root that a test is to look at, and what it touched beside."""
    asked = (each for each in request.session.items if getattr(each, "module", None) is request.module)
    wanted = {each.callspec.params["hostile"].name for each in asked if hasattr(each, "callspec")}
    around = tmp_path_factory.mktemp("hostile")
    own = around / "own"
    for name in ("own", "own/cache", "own/temporary", "own/modules"):
        (around / name).mkdir()
    (own / "modules" / f"{MODULE}.py").write_text("raise SystemExit('it runs')\n")
    np.save(own / "query.npy", np.array([1, 0], np.float32))
    tasks = []
    for number, hostile in enumerate(each for each in HOSTILE if each.name in wanted):
        folder = around / f"{number:03d}"
        ground = Ground(folder / "root", folder / "canary", door.port)
        ground.canary.mkdir(parents=True)
        (ground.canary / "file").write_bytes(b"theirs")
        PIL.Image.new("RGB", (8, 8)).save(ground.canary / "picture.png")
        make(hostile, ground)
        tasks.append(
            {"name": hostile.name, "root": str(ground.root), "commands": commands(hostile, ground, own / "query.npy")}
        )
    plain = Ground(own / "plain", own / "none", door.port)
    make(Hostile("plain", lambda _: None), plain)
    first = commands(HOSTILE[0], plain, own / "query.npy")
    before = content(around)
    plan = {
        "around": str(around), "forbidden": sorted(map(str, around.glob("*/canary"))), "modules": [MODULE],
        "allowed": [str(own)], "first": [first[name] for name in READS if name != "verify"], "tasks": tasks,
    }  # fmt: skip
    (own / "plan.json").write_text(json.dumps(plan))
    environment = {
        "XDG_CACHE_HOME": str(own / "cache"),
        "TMPDIR": str(own / "temporary"),
        "PIXDEX_TRUSTED_ENCODERS": "",
    }
    path = f"{REPOSITORY}{os.pathsep}{own / 'modules'}"
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tests.end_to_end.strangers.watched_child", str(own / "plan.json")],
        env=os.environ | environment | {"PYTHONPATH": path}, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    after = content(around)
    said["what is left"] = {
        "changed": sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    }
    return said


def content(folder: Path) -> dict[str, bytes]:
    """Every file of the canaries' folders."""
    files = (each for each in folder.rglob("canary/**/*") if each.is_file() and not each.is_symlink())
    return {str(each.relative_to(folder)): each.read_bytes() for each in files}


@of_every_root
def test_nothing_is_run_and_nothing_else_is_touched(hostile: Hostile, outcomes: dict[str, dict[str, Any]]) -> None:
    touched = {name: each["touched"] for name, each in outcomes[hostile.name].items() if each["touched"]}
    assert touched == {}


@of_every_root
def test_a_command_that_needs_it_refuses_in_one_line(hostile: Hostile, outcomes: dict[str, dict[str, Any]]) -> None:
    for name, each in outcomes[hostile.name].items():
        assert each["code"] in (0, 1, 2) and "Traceback" not in each["said"], (name, each["said"])
        if name in hostile.refused:
            lines = [line for line in each["said"].splitlines() if line.startswith("pixdex: ")]
            assert each["code"] != 0 and len(lines) <= 1, (name, each["said"])
            if name != "verify":  # which goes on, and says all that it finds
                assert len(lines) == 1, (name, each["said"])


def test_nobody_came_to_the_door(door: Door, outcomes: dict[str, dict[str, Any]]) -> None:
    assert door.asked == []


def test_nothing_of_the_others_has_changed(outcomes: dict[str, dict[str, Any]]) -> None:
    assert outcomes["what is left"]["changed"] == []


def test_whatever_is_touched_is_seen(outcomes: dict[str, dict[str, Any]]) -> None:
    touched = outcomes["the watch"]["itself"]["touched"]
    assert [each.split()[0] for each in touched if not each.startswith("inotify")] == ["open", "os.listdir"]
    assert sum(each.startswith("inotify") for each in touched) >= 2

"""Hostile pictures: every file is an item, embedded or rejected with its reason, and nothing stops the build."""

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.end_to_end.builds import Finished, rejects_of, rows_of, start, wait

pytestmark = pytest.mark.gate

PATIENCE = 600
"""Seconds, after which a build is taken to hang."""

BYTES = 1.5e9


@dataclass(frozen=True)
class Built:
    """The build, and what it took."""

    root: Path
    files: list[Path]
    done: Finished
    peak: int


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Built:
    folder = shared_data / "odd-images"
    root = tmp_path_factory.mktemp("odd") / "root"
    started = time.monotonic()
    process = start(
        "--root", root, "--images", folder / "**", "--max-reject-ratio", "1", "--encoder", "demo", "--no-progress"
    )
    peak = 0
    while process.poll() is None and time.monotonic() - started < PATIENCE:
        peak = max(peak, tree_bytes(process.pid))
        time.sleep(0.02)
    done = wait(process, timeout=1)
    files = [path for path in folder.rglob("*") if path.is_file()]
    return Built(root, files, done, peak)


def tree_bytes(pid: int) -> int:
    """Returns the resident memory of a process and its children."""
    try:
        parent = psutil.Process(pid)
        return sum(process.memory_info().rss for process in [parent, *parent.children(recursive=True)])
    except psutil.NoSuchProcess:
        return 0


def test_the_build_ends_well_within_its_memory(built: Built) -> None:
    assert built.done.code == 0, built.done.err
    assert built.peak < BYTES
    assert "Traceback" not in " ".join(built.done.err)


def test_every_file_is_embedded_or_rejected(built: Built) -> None:
    said = built.done.said
    assert said["items"] == len(built.files) == said["embedded"] + said["rejected"]
    assert said["embedded"] > 200 and said["rejected"] > 20
    named = {uri for (uri,) in rows_of(built.root, ["uri"])} | {reject["uri"] for reject in rejects_of(built.root)}
    assert named == {f"file://{path}" for path in built.files}


def test_every_reject_says_where_it_failed_and_why(built: Built) -> None:
    for reject in rejects_of(built.root):
        assert reject["stage"] in ("fetch", "decode", "encode"), reject
        assert re.fullmatch(r"[A-Za-z]\w+", reject["type"]), reject
        assert reject["message"] and "\n" not in reject["message"], reject


@pytest.mark.parametrize("shape", ["Landscape", "Portrait"])
def test_pictures_that_differ_in_exif_orientation_only_look_alike(built: Built, shape: str) -> None:
    found: list[tuple[Any, ...]] = rows_of(built.root, ["uri", "embedding"])
    vectors = np.array([vector for uri, vector in found if re.search(rf"/{shape}_\d\.jpg$", uri)], np.float32)
    assert len(vectors) >= 8
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert (vectors @ vectors.T).min() >= 0.98

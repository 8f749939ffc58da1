"""What is left out of the sources is said where a person looks: the last line, inspect, plan, and every night anew."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pipelines import inspect, plan, reindex
from tests.corpora import write_pictures
from tests.end_to_end.builds import TINY, run_here

Capture = pytest.CaptureFixture[str]


def last(capsys: Capture) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return record


def test_files_that_are_not_taken_are_counted_and_no_rejects(tmp_path: Path, capsys: Capture) -> None:
    folder, root = tmp_path / "pictures", str(tmp_path / "root")
    write_pictures(folder, 3)
    for name in ("a.heic", "b.heic", "readme"):
        (folder / name).touch()
    os.mkfifo(folder / "pipe.png")
    argv = ["--root", root, "--images", folder, "--key-pattern", "g0_(?P<name>.*)", "--encoder", TINY[1]]
    built = run_here(capsys, *argv)
    counts = {"heic": 2, "no ending": 1, "pipe": 1}

    assert (built.code, built.said["items"], built.said["rejected"]) == (0, 3, 0)
    assert (built.said["left_out"], built.said["unnamed"]) == (counts, 2)
    assert "left out: 2 heic, 1 no ending, 1 pipe" in built.err
    assert "2 pictures have names that --key-pattern does not match" in built.err

    assert inspect.main(["--root", root, "--json"]) == 0
    assert last(capsys)["left_out"] == counts
    assert inspect.main(["--root", root]) == 0
    assert "left out    2 heic, 1 no ending, 1 pipe" in capsys.readouterr().out
    assert plan.main(["--root", root]) == 0
    assert "left out of the sources: 2 heic, 1 no ending, 1 pipe" in last(capsys)["notes"]

    (folder / "c.svg").touch()
    (folder / "g0_new.png").write_bytes((folder / "g0_p0000.png").read_bytes())
    assert reindex.main(["--root", root, "--dry-run"]) == 0
    assert last(capsys)["left_out"] == {**counts, "svg": 1}
    assert reindex.main(["--root", root, "--no-progress"]) == 0
    assert last(capsys)["left_out"] == {**counts, "svg": 1}
    assert inspect.main(["--root", root, "--json"]) == 0
    assert last(capsys)["left_out"] == {**counts, "svg": 1}


def test_a_pattern_that_matches_no_name_is_bad_input(tmp_path: Path, capsys: Capture) -> None:
    write_pictures(tmp_path / "pictures", 2)

    words = ["--images", tmp_path / "pictures", "--key-pattern", "(?P<n>x)", *TINY]
    done = run_here(capsys, "--root", tmp_path / "root", *words)

    assert done.code == 2
    assert done.out == []
    assert len(done.err) == 1
    assert "--key-pattern (?P<n>x) matches none of the 2 names" in done.err[0]

"""What `augment` and `condense` refuse, with one line and before anything is written; and what the new root is for."""

import json
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pipelines import augment, build, condense, evaluate, gc, inspect, reindex, search
from tests.pipelines.derive import roots

Capture = pytest.CaptureFixture[str]
MORE = {augment: (), condense: ("--rows", "20")}
both = pytest.mark.parametrize("command", [augment, condense], ids=["augment", "condense"])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refused")
    words = roots.write_ready(folder / "ready", 100)
    assert build.main(["--root", str(folder / "root"), *words, "--index-key", "IVF2,Flat"]) == 0
    return folder / "root"


def refused(capsys: Capture, command: ModuleType, *words: object) -> str:
    capsys.readouterr()
    assert command.main([str(word) for word in words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@both
def test_a_root_in_a_root_or_none(capsys: Capture, root: Path, command: ModuleType) -> None:
    words = ("--root", root, *MORE[command])
    assert "--to is missing" in refused(capsys, command, *words)
    assert "a root lies beside --root" in refused(capsys, command, *words, "--to", root / "in")
    assert "a root lies beside --root" in refused(capsys, command, *words, "--to", root.parent)
    assert "there is no such folder" in refused(
        capsys, command, "--root", root / "x", "--to", root.parent / "y", *MORE[command]
    )


def test_distances_of_another_kind_are_not_augmented(capsys: Capture, tmp_path: Path) -> None:
    words = (*roots.write_ready(tmp_path / "ready", 60), "--index-key", "Flat", "--metric-type", "l2")
    assert build.main(["--root", str(tmp_path / "root"), *words]) == 0
    line = refused(capsys, augment, "--root", tmp_path / "root", "--to", tmp_path / "new")
    assert "has l2 distances" in line and "--metric-type ip" in line
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("rows", "why"), [("0", "--rows"), ("101", "more than the 100 rows"), (None, "--rows is missing")]
)
def test_rows_that_cannot_be(capsys: Capture, root: Path, tmp_path: Path, rows: str | None, why: str) -> None:
    words = () if rows is None else ("--rows", rows)
    assert why in refused(capsys, condense, "--root", root, "--to", tmp_path / "new", *words)
    assert not (tmp_path / "new").exists()


def test_an_alpha_below_zero(capsys: Capture, root: Path, tmp_path: Path) -> None:
    assert "--alpha" in refused(capsys, augment, "--root", root, "--to", tmp_path / "new", "--alpha", "-1")


@both
def test_a_new_root_is_made_once_and_only_by_its_own_command(
    capsys: Capture, root: Path, tmp_path: Path, command: ModuleType
) -> None:
    new = tmp_path / "new"
    words = ["--root", str(root), "--to", str(new), *MORE[command], "--no-progress"]
    assert command.main(words) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert first["generation"] == 1 and first["embedded"] == first["vectors"]
    assert command.main(words) == 0
    output = capsys.readouterr()
    assert "nothing to do" in output.err and json.loads(output.out.splitlines()[-1])["embedded"] == 0
    other = ("--alpha", "1") if command is augment else ("--rows", "21")
    line = refused(capsys, command, "--root", root, "--to", new, *other)
    assert "of another request" in line and "name a new root with --to" in line
    line = refused(capsys, reindex, "--root", new)
    name = command.__name__.rpartition(".")[2]
    assert f"by pixdex {name}" in line and f"run pixdex {name} of it into a new root" in line
    line = refused(capsys, build, "--root", new, *roots.write_ready(tmp_path / "others"))
    assert "of another request" in line


@both
def test_other_commands_work_on_the_new_root(capsys: Capture, root: Path, tmp_path: Path, command: ModuleType) -> None:
    new = str(tmp_path / "new")
    assert command.main(["--root", str(root), "--to", new, *MORE[command], "--no-progress"]) == 0
    np.save(tmp_path / "query.npy", np.ones(8, np.float32))
    assert search.main(["--root", new, "--vector", str(tmp_path / "query.npy"), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out.splitlines()[-1])["results"]) == 10
    assert inspect.main(["--root", new, "--json"]) == 0
    (source,) = json.loads(capsys.readouterr().out.splitlines()[-1])["sources"]
    assert source["kind"] == "root" and source["pattern"] == f"file://{root}" and source["generation"] == 1
    assert ("rows" in source) == (command is condense) and ("alpha" in source) == (command is augment)
    assert inspect.main(["--root", new]) == 0
    assert gc.main(["--root", new]) == 0
    words = ("--num-queries", "10", "--label-column", "label", "--work", str(tmp_path / "work"), "--no-progress")
    assert evaluate.main(["--root", new, *words]) == 0


def test_a_root_that_was_made_anew_meanwhile_is_told_from_the_one_that_was_asked(
    capsys: Capture, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, new = tmp_path / "copy", tmp_path / "new"
    shutil.copytree(root, copy)
    words = ["--root", str(copy), "--to", str(new), "--no-progress"]
    with monkeypatch.context() as patched:
        patched.setattr("transforms.tasks.derive.shard.derive_shard", _stop)
        with pytest.raises(RuntimeError, match="stopped"):
            augment.main(words)
    shutil.rmtree(copy)
    others = roots.write_ready(tmp_path / "others", 100, seed=1)
    assert build.main(["--root", str(copy), *others, "--index-key", "IVF2,Flat"]) == 0
    capsys.readouterr()
    assert augment.main(words) == 1
    assert "not the one that it was begun with: start again with --abandon-plan" in capsys.readouterr().err
    assert augment.main([*words, "--abandon-plan"]) == 0


def _stop(*_: object) -> None:
    raise RuntimeError("stopped")

"""What people have on PYTHONPATH may be called as our packages are: one line says what is in the way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

SCRIPT = ("-P", "-c", "import pixdex, sys; sys.exit(pixdex.main())")
"""What the console script does."""


def run(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Runs Python with a folder on PYTHONPATH, before the packages."""
    path = os.pathsep.join([str(folder), str(REPOSITORY)])
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder.parent,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def write(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("raise ImportError('theirs')\n")
    return file


@pytest.mark.parametrize("name", ["transforms.py", "pipelines.py", "transforms/__init__.py", "pipelines/__init__.py"])
def test_a_module_on_the_path_that_hides_a_package_is_named(tmp_path: Path, name: str) -> None:
    theirs = write(tmp_path / "theirs" / name)
    done = run(theirs.parents[len(Path(name).parts) - 1], *SCRIPT, "--help")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and done.stdout == ""
    assert line.startswith(f"pixdex: {theirs} hides the package {name.removesuffix('.py').split('/')[0]} of pixdex: ")


@pytest.mark.parametrize("module", ["pipelines", "pipelines.build", "pipelines.worker_pool"])
def test_a_command_that_is_started_as_a_module_names_it_too(tmp_path: Path, module: str) -> None:
    theirs = write(tmp_path / "theirs" / "transforms.py")
    done = run(theirs.parent, "-m", module, "--help")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and done.stdout == ""
    assert line.startswith(f"pixdex: {theirs} hides the package transforms of pixdex: ")


def test_a_module_of_the_working_directory_is_taken_for_no_package(tmp_path: Path) -> None:
    write(tmp_path / "transforms.py")
    (tmp_path / "theirs").mkdir()
    assert run(tmp_path / "theirs", "-m", "pipelines.worker_pool", "--help").returncode == 0


def test_a_folder_of_that_name_that_is_no_package_hides_none(tmp_path: Path) -> None:
    (tmp_path / "theirs" / "transforms").mkdir(parents=True)
    assert run(tmp_path / "theirs", *SCRIPT, "--help").returncode == 0


@pytest.mark.parametrize("words", [SCRIPT, ("-m", "pipelines")], ids=["pixdex", "-m"])
def test_other_modules_on_the_path_are_in_nobodys_way(tmp_path: Path, words: tuple[str, ...]) -> None:
    theirs = write(tmp_path / "theirs" / "encoders.py")
    done = run(theirs.parent, *words, "--help")
    assert done.returncode == 0 and done.stdout.startswith("pixdex turns")

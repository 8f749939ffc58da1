"""The wheel: what is in it, and that it works where nothing else of this repository is."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path

import pytest

import pixdex
from pipelines import cli
from tests.conftest import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
NO_DATA = frozenset({".py", ".md", ".png", ".pyc"})
"""Endings of files beside modules that are none of the program: documents, and pictures in them."""


@dataclass(frozen=True)
class Installed:
    """The wheel in an environment of its own."""

    wheel: Path
    bin: Path

    def run(self, *words: str, cwd: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Runs a program of the environment in a folder, with nothing on PYTHONPATH but what is given."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIXDEX"))}
        return subprocess.run(
            [self.bin / words[0], *words[1:]],
            cwd=cwd,
            env={**clean, "HF_HUB_OFFLINE": "1", **variables},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built of a copy of all that is here, without a network: setuptools is that of the running environment."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE", "pixdex.py"):
        shutil.copy(REPOSITORY / name, copy)
    for name in ("pipelines", "transforms", "tests", "deploy"):
        shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    asked = ["wheel", "--no-build-isolation", "--no-deps", "--no-index", "--disable-pip-version-check", "--quiet"]
    subprocess.run([sys.executable, "-m", "pip", *asked, "--wheel-dir", out, copy], check=True)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """In a new environment, which sees the packages that pixdex needs, but no pixdex that is installed beside them.

    What is named in a `.pth` is put behind the environment's own packages, and its own `.pth` files, of which one leads
    to this repository, are not read.
    """
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, symlinks=True)
    (packages,) = place.glob("lib/python*/site-packages")
    others = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    (packages / "others.pth").write_text("\n".join(others) + "\n")
    into = ["--python", str(place / "bin" / "python"), "--disable-pip-version-check", "--quiet"]
    asked = ["install", "--no-deps", "--no-index", "--force-reinstall", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *into, *asked], check=True)
    return Installed(wheel, place / "bin")


def test_it_holds_the_packages_and_their_data_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {
        "pipelines",
        "transforms",
        "pixdex.py",
    }
    there = [file for package in ("pipelines", "transforms") for file in (REPOSITORY / package).rglob("*")]
    modules = {file.relative_to(REPOSITORY).as_posix() for file in there if file.suffix == ".py"}
    data = {file.relative_to(REPOSITORY).as_posix() for file in there if file.is_file() and file.suffix not in NO_DATA}
    assert {"transforms/py.typed", "pipelines/py.typed", "pipelines/terminal/result_page.html.jinja"} <= data
    assert {name for name in data if name.endswith((".json", ".safetensors"))}
    assert modules | data == {name for name in names if name.startswith(("pipelines/", "transforms/"))}


def test_its_name_says_the_version_that_the_project_has(wheel: Path) -> None:
    assert re.fullmatch(rf"pixdex-{re.escape(PROJECT['version'])}-py3-none-any\.whl", wheel.name)


def test_the_program_and_the_module_tell_that_version(installed: Installed, tmp_path: Path) -> None:
    assert installed.run("pixdex", "--version", cwd=tmp_path).stdout == f"pixdex {PROJECT['version']}\n"
    asked = "import pixdex; print(pixdex.__version__, pixdex.__file__)"
    version, file = installed.run("python", "-c", asked, cwd=tmp_path).stdout.split()
    assert version == PROJECT["version"] and Path(file).is_relative_to(installed.bin.parent)


def test_here_it_is_told_too() -> None:
    assert pixdex.__version__ == cli.version() == version_of("pixdex")


def test_the_rest_of_the_project_is_told(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        metadata = archive.read(name).decode()
        (points,) = [name for name in archive.namelist() if name.endswith("/entry_points.txt")]
        assert "pixdex = pixdex:main" in archive.read(points).decode()
    assert "License-Expression: Apache-2.0" in metadata and "Requires-Python: >=3.11" in metadata
    needed = re.findall(r"^Requires-Dist: ([\w.-]+)[^;\n]*$", metadata, re.M)
    assert len(needed) == len(PROJECT["dependencies"])


def hostile(folder: Path) -> Path:
    """A folder in which somebody has modules that are called as our packages are."""
    folder.mkdir()
    for name in ("transforms", "pipelines"):
        (folder / f"{name}.py").write_text("raise SystemExit('theirs was imported')\n")
    return folder


@pytest.mark.parametrize(
    "words",
    [("--help",), ("build", "--help"), ("completion", "bash"), ("plan", "--num-vectors", "1e6", "--dim", "64")],
    ids=" ".join,
)
def test_it_runs_beside_modules_of_our_names(installed: Installed, tmp_path: Path, words: tuple[str, ...]) -> None:
    done = installed.run("pixdex", *words, cwd=hostile(tmp_path / "theirs"))
    assert done.returncode == 0 and "theirs" not in done.stdout + done.stderr, done.stderr


@pytest.mark.gate
def test_the_demo_runs_beside_modules_of_our_names(installed: Installed, tmp_path: Path) -> None:
    folder = hostile(tmp_path / "theirs")
    done = installed.run("pixdex", "demo", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "pixdex-demo" / "results.html").is_file() and "red circle" in done.stdout
    found = installed.run("pixdex", "search", "--root", "pixdex-demo/index", "a red circle", "--json", cwd=folder)
    assert found.returncode == 0 and '"rank": 1' in found.stdout

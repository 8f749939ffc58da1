"""A Python that is started anew finds the packages of the one that starts it, however that one found them."""

import os
import site
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from transforms import interpreter

WHERE = "import transforms; print(transforms.__file__)"


def started_from(folder: Path) -> str:
    """Where such a Python finds a package."""
    done = subprocess.run(
        interpreter.command("-c", WHERE), cwd=folder, env=interpreter.environment(), capture_output=True, check=True
    )
    return done.stdout.decode().strip()


@pytest.fixture
def checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of `python -m pipelines.build` in a checkout: only the first place of the path has the packages."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(sys, "path", [str(REPOSITORY), *(each for each in sys.path if each != str(REPOSITORY))])


@pytest.mark.usefixtures("checkout")
def test_a_checkout_that_is_not_installed_is_found(tmp_path: Path) -> None:
    (tmp_path / "transforms.py").write_text("raise ImportError('theirs')\n")
    assert started_from(tmp_path) == str(REPOSITORY / "transforms" / "__init__.py")


@pytest.mark.usefixtures("checkout")
def test_what_is_on_the_path_already_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}")
    assert interpreter.environment()["PYTHONPATH"] == os.pathsep.join([str(tmp_path), str(REPOSITORY)])


@pytest.mark.usefixtures("checkout")
def test_packages_that_are_installed_are_put_on_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "getsitepackages", lambda: [str(REPOSITORY)])
    assert "PYTHONPATH" not in interpreter.environment()


def test_a_path_that_names_the_packages_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    assert interpreter.environment()["PYTHONPATH"] == str(REPOSITORY)

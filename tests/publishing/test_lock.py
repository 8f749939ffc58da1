"""What the demo runs with, by hash: in step with what pixdex asks for, and with what the image installs."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import REPOSITORY

LOCK = (REPOSITORY / "deploy" / "demo" / "requirements.txt").read_text()
IMAGE = (REPOSITORY / "deploy" / "requirements.txt").read_text()
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
STANZA = re.compile(r"^([\w.-]+)==([\w.]+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", re.MULTILINE)


def pins(text: str) -> dict[str, str]:
    return {name: version for name, version, _ in STANZA.findall(text)}


def needs(name: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """What a package that is installed asks for, here and now."""
    found = set[str]()
    for requirement in map(Requirement, distribution(name).requires or ()):
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": each}) for each in extras | {""}):
            found.add(canonicalize_name(requirement.name))
    return found


def unless_others_are_installed(why: str) -> None:
    """What the packages need is asked of those that are installed: where these have other versions, it may be more."""
    others = [name for name, pinned in pins(LOCK).items() if (version := version_here(name)) and version != pinned]
    if others:
        pytest.skip(f"{why}; {', '.join(others)} of other versions are installed here than are pinned")
    pytest.fail(why)


def version_here(name: str) -> str | None:
    try:
        return distribution(name).version.partition("+")[0]
    except PackageNotFoundError:
        return None


def test_it_holds_nothing_but_packages_with_hashes_and_asks_no_other_host() -> None:
    header, *rest = LOCK.splitlines()
    assert header.startswith("# Made by deploy/pins.py --demo")
    assert STANZA.sub("", "\n".join(rest)).strip() == ""
    assert "://" not in LOCK and "--index" not in LOCK


def test_it_is_in_step_with_pyproject() -> None:
    pinned = pins(LOCK)
    for requirement in map(Requirement, PROJECT["dependencies"]):
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


def test_it_is_some_of_what_the_image_installs() -> None:
    assert set(STANZA.findall(LOCK)) < set(STANZA.findall(IMAGE))


def test_it_has_all_that_its_packages_need() -> None:
    """As they are installed here; extras, which some of them ask for of others, are in the test below."""
    pinned = set(pins(LOCK))
    wanted = {canonicalize_name(each.name) for each in map(Requirement, PROJECT["dependencies"])}
    asked, seen = set[str](wanted), set[str]()
    while asked:
        name = asked.pop()
        try:
            more = needs(name)
        except PackageNotFoundError:
            pytest.skip(f"{name} is not installed here: what it needs is not known")
        seen.add(name)
        asked |= more - seen
    if not seen <= pinned:
        unless_others_are_installed(f"{', '.join(sorted(seen - pinned))} are needed and not pinned")


def test_the_command_that_makes_it_makes_it() -> None:
    made = subprocess.run(
        [sys.executable, REPOSITORY / "deploy" / "pins.py", "--demo"],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if made.stdout != LOCK:
        unless_others_are_installed(f"it makes another: {made.stderr[-300:]}")

"""Prints what the image installs: everything that pixdex[gcp,s3,serve] needs, as it is installed here, one pin a line.

    python deploy/pins.py | python deploy/hashes.py > deploy/requirements.txt

An image without CUDA takes PyTorch's build for CPUs, which is in an index of its own:

    python deploy/pins.py --cpu |
        python deploy/hashes.py --index https://download.pytorch.org/whl/cpu > deploy/requirements-cpu.txt

What pixdex needs without these extras, which is what the demo runs with, is some of the image's, word for word; nobody
is asked for it:

    python deploy/pins.py --demo > deploy/demo/requirements.txt
"""

import argparse
import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_CUDA: Final = ("nvidia-", "cuda-", "triton")
_BUILT_FOR: Final = ("torch", "torchvision")
_HERE: Final = Path(__file__).parent
_HEADER: Final = "# Made by deploy/pins.py --demo, of requirements.txt above."


def pins(name: str, extras: frozenset[str], seen: dict[tuple[str, frozenset[str]], str]) -> None:
    """Collects the version of a package and of all that it needs, with these extras."""
    key = (canonicalize_name(name), extras)
    if key in seen:
        return
    installed = distribution(name)
    seen[key] = installed.version.partition("+")[0]
    for requirement in map(Requirement, installed.requires or ()):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
            pins(requirement.name, frozenset(requirement.extras), seen)


def needed(*extras: str) -> dict[str, str]:
    """Returns the versions of all that pixdex needs, as its pyproject.toml says, with these extras."""
    project = tomllib.loads((_HERE.parent / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(each for extra in extras for each in project["optional-dependencies"][extra])]
    seen: dict[tuple[str, frozenset[str]], str] = {}
    for requirement in map(Requirement, asked):
        pins(requirement.name, frozenset(requirement.extras), seen)
    return {name: version for (name, _), version in seen.items()}


def of_the_image(names: set[str]) -> list[str]:
    """Returns some of the packages that the image installs, with their hashes; raises KeyError where it has not one."""
    stanzas = re.findall(r"^(?=\w)(([\w.-]+)==.*(?:\n    .*)*)", (_HERE / "requirements.txt").read_text(), re.MULTILINE)
    there = {name: text for text, name in stanzas}
    return [there[name] for name in sorted(names)]


def main() -> None:
    """Prints them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="store_true", help="PyTorch without CUDA's libraries")
    parser.add_argument("--demo", action="store_true", help="without the extras; some of deploy/requirements.txt")
    arguments = parser.parse_args()
    if arguments.demo:
        print(_HEADER, *of_the_image({*needed()}), sep="\n")
        return
    versions = needed("gcp", "s3", "serve")
    if arguments.cpu:
        versions = {name: version for name, version in versions.items() if not name.startswith(_CUDA)}
        versions |= {name: f"{versions[name]}+cpu" for name in _BUILT_FOR}
    print(*(f"{name}=={version}" for name, version in sorted(versions.items())), sep="\n")


if __name__ == "__main__":
    main()

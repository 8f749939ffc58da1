"""Prints what the image installs: everything that pixdex[gcp,s3] needs, as it is installed here, one pin a line.

    python deploy/pins.py > deploy/requirements.txt

What PyTorch pins by itself (CUDA's libraries) is left to it, so that a build of PyTorch without CUDA can be installed.
"""

from importlib.metadata import distribution
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HEADER: Final = "# Made by deploy/pins.py, of versions that the tests passed with."
_OF_TORCH: Final = ("nvidia-", "cuda-", "triton")


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


def main() -> None:
    """Prints them."""
    seen: dict[tuple[str, frozenset[str]], str] = {}
    pins("pixdex", frozenset({"gcp", "s3"}), seen)
    lines = {f"{name}=={version}" for (name, _), version in seen.items() if name != "pixdex"}
    print(HEADER, *sorted(line for line in lines if not line.startswith(_OF_TORCH)), sep="\n")


if __name__ == "__main__":
    main()

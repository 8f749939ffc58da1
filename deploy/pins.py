"""Prints what the image installs: everything that pixdex[gcp,s3] needs, as it is installed here, one pin a line.

    python deploy/pins.py | python deploy/hashes.py > deploy/requirements.txt

An image without CUDA takes PyTorch's build for CPUs, which is in an index of its own:

    python deploy/pins.py --cpu |
        python deploy/hashes.py --index https://download.pytorch.org/whl/cpu > deploy/requirements-cpu.txt
"""

import argparse
from importlib.metadata import distribution
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_CUDA: Final = ("nvidia-", "cuda-", "triton")
_BUILT_FOR: Final = ("torch", "torchvision")


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="store_true", help="PyTorch without CUDA's libraries")
    cpu = parser.parse_args().cpu
    seen: dict[tuple[str, frozenset[str]], str] = {}
    pins("pixdex", frozenset({"gcp", "s3"}), seen)
    versions = {name: version for (name, _), version in seen.items() if name != "pixdex"}
    if cpu:
        versions = {name: version for name, version in versions.items() if not name.startswith(_CUDA)}
        versions |= {name: f"{versions[name]}+cpu" for name in _BUILT_FOR}
    print(*(f"{name}=={version}" for name, version in sorted(versions.items())), sep="\n")


if __name__ == "__main__":
    main()

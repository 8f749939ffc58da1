"""Reads pins, and prints them with the hash of the file that the image installs of each: pip takes no other.

    python deploy/pins.py | python deploy/hashes.py > deploy/requirements.txt

The files are the wheels for the Python of deploy/versions.env on the image's Debian, x86-64; of a package without one,
its source. uv asks the package index for them, and downloads none: `pip install uv`, or set UV to the program. Lines
that have hashes already get them anew.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any, Final

HEADER: Final = "# Made by deploy/pins.py and deploy/hashes.py, of versions that the tests passed with."
_VERSIONS: Final = Path(__file__).with_name("versions.env")
_PLATFORM: Final = "x86_64-manylinux_2_36"
"""Debian 12, which the image is made of, has this version of glibc."""

_PIN: Final = re.compile(r"^([\w.-]+==[\w.+]+)", re.MULTILINE)


def locked(pins: list[str], index: str | None) -> list[dict[str, Any]]:
    """Returns what uv says of each pinned package: name, version, and its files with their hashes."""
    versions = dict(line.split("=", 1) for line in _VERSIONS.read_text().splitlines() if not line.startswith("#"))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "requirements.in").write_text("\n".join(pins))
        command = [
            os.environ.get("UV", "uv"),
            "pip",
            "compile",
            "requirements.in",
            "--quiet",
            "--no-config",
            "--no-deps",
        ]
        command += ["--format", "pylock.toml", "--output-file", "pylock.toml"]
        command += ["--python-version", versions["PYTHON"], "--python-platform", _PLATFORM]
        if index is not None:
            command += ["--index", index]
        subprocess.run(command, cwd=folder, check=True)
        packages: list[dict[str, Any]] = tomllib.loads((Path(folder) / "pylock.toml").read_text())["packages"]
    return packages


def requirement(package: dict[str, Any]) -> str:
    """Returns a package as pip reads it: with the hash of each wheel that fits, or of its source where none does."""
    files = package.get("wheels") or [package["sdist"]]
    hashes = sorted({f"--hash=sha256:{file['hashes']['sha256']}" for file in files})
    return " \\\n    ".join([f"{package['name']}=={package['version']}", *hashes])


def main() -> None:
    """Prints them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", help="URL of an index that is asked before PyPI")
    index = parser.parse_args().index
    packages = locked(_PIN.findall(sys.stdin.read()), index)
    print(HEADER, *sorted(map(requirement, packages)), sep="\n")


if __name__ == "__main__":
    main()

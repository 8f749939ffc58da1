"""Prints the licences of all that the image installs, as the packages that are installed here tell them.

python deploy/licenses.py > deploy/licenses.md
"""

import re
from importlib.metadata import PackageMetadata, metadata
from pathlib import Path
from typing import Final

REQUIREMENTS: Final = Path(__file__).with_name("requirements.txt")
_LONGEST: Final = 80
_CLASSIFIER: Final = "License :: "

HEADER: Final = """# Licences of what the image installs

Made by `python deploy/licenses.py > deploy/licenses.md`, of what each package says of itself; *not said* is not *free*:
look at its files. pixdex's own is [Apache 2.0](../LICENSE).

| package | licence |
|---|---|"""


def pinned() -> dict[str, str]:
    """Returns the version of every package of the image."""
    return dict(re.findall(r"^([\w.-]+)==([\w.+]+)", REQUIREMENTS.read_text(), re.MULTILINE))


def license_of(package: PackageMetadata) -> str:
    """Returns what a package says of its licence: an expression, else classifiers, else a short line of its own."""
    if expression := package.get("License-Expression"):
        return str(expression)
    classifiers = [each for each in package.get_all("Classifier") or [] if each.startswith(_CLASSIFIER)]
    named = sorted({each.rpartition(" :: ")[2] for each in classifiers} - {"OSI Approved"})
    line = str(package.get("License") or "").strip()
    if named:
        return ", ".join(named)
    return line if line and "\n" not in line and len(line) <= _LONGEST else "*not said*"


def line(name: str) -> str:
    """Returns the row of a package that is installed here."""
    return f"| {name} | {license_of(metadata(name)).replace('|', ' or ')} |"


def main() -> None:
    """Prints them."""
    print(HEADER, *map(line, sorted(pinned())), sep="\n")


if __name__ == "__main__":
    main()

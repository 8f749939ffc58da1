"""Finds every version that `deploy/` names, by pattern, and says which differ from `deploy/versions.env`.

Three patterns find them: a version behind the name of its product (`apache-beam[gcp]==2.77.0`, `flinkVersion: v1_19`,
`beam_python3.11_sdk`), which may be cut (`1.19` for `1.19.3`); the default of a Dockerfile's `ARG`; and any number of
three parts, whatever stands before it, which must be a version of something in `versions.env`. Only the pins of a
`requirements.txt` may be of something else: they are held against the bounds of `pyproject.toml`.
"""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.utils import NormalizedName, canonicalize_name

from tests.conftest import REPOSITORY

DEPLOY: Final = REPOSITORY / "deploy"

PRODUCTS: Final = {
    "BEAM": r"apache-beam(?:\[\w+\])?|apache/beam_[\w.]+(?=:)|(?<!apache-)beam",
    "PYTHON": r"python",
    "FLINK": r"flink(?:-libraries)?",
    "FLINK_OPERATOR": r"operator",
    "KUBERNETES": r"(?<!cncf-)kubernetes",
    "AIRFLOW": r"airflow",
    "AIRFLOW_KUBERNETES_PROVIDER": r"providers-cncf-kubernetes",
    "FLINK_JOB_SERVER": r"(?:flink[-_.])?job[-_.]server(?!:)",
    "SLF4J": r"slf4j-simple",
    "MAVEN_SHADE": r"maven-shade-plugin",
    "PIXDEX": r"pixdex(?=:)|newTag(?=:)",
}
"""How each product is spelled before its version."""

NO_PRODUCT: Final = {"4.0.0"}
"""Maven's name of its own file format."""

_BETWEEN: Final = r"""(?:[-_.]?version)?["']?(?:\s*(?:==|>=|~=|[:=@-])\s*|</artifactId>\s*<version>|\s+)?["']?v?"""
_BEHIND_A_NAME: Final = {
    key: re.compile(rf"(?<![A-Za-z])(?:{names}){_BETWEEN}(\d+(?:[._]\d+)+)", re.IGNORECASE)
    for key, names in PRODUCTS.items()
}
_ARGUMENT: Final = re.compile(r"^ARG\s+(\w+)=(\d\S*)", re.MULTILINE)
_PIN: Final = re.compile(r"^([\w.-]+)(?:\[[\w,-]+\])?==(\S+)", re.MULTILINE)
_OF_THREE_PARTS: Final = re.compile(r"(?<![\d.])\d+\.\d+\.\d+(?!\.?\d)")


@dataclass(frozen=True)
class Mention:
    """A version that a file names.

    Attributes:
        path: relative to the folder that was searched.
        start: where in its text it begins.
        version: as it is spelled there.
        product: a key of `versions.env`, or None if only its three parts say that it is a version.
    """

    path: Path
    start: int
    version: str
    product: str | None


def read(deploy: Path = DEPLOY) -> dict[str, str]:
    """Returns what `versions.env` says."""
    lines = (deploy / "versions.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def of_pixdex() -> str:
    """Returns the version that `pyproject.toml` gives this repository."""
    return str(tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"])


def mentions(deploy: Path = DEPLOY) -> Iterator[Mention]:
    """Yields every version in every file below a folder, but for its own `versions.env`."""
    for path in sorted(deploy.rglob("*")):
        relative = path.relative_to(deploy)
        if path.is_dir() or "__pycache__" in relative.parts or relative == Path("versions.env"):
            continue
        text = path.read_text(encoding="utf-8")
        for product, pattern in _BEHIND_A_NAME.items():
            for match in pattern.finditer(text):
                yield Mention(relative, match.start(1), match[1], product)
        for match in _ARGUMENT.finditer(text):
            yield Mention(relative, match.start(2), match[2], match[1])
        pinned = {match.start(2) for match in _PIN.finditer(text) if path.name == "requirements.txt"}
        for match in _OF_THREE_PARTS.finditer(text):
            if match[0] not in NO_PRODUCT and match.start() not in pinned:
                yield Mention(relative, match.start(), match[0], None)


def pins(deploy: Path = DEPLOY) -> Iterator[tuple[Path, NormalizedName, str]]:
    """Yields file, package and version of every pin of every `requirements.txt`."""
    for path in sorted(deploy.rglob("requirements.txt")):
        for match in _PIN.finditer(path.read_text(encoding="utf-8")):
            yield path.relative_to(deploy), canonicalize_name(match[1]), match[2]


def disagreements(deploy: Path = DEPLOY) -> list[str]:
    """Returns a line for every version that `versions.env` does not say."""
    pinned = {**read(deploy), "PIXDEX": of_pixdex()}
    said = []
    for each in mentions(deploy):
        if each.product is None and each.version not in pinned.values():
            said.append(f"{each.path}: {each.version} is a version of nothing in versions.env")
        if each.product is not None and not _is_cut_of(each.version, pinned.get(each.product, "missing")):
            said.append(f"{each.path}: {each.product} {each.version}, in versions.env {pinned.get(each.product)}")
    return said


def _is_cut_of(version: str, pinned: str) -> bool:
    return version == pinned or f"{pinned}.".startswith(f"{version.replace('_', '.')}.")

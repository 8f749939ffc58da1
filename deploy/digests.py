"""Writes the digest of every image that others made into what starts from it, so that a tag that moves changes nothing.

    python deploy/digests.py

asks the images' registries, by `docker buildx imagetools inspect`, and rewrites deploy/Dockerfile and the manifests of
deploy/kubernetes in place: `python:3.11-bookworm` becomes `python:3.11-bookworm@sha256:…`. Run again, it writes the
digests of today. All are asked before anything is written.
"""

import re
import subprocess
import sys
from pathlib import Path
from string import Template
from typing import Final

DEPLOY: Final = Path(__file__).resolve().parent

_IN_DOCKERFILE: Final = re.compile(r"^(FROM\s+)(\S+?)(?:@sha256:[0-9a-f]{64})?(?=\s|$)", re.MULTILINE)
_IN_MANIFEST: Final = re.compile(r"^(\s*(?:- )?image:\s+)(\S+?)(?:@sha256:[0-9a-f]{64})?(?=\s|$)", re.MULTILINE)
_ARGUMENT: Final = re.compile(r"^ARG\s+(\w+)=(\S+)", re.MULTILINE)
_OURS: Final = "pixdex:"


def files() -> list[tuple[Path, re.Pattern[str]]]:
    """Returns what names images, and how."""
    manifests = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    return [(DEPLOY / "Dockerfile", _IN_DOCKERFILE), *((path, _IN_MANIFEST) for path in manifests)]


def images() -> dict[str, str]:
    """Returns the images of others, as they are spelled where they stand, with what a registry calls them."""
    found = {}
    for path, pattern in files():
        text = path.read_text()
        values = dict(_ARGUMENT.findall(text))
        for _, image in pattern.findall(text):
            if ":" in image and not image.startswith(_OURS):  # or it is another stage
                found[image] = Template(image).substitute(values)
    return found


def digest(image: str) -> str:
    """Asks a registry for the digest of an image, which is that of its list where it is for several machines."""
    command = ["docker", "buildx", "imagetools", "inspect", "--format", "{{.Manifest.Digest}}", image]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout.strip()
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", said):
        raise SystemExit(f"{image}: docker said {said!r}, which is no digest")
    return said


def main() -> None:
    """Asks, then writes."""
    digests = {spelled: digest(image) for spelled, image in images().items()}
    for path, pattern in files():
        text = path.read_text()
        new = pattern.sub(
            lambda match: f"{match[1]}{match[2]}@{digests[match[2]]}" if match[2] in digests else match[0], text
        )
        if new != text:
            path.write_text(new)
    print(*(f"{image}@{digests[spelled]}" for spelled, image in images().items()), sep="\n", file=sys.stderr)


if __name__ == "__main__":
    main()

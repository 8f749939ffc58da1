"""The Flex Template: its parameters are the flags of the jobs, and its launcher makes a command of them."""

import argparse
import importlib.util
import json
import os
import re
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

from pipelines.running import beam_options
from pipelines.terminal import command_line
from pipelines.terminal.jobs import OPTIONS
from tests.conftest import REPOSITORY
from tests.jobs import JOBS
from transforms.errors import UsageError

TEMPLATE: Final = REPOSITORY / "deploy" / "dataflow"


def module(name: str) -> ModuleType:
    """A file of the template, which is no package."""
    spec = importlib.util.spec_from_file_location(f"dataflow_{name}", TEMPLATE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


launch, metadata = module("launch"), module("metadata")
WRITTEN: Final[dict[str, Any]] = json.loads((TEMPLATE / "metadata.json").read_text())


def test_parameters_are_the_flags_that_there_are() -> None:
    assert WRITTEN["parameters"] == metadata.parameters(), "run: python deploy/dataflow/metadata.py > …/metadata.json"


def test_only_the_root_and_the_image_must_be_given() -> None:
    assert {each["name"] for each in WRITTEN["parameters"] if not each["isOptional"]} == {"root", "sdk_container_image"}


def test_the_job_is_one_of_those_that_there_are() -> None:
    (job,) = [each for each in WRITTEN["parameters"] if each["name"] == "job"]
    assert set(OPTIONS) == set(JOBS)
    assert all(re.fullmatch(job["regexes"][0], name) for name in JOBS)


def known_to(job: str, name: str) -> bool:
    """Whether a parameter is for a job."""
    parser = argparse.ArgumentParser(add_help=False)
    for group in OPTIONS[job]:
        group.add_to(parser)
    return f"--{name}" in parser._option_string_actions or name == "job" or name in metadata.BEAM_FLAGS


@pytest.mark.parametrize("job", ["embed", "reindex"])
def test_every_parameter_of_a_job_becomes_a_flag_that_it_takes(job: str) -> None:
    values = {"metric_type": "l2", "image_fit": "pad", "precision": "full", "modality": "text", "retrain": "never"}
    values["missing_image"] = "text"
    values["refine_store"] = "sq8"
    values["progress"] = "none"
    numbers = {
        "encoder_batch",
        "encoder_threads",
        "pixel_limit",
        "code_size",
        "seed",
        "number_of_worker_harness_threads",
        "max_deltas",
        "host_connections",
        "host_rate",
        "fetch_threads",
    }
    given = []
    for each in WRITTEN["parameters"]:
        name = each["name"]
        if not known_to(job, name):
            continue
        flag = each.get("regexes") == ["^(true|false)$"]
        shares = ("item_timeout", "max_reject_ratio", "max_gone_ratio", "max_tombstones")
        other = "1" if name in numbers else "0.5" if name in shares else "16G"
        value = "true" if flag else job if name == "job" else values.get(name, other)
        assert all(re.fullmatch(pattern, value) for pattern in each.get("regexes", ()))
        given.append(f"--{name}={value}")
    named, *words = launch.words_of(given)
    line = command_line.read(job, "", words, OPTIONS[job])
    options = line.options
    assert named == job
    if job == "embed":
        assert (options.no_normalize, options.seed, options.metric_type) == (True, 1, "l2")
    else:
        assert (options.repair, options.max_deltas, options.retrain) == (True, 1, "never")
        assert options.retry_rejects == ["16G"]
    assert list(line.others) == [
        "--sdk_container_image=16G",
        "--number_of_worker_harness_threads=1",
        "--runner=DataflowRunner",
    ]


def test_several_values_of_one_parameter_are_several_flags() -> None:
    assert launch.words_of(["--images=gs://b/{a,b}/*.png|gs://b/c d"]) == [
        "build",
        "--images=gs://b/{a,b}/*.png",
        "--images=gs://b/c d",
        "--runner=DataflowRunner",
    ]


@pytest.mark.parametrize(("value", "types"), [("all", ["all"]), ("OSError|ValueError", ["OSError", "ValueError"])])
def test_rejects_are_retried_all_or_by_type(value: str, types: list[str]) -> None:
    job, *words = launch.words_of(["--job=reindex", f"--retry_rejects={value}"])
    line = command_line.read(job, "", words, OPTIONS[job])
    assert line.options.retry_rejects == types


@pytest.mark.parametrize("job", ["build", "reindex"])
def test_a_parameter_that_only_other_jobs_have_is_refused(job: str) -> None:
    foreign = [each["name"] for each in WRITTEN["parameters"] if not known_to(job, each["name"])]
    assert {"build": "retrain", "reindex": "images"}[job] in foreign
    for name in foreign:
        with pytest.raises(UsageError, match=f"^{name} is a parameter of .*: leave it out of job {job}$"):
            launch.words_of([f"--job={job}", f"--{name}=true"])


def test_a_parameter_that_no_job_has_is_left_to_the_job_which_refuses_it() -> None:
    job, *words = launch.words_of(["--job=reindex", "--retrian=never"])
    with pytest.raises(UsageError, match="unknown flag --retrian, did you mean --retrain"):
        beam_options.of(command_line.read(job, "", words, OPTIONS[job]))


@pytest.mark.parametrize(("value", "words"), [("true", ["--abandon_plan"]), ("false", [])])
def test_a_flag_without_a_value_is_true_or_false(value: str, words: list[str]) -> None:
    assert launch.words_of([f"--abandon_plan={value}"]) == ["build", *words, "--runner=DataflowRunner"]


def test_flags_that_the_launcher_adds_pass() -> None:
    added = ["--runner=DataflowRunner", "--template_location=gs://b/job", "--experiments=a=b,c"]
    assert launch.words_of(added) == ["build", *added]


@pytest.mark.parametrize("parameter", ["--job=reindexx", "--abandon_plan=yes"])
def test_a_wrong_parameter_is_refused(parameter: str) -> None:
    with pytest.raises(UsageError, match="give "):
        launch.words_of([parameter])


# --- the script that makes the template -----------------------------------------------------------------------------

SETTINGS: Final = {"BUCKET": "some-bucket", "IMAGE": "some-registry/pixdex:1"}


def make(folder: Path, settings: dict[str, str], *tools: str) -> "subprocess.CompletedProcess[str]":
    for tool in tools:
        stub = folder / tool
        stub.write_text(f"#!/bin/sh\necho {tool} \"$@\" >>'{folder}/asked'\n")
        stub.chmod(0o755)
    for tool in ("bash", "dirname"):
        (folder / tool).symlink_to(subprocess.check_output(["sh", "-c", f"command -v {tool}"], text=True).strip())
    return subprocess.run(
        [str(folder / "bash"), str(TEMPLATE / "template.sh")],
        env={"PATH": str(folder), "HOME": os.environ.get("HOME", "/"), **settings},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def test_the_template_is_of_the_image_and_tells_its_parameters(tmp_path: Path) -> None:
    done = make(tmp_path, {**SETTINGS, "ENCODERS": "demo timm:x"}, "docker", "gcloud")
    assert done.returncode == 0, done.stderr
    spec = "--image=some-registry/pixdex:1 --sdk-language=PYTHON --metadata-file=deploy/dataflow/metadata.json"
    assert (tmp_path / "asked").read_text().splitlines() == [
        "docker build --file deploy/Dockerfile --tag some-registry/pixdex:1 --build-arg ENCODERS=demo timm:x .",
        "docker push some-registry/pixdex:1",
        f"gcloud dataflow flex-template build gs://some-bucket/templates/pixdex-build.json {spec}",
    ]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_missing_setting_is_named(tmp_path: Path, name: str) -> None:
    done = make(tmp_path, {key: value for key, value in SETTINGS.items() if key != name}, "docker", "gcloud")
    assert done.returncode == 2
    assert done.stderr.startswith(f"template.sh: {name} is missing")


@pytest.mark.parametrize("tool", ["docker", "gcloud"])
def test_a_missing_tool_is_named(tmp_path: Path, tool: str) -> None:
    done = make(tmp_path, SETTINGS, *{"docker", "gcloud"} - {tool})
    assert done.returncode == 1
    assert done.stderr.startswith(f"template.sh: {tool} is missing")

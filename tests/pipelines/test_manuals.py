"""The manual of every job: a whole command for this machine, for Flink and for Dataflow, which the job would take."""

import importlib
import re
import shlex

import pytest
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from pipelines.running import dataflow
from pipelines.running.request import sources_of
from tests.deploy import commands
from tests.jobs import JOBS

pytestmark = pytest.mark.parametrize("job", JOBS)


def commands_of(job: str) -> list[list[str]]:
    """The words of every command that a manual shows."""
    manual = importlib.import_module(f"pipelines.{job}").__doc__ or ""
    lines = re.findall(r"^    (pixdex .+)$", manual.replace("\\\n", " "), re.MULTILINE)
    return [shlex.split(line) for line in lines]


def runner_of(words: list[str]) -> str | None:
    runner: str | None = PipelineOptions(words[2:]).view_as(StandardOptions).runner
    return runner


def test_it_shows_the_job_here_on_flink_and_on_dataflow(job: str) -> None:
    assert {runner_of(words) for words in commands_of(job)} == {None, "PortableRunner", "DataflowRunner"}


def test_every_command_is_one_of_the_job_and_would_be_taken(job: str) -> None:
    for words in commands_of(job):
        assert words[:2] == ["pixdex", job]
        commands.parsed(words)


def test_dataflow_would_get_all_that_it_asks_for(job: str) -> None:
    (words,) = [words for words in commands_of(job) if runner_of(words) == "DataflowRunner"]
    line = commands.parsed(words)
    cloud = "apache_beam.runners.dataflow.internal.apiclient"
    pytest.importorskip(cloud, reason="needs pixdex[gcp]", exc_type=ImportError)
    sources = sources_of(line.options) if hasattr(line.options, "images") else ()
    dataflow.check(line.options.root, sources, PipelineOptions([*line.others, "--no_auth"]))

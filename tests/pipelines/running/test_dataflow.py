"""Jobs on Dataflow, as far as they go without a cloud: the graph that would be submitted, and what is refused before.

Cloud Storage is a server on this machine; root, source and staged files are on it. Nothing is submitted.
"""

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import DebugOptions, PipelineOptions, SetupOptions
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.portability.common_urns import resource_hints
from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner

from pipelines.running import dataflow
from tests import gcs
from tests.conftest import REPOSITORY
from tests.jobs import JOBS
from tests.pipelines.running.dataflow_words import DRY, FLAGS, IMAGE, argv
from transforms.digests import digest
from transforms.forecast.machines import LARGE_BYTES, SMALL_BYTES
from transforms.records import FileReference, ItemSlice, Partition, Plan
from transforms.runs import beginning
from transforms.runs import partitions as planning
from transforms.storage import layout
from transforms.storage.store import Store

pytest.importorskip("apache_beam.runners.dataflow.internal.apiclient", reason="needs pixdex[gcp]", exc_type=ImportError)

LIMIT: Final = 1 << 20


@dataclass(frozen=True)
class Graph:
    """What a command would have submitted."""

    words: list[str]
    pipeline: beam.Pipeline
    proto: Any
    options: PipelineOptions

    @property
    def steps(self) -> dict[str, Any]:
        """The steps that a worker runs, by label."""
        return {
            step.unique_name: step
            for step in self.proto.components.transforms.values()
            if step.environment_id and not step.subtransforms
        }

    @property
    def environments(self) -> list[Any]:
        return list(self.proto.components.environments.values())

    def hints(self, step: str) -> dict[str, bytes]:
        environment = self.proto.components.environments[self.steps[step].environment_id]
        return dict(environment.resource_hints)

    def memory(self, step: str) -> int:
        return int(self.hints(step).get(resource_hints.MIN_RAM_BYTES.urn, 0))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with gcs.serving() as address:
        yield address


@pytest.fixture(scope="module")
def bucket(server: str) -> Iterator[str]:
    """A bucket with a CSV; every test has a root of its own."""
    with gcs.bucket_of(server) as name:
        Store.at(name).filesystem.pipe_file(f"{name}/rows.csv", b"text\n" + b"words\n" * 50)
        yield name


def night(bucket: str, *more: str, flags: Sequence[str] = (*FLAGS, *DRY)) -> list[str]:
    """A reindex of a root that was built, on this machine, of a CSV that has changed since."""
    root, rows = f"{bucket}/{uuid.uuid4().hex}", f"{bucket}/{uuid.uuid4().hex}.csv"
    files = Store.at(bucket).filesystem
    files.pipe_file(rows, b"text\n" + b"words\n" * 20)
    source = ("--csv", rows, "--text-column", "text", "--encoder", "tests.encoders:TinyEncoder", "--no-progress")
    assert JOBS["build"](["--root", root, *source]) == 0
    files.pipe_file(rows, b"text\n" + b"words\n" * 19 + b"others\n")
    return [
        *("--root", root, "--no-progress", "--runner", "DataflowRunner", "--temp_location", f"{bucket}/temp"),
        *flags,
        *more,
    ]


def root_of(words: Sequence[str]) -> str:
    return words[words.index("--root") + 1]


def graph_of(job: str, words: list[str]) -> Graph:
    """The graph that a command gives to Dataflow's runner."""
    kept: list[Graph] = []
    run: Any = DataflowRunner.run_pipeline

    def keep(runner: Any, pipeline: beam.Pipeline, options: PipelineOptions) -> Any:
        result = run(runner, pipeline, options)
        kept.append(Graph(words, pipeline, runner.proto_pipeline, options))
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DataflowRunner, "run_pipeline", keep)
        assert JOBS[job](words) == 0
    (only,) = kept
    return only


@pytest.fixture(
    params=[pytest.param(job, marks=() if job == "build" else pytest.mark.gate) for job in JOBS],
    scope="module",
)
def job(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def graph(job: str, bucket: str) -> Graph:
    """The graph of each job, on workers with a GPU."""
    if job == "reindex":  # the device of its encoder is the root's
        return graph_of(job, night(bucket, "--accelerator", "nvidia-tesla-t4"))
    return graph_of(job, argv(bucket, "--device", "cuda"))


class OwnSteps(PipelineVisitor):
    """Collects the labels of the steps whose functions are of this repository, and of what holds them."""

    def __init__(self) -> None:
        self.labels: set[str] = set()

    def visit_transform(self, transform_node: AppliedPTransform) -> None:
        if type(getattr(transform_node.transform, "fn", None)).__module__.startswith("transforms."):
            # Beam puts a function with several outputs into a step of its own, alone.
            parent = transform_node.parent
            named = parent if parent and len(parent.parts) == 1 else transform_node
            self.labels.update(named.full_label.split("/"))


def artifact_name(artifact: Any) -> str:
    payload = beam_runner_api_pb2.ArtifactStagingToRolePayload.FromString(artifact.role_payload)
    return str(payload.staged_name)


def test_workers_are_of_the_image_and_install_nothing(graph: Graph) -> None:
    assert graph.environments
    for environment in graph.environments:
        docker = beam_runner_api_pb2.DockerPayload.FromString(environment.payload)
        assert docker.container_image == IMAGE
        staged = [artifact_name(each) for each in environment.dependencies]
        assert staged == ["submission_environment_dependencies.txt"]  # what is installed here, for Dataflow's log


def test_no_main_session_is_saved(graph: Graph) -> None:
    assert graph.options.view_as(SetupOptions).save_main_session is False


def test_only_the_step_that_embeds_asks_for_a_gpu(graph: Graph) -> None:
    asking = {step for step in graph.steps if resource_hints.ACCELERATOR.urn in graph.hints(step)}
    assert asking == {"Embed/EmbedPartition"}
    assert graph.hints("Embed/EmbedPartition")[resource_hints.ACCELERATOR.urn] == (
        b"type:nvidia-tesla-t4;count:1;install-nvidia-driver"
    )


def test_every_step_says_what_memory_its_worker_should_have(graph: Graph) -> None:
    for step in graph.steps:
        if step == "Embed/EmbedPartition":
            assert SMALL_BYTES < graph.memory(step) < LARGE_BYTES
        else:
            small = step.partition("/")[0] in ("Plan", "Embed", "Tombstones", "Publish", "Report")
            assert graph.memory(step) == (SMALL_BYTES if small else LARGE_BYTES), step


def test_every_step_of_ours_has_a_label_of_ours(graph: Graph) -> None:
    steps = OwnSteps()
    graph.pipeline.visit(steps)
    assert {"Plan", "ListContainer", "CommitPlan", "EmbedPartition", "EmbedDone"} <= steps.labels
    # What Beam makes of the names of classes and functions has brackets.
    assert [label for label in steps.labels if not re.fullmatch(r"[A-Z][A-Za-z0-9]+", label)] == []


def test_a_worker_works_on_one_task_at_a_time(graph: Graph) -> None:
    shown = graph.options.get_all_options()
    assert "no_use_multiple_sdk_containers" in shown["experiments"]
    assert shown["number_of_worker_harness_threads"] == 1


def test_the_console_shows_the_flags_of_the_job(job: str, graph: Graph, bucket: str) -> None:
    shown = graph.options.display_data()
    assert shown["root"].startswith(f"{bucket}/")
    if job == "reindex":
        assert shown["accelerator"] == "nvidia-tesla-t4"
    else:
        assert shown["encoder"] == "tests.encoders:TinyEncoder"


@pytest.mark.gate
def test_a_graph_does_not_grow_with_the_plan(job: str, graph: Graph) -> None:
    commit_plan(root_of(graph.words), partitions=100_000)
    before, after = (len(each.proto.SerializeToString()) for each in (graph, graph_of(job, graph.words)))
    assert before < LIMIT
    assert abs(after - before) < 100


def commit_plan(root: str, partitions: int) -> None:
    """Plans the run of a root that has begun, as its workers would."""
    run = beginning.unfinished(Store.at(root))
    assert run is not None
    table = FileReference("items.parquet", 1, f"sha256:{0:064}")
    cut = [Partition(shard, shard // 64, (ItemSlice(table, 0, 65536),), 65536, 65536) for shard in range(partitions)]
    plan = Plan(
        generation=run.generation,
        request_digest=digest(run.request),
        partitions=planning.write_partitions(run.store, layout.plan_folder(run.generation), cut),
        first_shard=0,
        shards=partitions,
        blocks=cut[-1].block + 1,
        items=partitions << 16,
        rows=partitions << 16,
        index_key="IVF1048576,PQ8",
    )
    run.store.commit(layout.plan(run.generation), plan)


def test_other_runners_get_no_hints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner  # noqa: PLC0415 - of use to one test

    kept: list[Any] = []
    run = FnApiRunner.run_via_runner_api

    def keep(runner: Any, proto: Any, options: Any) -> Any:
        kept.append(proto)
        return run(runner, proto, options)

    monkeypatch.setattr(FnApiRunner, "run_via_runner_api", keep)
    (tmp_path / "rows.csv").write_text("text\nwords\n")
    source = ["--csv", str(tmp_path / "rows.csv"), "--text-column", "text", "--no-progress", "--runner", "FnApiRunner"]
    encoder = ["--encoder", "tests.encoders:TinyEncoder", "--accelerator", "nvidia-l4"]
    assert JOBS["embed"](["--root", str(tmp_path / "root"), *source, *encoder]) == 0
    (proto,) = kept
    assert [dict(environment.resource_hints) for environment in proto.components.environments.values()] == [{}]


# --- what a person says about workers -------------------------------------------------------------------------------


def embedding_hints(bucket: str, *more: str) -> dict[str, bytes]:
    return graph_of("embed", argv(bucket, *more)).hints("Embed/EmbedPartition")


def test_without_a_gpu_no_gpu_is_asked_for(bucket: str) -> None:
    assert resource_hints.ACCELERATOR.urn not in embedding_hints(bucket)


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("nvidia-l4", "type:nvidia-l4;count:1;install-nvidia-driver"),
        ("type:nvidia-l4;count:2;machine_type:g2-standard-24", "type:nvidia-l4;count:2;machine_type:g2-standard-24"),
    ],
)
def test_a_gpu_can_be_named(bucket: str, asked: str, hint: str) -> None:
    assert embedding_hints(bucket, "--accelerator", asked)[resource_hints.ACCELERATOR.urn].decode() == hint


def test_worker_memory_is_asked_for_where_the_plan_holds_it_against_the_index(bucket: str) -> None:
    graph = graph_of("train", argv(bucket, "--worker-memory", "48G"))
    assert {graph.memory(step) for step in graph.steps if step.startswith("Train/")} == {48 << 30}


def test_threads_that_a_person_names_are_kept() -> None:
    options = PipelineOptions(["--number_of_worker_harness_threads=2"])
    dataflow.one_task_a_machine(options)
    debug = options.view_as(DebugOptions)
    assert debug.number_of_worker_harness_threads == 2
    assert not debug.experiments


# --- who waits ------------------------------------------------------------------------------------------------------


HANDED_OVER: Final = {"generation": 1, "handed_over": "embed"}


def test_a_dry_run_says_that_nothing_is_submitted(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert JOBS["embed"](argv(bucket)) == 0
    said = capsys.readouterr()
    assert said.err == "--dry_run: the graph is built, nothing is submitted\n"
    assert json.loads(said.out.splitlines()[-1]) == {"generation": 1, "graph_built": "embed"}


def described(bucket: str) -> dict[str, Any]:
    """The job that the launcher of a template described."""
    job: dict[str, Any] = json.loads(Store.at(bucket).filesystem.cat_file(f"{bucket}/templates/job"))
    return job


@pytest.mark.gate
def test_the_launcher_of_a_template_describes_the_job_and_ends(bucket: str, tmp_path: Path) -> None:
    parameters = {
        "job": "embed",
        "root": f"{bucket}/{uuid.uuid4().hex}",
        "csv": f"{bucket}/rows.csv",
        "text_column": "text",
        "encoder": "tests.encoders:TinyEncoder",
        "no_normalize": "true",
        "sdk_container_image": IMAGE,
        **{"project": "some-project", "region": "europe-west1", "temp_location": f"{bucket}/temp"},
        "template_location": f"{bucket}/templates/job",
    }
    with gcs.account(tmp_path / "key.json"):
        launched = subprocess.run(
            [
                sys.executable,
                str(REPOSITORY / "deploy" / "dataflow" / "launch.py"),
                *(f"--{name}={value}" for name, value in parameters.items()),
            ],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
    assert launched.returncode == 0, launched.stderr
    assert json.loads(launched.stdout.splitlines()[-1]) == HANDED_OVER
    run = beginning.unfinished(Store.at(parameters["root"]))
    assert run is not None and run.request.encoder.normalize is False
    assert IMAGE in json.dumps(described(bucket)["environment"])
    staged = Store.at(bucket).filesystem.find(f"{bucket}/temp")
    assert [path for path in staged if path.endswith("/pipeline.pb")]


@pytest.mark.gate
def test_a_template_with_nothing_to_do_is_a_job_that_does_nothing(
    bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template = ["--template_location", f"{bucket}/templates/job", "--job_name", "nothing-to-do"]
    words = argv(bucket, *template, flags=FLAGS)
    here = words[: words.index("--runner")]
    assert JOBS["build"](here) == 0
    with gcs.account(tmp_path / "key.json"):
        assert JOBS["build"](words) == 0
        assert described(bucket)["name"] == "nothing-to-do"  # here, for a client may have become the account's
    assert "nothing to do" in capsys.readouterr().err

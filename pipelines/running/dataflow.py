"""What is particular to Dataflow: what a job must be told to run there, and what it is told when nobody says.

What can be refused is refused before anything is written: a flag, an image or a credential that is missing, and a root
or a source that only this machine has.
"""

import logging
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import DebugOptions, GoogleCloudOptions, PipelineOptions, TestOptions
from apache_beam.options.pipeline_options import WorkerOptions as BeamWorkerOptions
from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner
from apache_beam.runners.runner import PipelineRunner

from transforms.errors import UsageError
from transforms.records import Source

_ONE_PROCESS = "no_use_multiple_sdk_containers"
"""Dataflow would start a process for each core, and a task of ours takes several cores by itself."""

_LOCAL = ("file://", "memory://")


def is_asked(runner: PipelineRunner | None) -> bool:
    """Tells whether the job goes to Dataflow."""
    return isinstance(runner, DataflowRunner)


def check(root: str | None, sources: Sequence[Source], options: PipelineOptions) -> None:
    """Refuses a job that could not be submitted, or whose workers would find nothing.

    Args:
        root: what `--root` says, if anything.
        sources: with absolute URLs.
        options: of Beam.

    Raises:
        UsageError: names what is missing and the way out.
    """
    _check_packages()
    _check_flags(options)
    _check_reach(root, sources)
    cloud = options.view_as(GoogleCloudOptions)
    if not cloud.no_auth and not options.view_as(TestOptions).dry_run:
        _check_credentials()


def one_task_a_machine(options: PipelineOptions) -> None:
    """Has a machine work on one task at a time, with all its cores.

    The memory that a worker is asked to have (`transforms.forecast.machines`) is that of one task. Where the command
    says how many processes or threads there are, it is left alone.
    """
    debug = options.view_as(DebugOptions)
    if not debug.number_of_worker_harness_threads and not debug.lookup_experiment(_ONE_PROCESS):
        debug.add_experiment(_ONE_PROCESS)
        debug.number_of_worker_harness_threads = 1


def is_template(options: PipelineOptions) -> bool:
    """Tells whether the job is written to a file that something else submits: what the launcher of a template does."""
    return bool(options.view_as(GoogleCloudOptions).template_location)


def nothing(pipeline: beam.Pipeline) -> None:
    """A graph that does nothing: the launch of a template without a job would be a failed one."""
    _ = pipeline | "NothingToDo" >> beam.Create([0])


def _check_packages() -> None:
    try:
        import apache_beam.runners.dataflow.internal.apiclient  # noqa: F401, PLC0415 - takes seconds
    except ImportError as error:
        raise UsageError(f"--runner DataflowRunner needs: pip install 'pixdex[gcp]' ({error})") from error


def _check_flags(options: PipelineOptions) -> None:
    cloud, workers = options.view_as(GoogleCloudOptions), options.view_as(BeamWorkerOptions)
    if not cloud.project:
        raise UsageError("--project is missing: name the Google Cloud project that the job runs in")
    if not cloud.region and not DataflowRunner().get_default_gcp_region():
        raise UsageError("--region is missing: name where the job runs, such as europe-west1")
    places = {"--temp_location": cloud.temp_location, "--staging_location": cloud.staging_location}
    if not any(places.values()):
        raise UsageError("--temp_location is missing: name a folder for the job's own files, such as gs://BUCKET/temp")
    for flag, place in places.items():
        if place and not place.startswith("gs://"):
            raise UsageError(f"{flag} {place} is not on Cloud Storage: name a folder there, such as gs://BUCKET/temp")
    if not workers.sdk_container_image:
        raise UsageError(
            "--sdk_container_image is missing: Beam's own has no pixdex; build one with deploy/dataflow/template.sh"
        )


def _check_reach(root: str | None, sources: Sequence[Source]) -> None:
    if root and ("://" not in root or root.startswith(_LOCAL)):
        raise UsageError(f"--root {root} is on this machine, which Dataflow's workers do not see: name gs://BUCKET/…")
    for source in sources:
        ready = ("--vectors", source.text_vectors), ("--metadata", source.metadata)
        for flag, place in ((f"--{source.kind}", source.pattern), *ready):
            if place and place.startswith(_LOCAL):
                raise UsageError(
                    f"{flag} {place.removeprefix('file://')} is on this machine, which Dataflow's workers do not see: "
                    "copy it with 'gcloud storage cp -r', and name gs://BUCKET/…"
                )


def _check_credentials() -> None:
    import google.auth  # noqa: PLC0415 - of the extra
    from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415 - likewise

    logging.getLogger("google.auth").setLevel(logging.ERROR)  # it warns of what is said here in one line
    try:
        google.auth.default()
    except GoogleAuthError as error:
        raise UsageError(
            "no credentials for Google Cloud: run 'gcloud auth application-default login', or let "
            f"GOOGLE_APPLICATION_CREDENTIALS name the key file of a service account ({error})"
        ) from error

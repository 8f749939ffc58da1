"""Which of Beam's runners a job goes to, and its graph from there to the end."""

from collections.abc import Callable, Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
    TestOptions,
)
from apache_beam.runners.portability import abstract_job_service, local_job_service
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.runners.runner import PipelineRunner, PipelineState, create_runner
from apache_beam.runners.worker import worker_pool_main

from pipelines.running import dataflow, loopback, preflight
from pipelines.running.destination import Outcome
from pipelines.running.processes import ProcessEnvironment
from pipelines.terminal import console
from transforms.errors import PixdexError, UsageError

loopback.keep(abstract_job_service, local_job_service, worker_pool_main)

IN_PROCESS = ("direct", "fnapi")
"""Names of the in-process runner, with or without `Runner`, in any case; Beam's own would download a binary first."""


def chosen(options: PipelineOptions, words: Sequence[str]) -> PipelineRunner | None:
    """Returns the runner that Beam's options name, or None for the in-process one.

    Args:
        options: of Beam.
        words: of the command line that they were read from.

    Raises:
        UsageError: Beam has none of that name, cannot make it here, or something that it needs is missing.
    """
    name: str | None = options.view_as(StandardOptions).runner
    if name is None or name.lower().removesuffix("runner") in IN_PROCESS:
        _check_waiting(None, options)
        return None
    try:
        runner = create_runner(name)
    except (ValueError, ImportError, AttributeError, TypeError) as error:
        raise UsageError(f"--runner {name} cannot be had: {error}") from error
    if not isinstance(runner, PipelineRunner):
        raise UsageError(f"--runner {name} is no runner of Beam: name one, or the class of one")
    _check_waiting(runner, options)
    preflight.check(runner, options, words)
    return runner


def share_this_machine(options: PipelineOptions, workers: int | None, runner: PipelineRunner | None) -> None:
    """Has Beam start so many processes of this machine; for one there is nothing to do, since it is the job's own.

    Raises:
        UsageError: the job goes elsewhere.
    """
    if workers is not None and runner is not None:
        raise UsageError(
            "--workers is about processes of this machine: leave it out, and use the runner's own flag "
            "(--parallelism of Flink, --max_num_workers of Dataflow)"
        )
    if workers is not None and workers > 1:
        direct = options.view_as(DirectOptions)
        direct.direct_running_mode, direct.direct_num_workers = "multi_processing", workers


def in_process(options: PipelineOptions) -> FnApiRunner:
    """Returns the in-process runner, with workers that are processes of their own where the options say so.

    Cost: a process takes some seconds to start and its own copy of the model; it shares no interpreter lock.
    """
    direct = options.view_as(DirectOptions)
    if direct.direct_running_mode != "multi_processing":
        return FnApiRunner()
    direct.direct_running_mode = "in_memory"  # what Beam would make of the other word breaks on a space in a path
    return FnApiRunner(default_environment=ProcessEnvironment())


def run_to_end(
    runner: PipelineRunner | None, wire: Callable[[beam.Pipeline], object], options: PipelineOptions
) -> Outcome:
    """Runs a graph and waits for it, unless a flag of Beam says not to.

    Args:
        runner: what `chosen` returned.
        wire: puts the steps into a pipeline.
        options: of Beam, with the job's own among them, so that they show in the consoles of Flink and Dataflow.

    Raises:
        PixdexError: what a worker raised, or that the runner gave up.
    """
    pipeline = beam.Pipeline(runner=runner or in_process(options), options=options)
    wire(pipeline)
    try:
        result = pipeline.run()
        if options.view_as(TestOptions).dry_run:
            console.say("--dry_run: the graph is built, nothing is submitted")
            return "graph_built"
        # The launcher of a template has to end once the job is described.
        if template := options.view_as(GoogleCloudOptions).template_location:
            console.say(f"the job is described in {template}, for Dataflow to start")
            return "handed_over"
        if options.view_as(StandardOptions).no_wait_until_finish:
            console.say("the job is submitted, and goes on without this command")
            return "handed_over"
        result.wait_until_finish()
    except Exception as error:
        raised = console.from_worker(error) or (preflight.explained(error, options) if runner is not None else None)
        if raised is None:
            raise
        raise raised from error
    if result.state not in (PipelineState.DONE, None):
        raise PixdexError(f"the runner ended in state {result.state}: look at its log, then run the same command again")
    return "done"


def _check_waiting(runner: PipelineRunner | None, options: PipelineOptions) -> None:
    """Refuses flags that say not to wait, where a runner ignores them or ends with the command."""
    if dataflow.is_asked(runner):
        return
    for flag, asked in (
        ("--dry_run", options.view_as(TestOptions).dry_run),
        ("--template_location", options.view_as(GoogleCloudOptions).template_location),
    ):
        if asked:
            raise UsageError(f"{flag} is known to --runner DataflowRunner only: leave it out")
    if options.view_as(StandardOptions).no_wait_until_finish and not preflight.outlives_launcher(runner, options):
        raise UsageError(
            "--no_wait_until_finish needs a job server (--job_endpoint HOST:PORT) or Dataflow: this runner, or its "
            "workers, would end with this command; leave it out"
        )

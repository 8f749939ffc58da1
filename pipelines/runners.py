"""Which of Beam's runners a job goes to, and its graph from there to the end."""

from collections.abc import Callable, Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.runners.runner import PipelineRunner, PipelineState, create_runner

from pipelines import console
from transforms.errors import PixdexError, UsageError

IN_PROCESS = ("direct", "fnapi")
"""Names of the in-process runner, with or without `Runner`, in any case; Beam's own would download a binary first."""


def chosen(beam_flags: Sequence[str]) -> PipelineRunner | None:
    """Returns the runner that the flags name, or None for the in-process one.

    Raises:
        UsageError: Beam has none of that name, or cannot make it here.
    """
    name: str | None = PipelineOptions(list(beam_flags)).view_as(StandardOptions).runner
    if name is None or name.lower().removesuffix("runner") in IN_PROCESS:
        return None
    try:
        runner = create_runner(name)
    except (ValueError, ImportError, AttributeError, TypeError) as error:
        raise UsageError(f"--runner {name} cannot be had: {error}") from error
    if not isinstance(runner, PipelineRunner):
        raise UsageError(f"--runner {name} is no runner of Beam: name one, or the class of one")
    return runner


def run_to_end(runner: PipelineRunner | None, wire: Callable[[beam.Pipeline], None], argv: Sequence[str]) -> None:
    """Runs a graph and waits for it.

    Args:
        runner: what `chosen` returned.
        wire: puts the steps into a pipeline.
        argv: the job's command line: its own flags go along, so that they show in the consoles of Flink and Dataflow.

    Raises:
        PixdexError: what a worker raised, or that the runner gave up.
    """
    pipeline = beam.Pipeline(
        runner=runner or FnApiRunner(), options=PipelineOptions(list(argv), save_main_session=False)
    )
    wire(pipeline)
    try:
        result = pipeline.run()
        result.wait_until_finish()
    except Exception as error:
        raised = console.from_worker(error)
        if raised is None:
            raise
        raise raised from error
    if result.state not in (PipelineState.DONE, None):
        raise PixdexError(f"the runner ended in state {result.state}: look at its log, then run the same command again")

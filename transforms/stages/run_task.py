"""The base of what does the tasks of a stage: it holds the run, from which a task reads all that it needs."""

import apache_beam as beam

from transforms.runs.run import Run


class RunTask(beam.DoFn):
    """Holds a run; what it does for one element is the business of `transforms.tasks`."""

    def __init__(self, run: Run) -> None:
        """Takes the run."""
        self._run = run

"""Where a graph goes, as Beam's flags of a command say.

Of a command without such flags it is known without Beam, whose import takes seconds: it stays on this machine. So what
is wrong with a command is told before that, and so is that there is nothing to do.
"""

import importlib.util
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from pipelines.terminal import console, process
from pipelines.terminal.command_line import CommandLine
from transforms.records import Source

if TYPE_CHECKING:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.runner import PipelineRunner

Outcome = Literal["done", "handed_over", "graph_built"]
"""What became of a graph: it ran to its end, something else runs it, or nothing does."""

_FLAGS_OF_BEAM: Final = (
    "options/pipeline_options.py",
    "runners/dask/dask_runner.py",
    "runners/render.py",
    "yaml/options.py",
)
"""Beam's modules that have flags."""

_BESIDE_BEAM: Final = (
    "boto3",
    "bson",
    "google.cloud.dataflow",
    "google.cloud.dataflow_v1beta3",
    "google.cloud.storage",
    "pandas",
    "pymongo",
)
"""What Beam imports where it is there, for sources, sinks and runners that a graph of this process has nothing of."""


@dataclass(frozen=True)
class Destination:
    """Where a graph goes; Beam is imported when a graph is to go there, or when a flag of its own is to be read.

    Attributes:
        line: the command.
    """

    line: CommandLine

    @classmethod
    def of(cls, line: CommandLine) -> "Destination":
        """Reads Beam's flags of a command.

        Raises:
            UsageError: a flag that nobody has, no such runner, or something that it needs is missing.
        """
        destination = cls(line)
        for place, word in enumerate(line.others):
            # Whatever stands before the first flag is the value of none.
            if not _may_be_of_beam(word) or (place == 0 and not word.startswith("-")):
                line.refuse(word)
        if not destination.says_nothing:
            _ = destination._chosen
        return destination

    @property
    def says_nothing(self) -> bool:
        """Tells whether no flag of Beam was given: then the job is one of this machine."""
        return not self.line.others

    @cached_property
    def _chosen(self) -> "tuple[PipelineOptions, PipelineRunner | None]":
        from pipelines.running import beam_options, runners  # noqa: PLC0415 - imports Beam

        options = beam_options.of(self.line)
        runner = runners.chosen(options, self.line.words)
        runners.share_this_machine(options, self.line.options.workers, runner)
        return options, runner

    @property
    def options(self) -> "PipelineOptions":
        """Beam's options; the command's own are among them, so that consoles show them."""
        return self._chosen[0]

    @property
    def runner(self) -> "PipelineRunner | None":
        """What runs the graph; None: this machine."""
        return None if self.says_nothing else self._chosen[1]

    @property
    def is_one_process(self) -> bool:
        """Tells whether this process is the only one that works."""
        return self.says_nothing and self.line.options.workers in (None, 1)

    @property
    def is_dataflow(self) -> bool:
        """Tells whether the graph goes to Dataflow."""
        if self.runner is None:
            return False
        from pipelines.running import dataflow  # noqa: PLC0415 - imports Beam

        return dataflow.is_asked(self.runner)

    def prepare(self, root: str | None, sources: Sequence[Source]) -> None:
        """Refuses what Dataflow could not do, before anything is written, and says how it is to work.

        Raises:
            UsageError: names what is missing and the way out.
        """
        if self.is_dataflow:
            from pipelines.running import dataflow  # noqa: PLC0415 - imports Beam

            dataflow.check(root, sources, self.options)
            dataflow.one_task_a_machine(self.options)

    def get_ready(self) -> None:
        """Imports what a graph of stages takes to get there: seconds, in which nothing is done."""
        if self.is_one_process and process.is_of_a_command():
            _import_beam_alone()
        from pipelines.running.graph import at_once, wiring  # noqa: F401, PLC0415 - imports Beam

        if not self.is_one_process:
            from pipelines.running import runners  # noqa: F401, PLC0415 - likewise

    def end_template(self) -> None:
        """Gives the launch of a template that has nothing to do a graph that does nothing: it has to be of some job."""
        if self.is_dataflow:
            from pipelines.running import dataflow  # noqa: PLC0415 - imports Beam

            if dataflow.is_template(self.options):
                self.run(dataflow.nothing)

    def run(self, wire: "Callable[[beam.Pipeline], object]") -> Outcome:
        """Runs a graph and waits for it, unless a flag of Beam says not to.

        Args:
            wire: puts the steps into a pipeline.

        Raises:
            PixdexError: what a worker raised, or that the runner gave up.
        """
        if self.is_one_process:
            return work_off(wire)
        from pipelines.running import runners  # noqa: PLC0415 - imports Beam

        return runners.run_to_end(self.runner, wire, self.options)


def work_off(wire: "Callable[[beam.Pipeline], object]") -> Outcome:
    """Works a graph off in this process.

    Raises:
        PixdexError: what a task raised that is no error of this code.
    """
    from pipelines.running.graph import at_once  # noqa: PLC0415 - imports Beam

    try:
        at_once.work_off(wire)
    except Exception as error:
        raised = console.from_task(error)
        if raised is None:
            raise
        raise raised from error
    return "done"


def _import_beam_alone() -> None:
    """Imports Beam as where nothing is installed that it can do without: that takes half the time.

    Beam asks for each of these itself, and goes on where it is not there. Only a process whose graph stays in it, and
    which ends with it, may do without them.
    """
    if "apache_beam" in sys.modules:
        return
    hidden = [name for name in _BESIDE_BEAM if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: importing it says that it is not there
    try:
        import apache_beam  # noqa: F401, PLC0415 - that is what this is about
    finally:
        for name in hidden:
            if sys.modules.get(name) is None:
                sys.modules.pop(name, None)


def _may_be_of_beam(word: str) -> bool:
    """Tells whether a word may be a flag of Beam: one that stands nowhere among its flags is none.

    That is asked of the text of its modules, which takes no time, and where it has none, anything may be.
    """
    flag = word.partition("=")[0]
    if not flag.startswith("--"):
        return True  # the value of one
    try:
        return any(re.search(rf"""["']{re.escape(flag)}["']""", text) for text in _texts())
    except OSError:
        return True


def _texts() -> list[str]:
    spec = importlib.util.find_spec("apache_beam")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("apache_beam")
    folder = Path(next(iter(spec.submodule_search_locations)))
    return [(folder / name).read_text(encoding="utf-8") for name in _FLAGS_OF_BEAM]

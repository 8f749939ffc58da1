"""The jobs that are Beam graphs, with the options of each: what templates and tests of all jobs go through."""

from typing import Final

from apache_beam.options.pipeline_options import PipelineOptions

from pipelines import reindex
from pipelines.running import launch

OPTIONS: Final[dict[str, tuple[type[PipelineOptions], ...]]] = {
    "build": launch.OPTIONS,
    "embed": launch.OPTIONS,
    "train": launch.OPTIONS,
    "add": launch.OPTIONS,
    "merge": launch.OPTIONS,
    "reindex": reindex.OPTIONS,
}

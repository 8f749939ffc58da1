"""A run on a small root, to try one stage at a time."""

from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from tests.encoders import TinyEncoder
from transforms.markers import StageMarker
from transforms.records import EncoderSettings, IndexSettings, Request, Source
from transforms.runs import beginning
from transforms.runs.run import Run, Stage
from transforms.storage.store import Store
from transforms.tasks.embed.open_encoder import fingerprint_of

TINY = EncoderSettings(
    spec="tests.encoders:TinyEncoder",
    fingerprint=fingerprint_of(TinyEncoder(), "crop"),
    dim=TinyEncoder.dim,
    modalities=("image", "text"),
    batch=8,
)


def begin(root: Path, *sources: Source, key: str = "auto", encoder: EncoderSettings = TINY) -> Run:
    """Begins a run of these sources with the tiny encoder."""
    return beginning.begin(Store.at(str(root)), Request(sources, encoder, IndexSettings(key)))


def pictures(folder: Path) -> Source:
    """A folder or glob of pictures."""
    return Source("images", f"file://{folder}")


def pipeline(*flags: str) -> beam.Pipeline:
    """An in-process pipeline."""
    return beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions(list(flags)))


def go(stage: "beam.PTransform[Any, Any]", *flags: str) -> dict[str, int]:
    """Runs a stage after whatever came before it, and returns its committed counters."""
    p = pipeline(*flags)
    # A first stage takes the pipeline, any other the marker of the one before, of which it only needs that it is there.
    before = beam.Create([StageMarker("before", 1, 0.0)])
    _ = p | stage if type(stage).__name__ == "PlanItems" else p | "Before" >> before | stage
    result = p.run()
    result.wait_until_finish()
    return counters(result)


def counters(result: Any) -> dict[str, int]:
    """Returns the committed counters of a finished pipeline."""
    found = result.metrics().query(MetricsFilter().with_namespace("pixdex"))["counters"]
    return {counter.key.metric.name: counter.committed for counter in found if counter.committed}


def tasks(run: Run, stage: Stage) -> int:
    """Returns how many tasks a finished stage counted."""
    marker = run.stage_marker(stage)
    assert marker is not None
    return marker.tasks

"""Builds an index: embed + train + add + merge + publish, as one Beam graph.

On this machine:

    pixdex build --root ./emoji --csv emoji.csv --image-column image --text-column description --encoder demo

With a real model (weights are downloaded once), a folder of pictures, and groups taken from file names:

    pixdex build --root ./photos --images ./pictures --encoder open_clip:ViT-B-32/laion2b_s34b_b79k \\
        --key-pattern '(?P<group>[^_]+)_(?P<name>.+)'

On a Flink cluster, with a worker pool beside each TaskManager:

    pixdex build --root /shared/photos --images /shared/pictures --runner PortableRunner \\
        --job_endpoint flink-jobserver:8099 --environment_type EXTERNAL --environment_config localhost:50000

On Dataflow (the root of a build is a folder today: mount it on the workers):

    pixdex build --root /mnt/photos --images gs://bucket/pictures --runner DataflowRunner \\
        --project P --region R --temp_location gs://bucket/tmp --sdk_container_image I

A build that was stopped, anywhere and in any way, goes on where it was when the same command is run again. A root that
has a generation of the same request is left alone. The last line on stdout is one JSON object with the totals.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.runners.runner import PipelineState

from pipelines import console, options, progress
from transforms import encoders, generations, layout
from transforms.add import AddBlocks
from transforms.embed import EmbedPartitions
from transforms.encoders import Encoder
from transforms.errors import PixdexError, UsageError
from transforms.index.choose import check_key
from transforms.merge import MergeBlocks
from transforms.open_encoder import fingerprint_of
from transforms.plan import PlanItems
from transforms.publish import PublishGeneration
from transforms.records import EncoderSettings, Generation, Request, Source
from transforms.run import Run
from transforms.sources import csv_rows, pictures
from transforms.store import Store
from transforms.train import TrainIndex

OPTIONS = (
    options.RootOptions,
    options.SourceOptions,
    options.EncoderOptions,
    options.IndexOptions,
    options.RunOptions,
)
IN_PROCESS = (None, "DirectRunner", "FnApiRunner")
"""Names of the in-process runner; Beam's own `DirectRunner` would try to download a binary first."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: build(arguments))


def build(argv: Sequence[str]) -> int:
    """Parses, checks, runs and reports."""
    own, beam_flags = options.parse("build", __doc__, argv, OPTIONS)
    store = _store(own)
    sources = options.sources(own)
    if own.abandon_plan or not _goes_on(store, sources):
        check(sources)
    encoder = encoders.load(own.encoder, device=own.device)
    request = request_of(own, sources, encoder)
    # In this order: a run that another launcher finishes at this moment is seen as the one or as the other.
    unfinished, published = generations.unfinished(store), generations.current(store)
    store.sweep_scratch()
    if published is not None and _claims(store, published, request):
        console.say(f"{store.url} already has generation {published.generation} of this request: nothing to do")
        console.show_json(summary(store, published, {}) | {"embedded": 0})
        return console.DONE
    run = _begin(store, request, unfinished, abandon=own.abandon_plan)
    if not own.no_progress:
        console.say(f"encoder {own.encoder} on {encoder.device}, {encoder.dim} dimensions")
    started = progress.now()
    with progress.shown(run, wanted=not own.no_progress):
        execute(run, own.max_reject_ratio, [*argv], beam_flags)
    generation = generations.current(store)
    if generation is None:
        raise PixdexError(f"{store.url}: the job ended without a generation; run the same command again")
    console.show_json(summary(store, generation, progress.stage_seconds(run, started)))
    return console.DONE


def wire(pipeline: beam.Pipeline, run: Run, max_reject_ratio: float) -> None:
    """The whole graph: each stage waits for the one before through the marker that it yields."""
    (
        pipeline
        | "Plan" >> PlanItems(run, generations.next_shard(run.store))
        | "Embed" >> EmbedPartitions(run, max_reject_ratio)
        | "Train" >> TrainIndex(run)
        | "Add" >> AddBlocks(run)
        | "Merge" >> MergeBlocks(run)
        | "Publish" >> PublishGeneration(run)
    )


def execute(run: Run, max_reject_ratio: float, argv: Sequence[str], beam_flags: Sequence[str]) -> None:
    """Runs the graph and waits for it.

    Raises:
        PixdexError: what a worker raised, or that the runner gave up.
    """
    name = PipelineOptions(list(beam_flags)).view_as(StandardOptions).runner
    runner = FnApiRunner() if name in IN_PROCESS else name
    # The job's own flags go along, so that they show in the consoles of Flink and Dataflow.
    pipeline = beam.Pipeline(runner=runner, options=PipelineOptions(list(argv), save_main_session=False))
    wire(pipeline, run, max_reject_ratio)
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


def check(sources: Sequence[Source]) -> None:
    """Refuses sources that cannot work, before anything is written.

    Raises:
        UsageError: names what is wrong and the way out.
    """
    for source in sources:
        (csv_rows if source.kind == "csv" else pictures).check(source)


def request_of(own: Namespace, sources: tuple[Source, ...], encoder: Encoder) -> Request:
    """Makes the request of the options and refuses an encoder or index that cannot work.

    Raises:
        UsageError: names what is wrong and the way out.
    """
    index = options.index_settings(own)
    check_key(index, encoder.dim)
    _check_modalities(own.encoder, encoder.modalities, sources)
    settings = EncoderSettings(
        spec=own.encoder,
        fingerprint=fingerprint_of(encoder, own.image_fit),
        dim=encoder.dim,
        modalities=tuple(sorted(encoder.modalities)),
        image_fit=own.image_fit,
        device=own.device,
        batch=own.encoder_batch,
        threads=own.encoder_threads,
        pixel_limit=own.pixel_limit,
        normalize=not own.no_normalize,
        precision=own.precision,
    )
    return Request(sources=sources, encoder=settings, index=index, seed=own.seed)


def summary(store: Store, generation: Generation, seconds: dict[str, float]) -> dict[str, object]:
    """Returns the last line of a build."""
    totals = generation.totals
    return {
        "generation": generation.generation,
        "items": totals.items,
        "embedded": totals.embedded,
        "rejected": totals.rejected,
        "vectors": totals.vectors,
        "tombstones": totals.tombstones,
        "index_key": generation.trained.key,
        "trained": generation.trained.fingerprint,
        "index": store.full(generation.index.path),
        "seconds": seconds,
    }


def _store(own: Namespace) -> Store:
    if not own.root:
        raise UsageError("--root is missing: name the folder that will hold the index")
    store = Store.at(own.root)
    if store.local is None:
        raise UsageError(
            f"--root {own.root}: a build needs a folder; the merged index is one file that is written in place"
        )
    return store


def _check_modalities(spec: str, modalities: frozenset[str], sources: Sequence[Source]) -> None:
    texts = any(source.text_column or source.keyword_column for source in sources)
    images = any(source.kind == "images" or source.image_column for source in sources)
    for wanted, needed in (("text", texts), ("image", images)):
        if needed and wanted not in modalities:
            raise UsageError(
                f"--encoder {spec} takes no {wanted}s, only {' and '.join(sorted(modalities))}s: "
                "choose another encoder, or leave those columns out"
            )


def _claims(store: Store, published: Generation, request: Request) -> bool:
    """Tells whether the root holds this very request.

    Raises:
        UsageError: it holds another one.
    """
    if published.request == request:
        return True
    stands = published.request
    raise UsageError(
        f"{store.url} already has generation {published.generation} of another request "
        f"({difference(stands, request)}): use 'pixdex reindex' for new items, or a new root"
    )


def _goes_on(store: Store, sources: tuple[Source, ...]) -> bool:
    """Tells whether these sources are planned already: what changed in them since then waits for the next run."""
    unfinished = generations.unfinished(store)
    return unfinished is not None and _is_planned(unfinished) and unfinished.request.sources == sources


def _is_planned(run: Run) -> bool:
    return run.store.exists(layout.plan(run.generation))


def _begin(store: Store, request: Request, unfinished: Run | None, *, abandon: bool) -> Run:
    """Adopts the unfinished run of this request, or begins a new one.

    `abandon` gives up any unfinished run, of this request too: its files may be what is wrong.

    A run of another request that has no plan yet has done no work, so it is given up without asking: a mistake in its
    sources must not stand in the way of the mended command.
    """
    if unfinished is not None and unfinished.request == request and not abandon:
        console.say(f"going on with the unfinished run of generation {unfinished.generation}")
        return unfinished
    if unfinished is not None:
        if _is_planned(unfinished) and not abandon:
            raise UsageError(
                f"{store.url} has an unfinished run of another request ({difference(unfinished.request, request)}): "
                "finish it with its own command, or give it up with --abandon-plan"
            )
        generations.abandon(unfinished)
    if not generations.runs(store):
        store.probe()
    return generations.begin(store, request)


def difference(stands: Request, asked: Request) -> str:
    """Says in a few words in what two requests differ."""
    if stands.encoder.fingerprint != asked.encoder.fingerprint:
        return (
            f"encoder {stands.encoder.spec} with fingerprint {stands.encoder.fingerprint[:12]}…, "
            f"not {asked.encoder.spec} with {asked.encoder.fingerprint[:12]}…"
        )
    if stands.sources != asked.sources:
        return "other sources"
    names = [
        f"{name} {getattr(one, name)!r}, not {getattr(other, name)!r}"
        for one, other in ((stands.encoder, asked.encoder), (stands.index, asked.index))
        for name in type(one).__dataclass_fields__
        if getattr(one, name) != getattr(other, name)
    ]
    return "; ".join(names) or f"seed {stands.seed}, not {asked.seed}"


if __name__ == "__main__":
    sys.exit(main())

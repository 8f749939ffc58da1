"""The options of the jobs that run a pipeline, each declared once, and without Beam, whose import takes seconds.

Where a pipeline is run, `pipelines.running.beam_options` makes Beam's own classes of them. Workers never read options:
the graph carries typed records that are made of them before.
"""

from argparse import Namespace
from dataclasses import replace
from typing import Final

from pipelines.terminal import flags
from pipelines.terminal.flags import (
    Flag,
    Group,
    header,
    integer,
    positive,
    rate,
    ratio,
    seconds,
    size,
    switch,
    threads,
    whole,
)
from transforms.errors import UsageError
from transforms.records import EncoderSettings, Reindex
from transforms.storage import outside
from transforms.storage.store import Store
from transforms.tasks.embed.limits import ItemLimits
from transforms.web.limits import WebLimits

ALL_REJECTS: Final = "all"
"""What `--retry-rejects` retries when it names no type."""

ROOT: Final = Group("RootOptions", "Where everything lies", (flags.ROOT,))

SOURCES: Final = Group(
    "SourceOptions",
    "What is indexed",
    (
        Flag("--images", "GLOB", "pictures: a glob, or a folder; repeatable", action="append"),
        Flag("--csv", "GLOB", "CSV (.gz, .zst), each row an item: a file, or a glob; repeatable", action="append"),
        Flag("--jsonl", "GLOB", "JSON Lines (.gz, .zst), each object an item: as --csv; repeatable", action="append"),
        Flag("--parquet", "GLOB", "parquet, each row an item: as --csv; repeatable", action="append"),
        Flag(
            "--tars",
            "GLOB",
            "tar archives (WebDataset): each picture an item, with texts and JSON of its name as columns; repeatable",
            action="append",
        ),
        Flag(
            "--urls",
            "GLOB",
            "lists of URLs of pictures, each an item: .txt (one a line), .csv, .jsonl or .parquet; or a folder of "
            "parquet files; repeatable",
            action="append",
        ),
        Flag(
            "--image-column",
            "NAME",
            "column, or field, with paths of pictures, relative to the file; of parquet also with bytes; of --urls "
            "with URLs (default url)",
        ),
        Flag("--text-column", "NAME", "column, or field, with texts, embedded whole; of tars also txt"),
        Flag(
            "--missing-image",
            None,
            "what becomes of a row whose picture cannot be fetched: reject, or text: its texts stay (default reject)",
            choices=("reject", "text"),
        ),
        Flag("--keyword-column", "NAME", "column, or field, with keywords, embedded one by one"),
        Flag("--keyword-separator", "TEXT", "what separates keywords (default ,)", default=","),
        Flag("--key-column", "NAME", "column, or field, with the primary key (default: hash of the row)"),
        Flag(
            "--key-pattern",
            "REGEX",
            "its named groups, matched against a picture's file name without ending, become columns",
        ),
        Flag(
            "--vectors",
            "GLOB",
            "ready embeddings, .npy or .parquet, float16 or float32: a glob, or a folder, also one of clip-retrieval; "
            "repeatable",
            action="append",
        ),
        Flag("--vector-column", "NAME", "parquet column with ready embeddings (default embedding)"),
        Flag(
            "--metadata",
            "GLOB",
            "parquet files, or CSV, with a row for each vector of the .npy files, file by file by their names; "
            "one for each --vectors; pictures and texts with the same one are pairs",
            action="append",
        ),
        Flag(
            "--modality",
            None,
            "what ready embeddings are of (default image); one for each --vectors, or one for all",
            choices=("image", "text"),
            action="append",
        ),
        Flag("--uri-column", "NAME", "column beside ready embeddings that names the picture of each"),
        Flag(
            "--image-base",
            "DIR",
            "where the pictures of --uri-column lie (default: relative to the file with the column); OLD=DIR: what "
            "began with OLD",
        ),
    ),
)

_ENCODER_FLAG: Final = Flag(
    "--encoder",
    "SPEC",
    "demo, open_clip:MODEL/PRETRAINED or MODEL@CHECKPOINT, timm:MODEL, either with hf-hub:NAME or local-dir:FOLDER, "
    "st:MODEL for texts, module:Class; default demo; of "
    "ready embeddings the one that they were made with",
)

ENCODER_SPEC: Final = Group("EncoderSpecOptions", "What turns pictures and texts into vectors", (_ENCODER_FLAG,))

ENCODER_OF_ROOT: Final = Group(
    "RootEncoderOptions",
    "What turns pictures and texts into vectors",
    (
        replace(
            _ENCODER_FLAG,
            help="the encoder of the root, which is taken anyhow: but a module:Class is imported only if you name it",
        ),
    ),
)

ENCODER: Final = Group(
    "EncoderOptions",
    "How pictures and texts become vectors",
    (
        Flag("--encoder-batch", "N", "pictures or texts encoded at once (default 64)", positive, default=64),
        Flag(
            "--encoder-threads",
            "N",
            "CPU threads of encoder and index in each worker (default: its share of the cores, at most 4); "
            "another number changes last bits",
            threads,
        ),
        Flag(
            "--image-fit",
            None,
            "crop: the centre square; pad: all of it on a white square (default crop)",
            choices=("crop", "pad"),
            default="crop",
        ),
        Flag("--pixel-limit", "N", "larger pictures are rejected", positive, default=EncoderSettings.pixel_limit),
        Flag(
            "--precision",
            None,
            "stored vectors are rounded to float16, or kept (default float16)",
            choices=("float16", "full"),
            default="float16",
        ),
        switch("--no-normalize", "keep the length of vectors (default: make it 1)"),
    ),
)

DEVICE: Final = Group(
    "DeviceOptions",
    "Where the encoder computes",
    (Flag("--device", None, "auto, cpu, cuda, cuda:N or mps (default auto)", default="auto"),),
)

INDEX: Final = Group(
    "IndexOptions",
    "Which index is built",
    (
        replace(flags.INDEX_KEY, default="auto"),
        replace(flags.METRIC_TYPE, default="ip"),
        replace(flags.MAX_INDEX_MEMORY, default=flags.DEFAULT_INDEX_MEMORY),
        flags.CODE_SIZE,
        flags.REFINE_STORE,
        Flag("--seed", "N", "of sampling and training (default 0)", integer, default=0),
    ),
)

ITEM: Final = Group(
    "ItemOptions",
    "What one item may cost; one that takes more is rejected",
    (
        Flag(
            "--item-timeout",
            "S",
            "seconds that fetching a picture may take, and again decoding it (default 60)",
            seconds,
            default=ItemLimits.seconds,
        ),
        Flag(
            "--max-file-bytes",
            "SIZE",
            "larger files of pictures are not read (default 512M)",
            size,
            default=ItemLimits.file_bytes,
        ),
    ),
)

WEB: Final = Group(
    "WebOptions",
    "How pictures on the web are fetched; each worker process has these limits for itself",
    (
        Flag(
            "--host-connections",
            "N",
            "pictures that are fetched at once of one host (default 4)",
            threads,
            default=WebLimits.host_connections,
        ),
        Flag("--host-rate", "R", "requests to one host a second, at most (default: no limit)", rate),
        Flag(
            "--fetch-threads",
            "N",
            "pictures that are fetched and decoded at once (default 8; 32 where some are on the web)",
            threads,
        ),
        Flag(
            "--fetch-user-agent",
            "TEXT",
            "what hosts are told of who asks; many want an address to write to (default pixdex)",
            header,
            default=WebLimits.user_agent,
        ),
        switch(
            "--allow-private-addresses",
            "fetch pictures also where a URL leads to an address of this machine or its network",
        ),
    ),
)

RUN: Final = Group(
    "RunOptions",
    "How a run goes; none of these changes a byte of the result",
    (
        Flag(
            "--max-reject-ratio",
            "SHARE",
            "a run with a larger share of rejected items publishes nothing (default 0.5)",
            ratio,
            default=0.5,
        ),
        Flag(
            "--max-gone-ratio",
            "SHARE",
            "a reindex that finds a larger share of a source's items gone is stopped, with nothing changed (default "
            "0.5; 1 stops nothing); a build finds none",
            ratio,
            default=0.5,
        ),
        Flag(
            "--workers",
            "N",
            "processes of this machine, which share its cores (default 1); each loads the encoder. Runners of "
            "clusters have flags of their own",
            positive,
        ),
        flags.WORKER_MEMORY,
        Flag(
            "--accelerator",
            "GPU",
            "GPU of the workers that embed, on Dataflow: nvidia-l4, or type:…;count:…;… (default nvidia-tesla-t4 "
            "where --device is cuda)",
        ),
        switch("--abandon-plan", "give up the unfinished run and start anew"),
        *flags.PROGRESS,
        flags.METRICS_FILE,
        switch("--no-report", "make no report of what is published; pixdex report makes one later"),
    ),
)

CHANGES: Final = Group(
    "ChangeOptions",
    "What is done about it",
    (
        Flag(
            "--retrain",
            None,
            "train the index anew: where the vectors drifted (auto), or never, or always; default auto",
            choices=("auto", "never", "always"),
            default="auto",
        ),
        replace(flags.REFINE_STORE, help="store all vectors so from now on; with --retrain always"),
        Flag(
            "--retry-rejects",
            "TYPE",
            "try rejects again though nothing changed: all, or those of a type as pixdex inspect names it; repeatable",
            action="append",
            nargs="?",
            const=ALL_REJECTS,
        ),
        Flag(
            "--max-deltas",
            "N",
            "shard indexes that searches scan beside the merged one; with more, all are merged (default 4)",
            whole,
            default=Reindex.max_deltas,
        ),
        Flag(
            "--max-tombstones",
            "SHARE",
            "dead codes among those that searches scan, 0 to 1; with more, they are dropped (default 0.05)",
            ratio,
            default=Reindex.max_tombstones,
        ),
        switch("--repair", "check every shard, and embed anew what missing or damaged ones held"),
        switch("--dry-run", "say what changed, and change nothing", dashes_only=True),
    ),
)

TRUST_URIS: Final = switch(
    outside.FLAG,
    "read what the root names outside of it also at addresses of this machine and its network, and pictures elsewhere "
    "than its sources",
)

TRUST: Final = Group("TrustOptions", "Whose root it is", (TRUST_URIS,))

BUILD: Final = (ROOT, SOURCES, ENCODER_SPEC, ENCODER, DEVICE, INDEX, ITEM, WEB, RUN)
"""Of `build` and the jobs for its single stages."""

_WORKERS, _ABANDON, _NO_REPORT = (
    next(flag for flag in RUN.flags if flag.name == name) for name in ("--workers", "--abandon-plan", "--no-report")
)

DERIVED: Final = Group(
    "DerivedOptions",
    "Where the new root lies, and how the job goes",
    (
        Flag("--to", "NEWROOT", "folder or fsspec URL of the root that is made"),
        Flag("--seed", "N", "of what is drawn, in clustering and training (default: that of the root)", integer),
        replace(_WORKERS, help="processes of this machine, which share its cores (default 1)"),
        flags.WORKER_MEMORY,
        _ABANDON,
        *flags.PROGRESS,
        flags.METRICS_FILE,
        _NO_REPORT,
    ),
)
"""Of `augment` and `condense`, which make one root of another."""

REINDEX: Final = (ROOT, CHANGES, ENCODER_OF_ROOT, TRUST, ITEM, WEB, RUN)


def item_limits_of(options: Namespace) -> ItemLimits:
    """Returns what one item may cost, and how it is fetched."""
    web = WebLimits(
        options.host_connections, options.host_rate, options.allow_private_addresses, options.fetch_user_agent
    )
    return ItemLimits(options.item_timeout, options.max_file_bytes, options.fetch_threads, web)


def root_of(options: Namespace) -> Store:
    """Returns the root of a command that reads one.

    Raises:
        UsageError: none is named.
    """
    if not options.root:
        raise UsageError("--root is missing: name the folder that holds the index")
    return Store.at(options.root)

"""Every option of every job, declared once, as Beam `PipelineOptions`.

So each flag shows in Flink's and Dataflow's consoles, and Beam's own flags pass through. Workers never read options:
the graph carries typed records that are made of them here.
"""

import argparse
import difflib
import itertools
import os
from collections.abc import Sequence
from typing import NoReturn

from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.terminal import flags
from transforms.errors import UsageError
from transforms.records import EncoderSettings, IndexSettings, Source
from transforms.sources.vectors import DEFAULT_COLUMN
from transforms.storage import uris
from transforms.storage.store import Store


def ratio(text: str) -> float:
    """Reads a share from 0 to 1, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


class RootOptions(PipelineOptions):
    """Where everything lies."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        flags.ROOT.add_to(parser)


class SourceOptions(PipelineOptions):
    """What is indexed."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        flags.add(parser, "--images", action="append", metavar="GLOB", help="pictures: a glob, or a folder; repeatable")
        flags.add(parser, "--csv", action="append", metavar="FILE", help="a CSV file, each row an item; repeatable")
        flags.add(
            parser, "--image-column", metavar="NAME", help="CSV column with paths of pictures, relative to the CSV"
        )
        flags.add(parser, "--text-column", metavar="NAME", help="CSV column with texts, embedded whole")
        flags.add(parser, "--keyword-column", metavar="NAME", help="CSV column with keywords, embedded one by one")
        flags.add(
            parser, "--keyword-separator", default=",", metavar="TEXT", help="what separates keywords (default ,)"
        )
        flags.add(
            parser, "--key-column", metavar="NAME", help="CSV column with the primary key (default: hash of the row)"
        )
        flags.add(
            parser,
            "--key-pattern",
            metavar="REGEX",
            help="its named groups, matched against a picture's file name without ending, become columns",
        )
        flags.add(
            parser,
            "--vectors",
            action="append",
            metavar="GLOB",
            help="ready embeddings, .npy or .parquet, float16 or float32: a glob, or a folder; repeatable",
        )
        flags.add(
            parser,
            "--vector-column",
            metavar="NAME",
            help=f"parquet column with ready embeddings (default {DEFAULT_COLUMN})",
        )
        flags.add(
            parser,
            "--metadata",
            action="append",
            metavar="GLOB",
            help="parquet files with a row for each vector of the .npy files, file by file in the order of their "
            "names; one for each --vectors",
        )
        flags.add(parser, "--modality", choices=("image", "text"), help="what ready embeddings are of (default image)")


class EncoderOptions(PipelineOptions):
    """How pictures and texts become vectors."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        flags.add(
            parser,
            "--encoder",
            metavar="SPEC",
            help="demo, open_clip:MODEL/PRETRAINED, open_clip:MODEL@CHECKPOINT, timm:MODEL, module:Class; default demo",
        )
        flags.add(
            parser,
            "--encoder-batch",
            type=flags.positive,
            default=64,
            help="pictures or texts encoded at once (default 64)",
        )
        flags.add(
            parser,
            "--encoder-threads",
            type=flags.positive,
            help="CPU threads of encoder and index in each worker (default: its share of the cores, at most 4); "
            "another number changes last bits",
        )
        flags.add(
            parser,
            "--image-fit",
            choices=("crop", "pad"),
            default="crop",
            help="crop: the centre square; pad: all of it on a white square (default crop)",
        )
        flags.add(
            parser,
            "--pixel-limit",
            type=flags.positive,
            default=EncoderSettings.pixel_limit,
            help="larger pictures are rejected",
        )
        flags.add(
            parser,
            "--precision",
            choices=("float16", "full"),
            default="float16",
            help="stored vectors are rounded to float16, or kept (default float16)",
        )
        flags.add(parser, "--no-normalize", action="store_true", help="keep the length of vectors (default: make it 1)")


class DeviceOptions(PipelineOptions):
    """Where the encoder computes."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        flags.add(parser, "--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default auto)")


class IndexOptions(PipelineOptions):
    """Which index is built."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        flags.INDEX_KEY.add_to(parser, "auto")
        flags.METRIC_TYPE.add_to(parser, "ip")
        flags.MAX_INDEX_MEMORY.add_to(parser, flags.DEFAULT_INDEX_MEMORY)
        flags.CODE_SIZE.add_to(parser)
        flags.add(parser, "--seed", type=int, default=0, help="of sampling and training (default 0)")


class RunOptions(PipelineOptions):
    """How a run goes; none of these changes a byte of the result."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        flags.add(
            parser,
            "--max-reject-ratio",
            type=ratio,
            default=0.5,
            help="a run with a larger share of rejected items publishes nothing (default 0.5)",
        )
        flags.add(
            parser,
            "--workers",
            type=flags.positive,
            metavar="N",
            help="processes of this machine, which share its cores (default 1); each loads the encoder. Runners of "
            "clusters have flags of their own",
        )
        flags.WORKER_MEMORY.add_to(parser)
        flags.add(
            parser,
            "--accelerator",
            metavar="GPU",
            help="GPU of the workers that embed, on Dataflow: nvidia-l4, or type:…;count:…;… (default nvidia-tesla-t4 "
            "where --device is cuda)",
        )
        flags.add(parser, "--abandon-plan", action="store_true", help="give up the unfinished run and start anew")
        flags.add(parser, "--no-progress", action="store_true", help="show no progress bar")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see pixdex {self.prog.split()[-1]} --help")


def parse(
    job: str, manual: str, argv: Sequence[str], groups: Sequence[type[PipelineOptions]]
) -> tuple[argparse.Namespace, list[str]]:
    """Reads a job's command line.

    Args:
        job: name of the command.
        manual: what `--help` prints before the options.
        argv: words after the name of the command.
        groups: the options of this job.

    Returns:
        The job's own options, and the flags left for Beam.

    Raises:
        UsageError: an unknown flag (with the nearest one) or a value that cannot be.
    """
    parser = _Parser(
        prog=f"pixdex {job}",
        description=manual,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for group in groups:
        section = parser.add_argument_group((group.__doc__ or "").strip().rstrip("."))
        group._add_argparse_args(section)  # type: ignore[arg-type]  # a group takes arguments too
    own, beam_flags = parser.parse_known_args(list(argv))
    _refuse_unknown(parser, beam_flags)
    return own, beam_flags


def _refuse_unknown(parser: argparse.ArgumentParser, beam_flags: Sequence[str]) -> None:
    beam = _Parser(allow_abbrev=False, add_help=False, prog=parser.prog)
    for group in PipelineOptions.__subclasses__():
        if group.__module__.startswith("apache_beam."):
            group._add_argparse_args(beam)  # type: ignore[arg-type]  # only its own class of parser is declared
    _, unknown = beam.parse_known_args(list(beam_flags))
    if not unknown:
        return
    word = unknown[0].partition("=")[0]
    if not word.startswith("-"):
        raise UsageError(f"{word!r} is not expected here: every source has its flag (--images, --csv, --vectors)")
    known = [*parser._option_string_actions, *beam._option_string_actions]
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    raise UsageError(f"unknown flag {word}{f', did you mean {near[0]}?' if near else ''}; see {parser.prog} --help")


def refuse_beam_flags(beam_flags: Sequence[str]) -> None:
    """Refuses flags of Beam, for a command that runs no pipeline."""
    if beam_flags:
        raise UsageError(f"{beam_flags[0]} is a flag of Beam, and this runs no pipeline: leave it out")


def root_of(own: argparse.Namespace) -> Store:
    """Returns the root of a command that reads one.

    Raises:
        UsageError: none is named.
    """
    if not own.root:
        raise UsageError("--root is missing: name the folder that holds the index")
    return Store.at(own.root)


DEFAULT_ENCODER = "demo"


def default_threads(workers: int = 1) -> int:
    """Returns the CPU threads of a request that names none, where so many processes share the cores."""
    return max(1, min(4, (os.cpu_count() or 1) // workers))


def sources(options: argparse.Namespace) -> tuple[Source, ...]:
    """Returns the sources that the options name, each once, in the order of kinds and flags.

    Raises:
        UsageError: none is named, kinds that do not go together, or options of a kind that is not there.
    """
    columns = {
        "image_column": options.image_column,
        "text_column": options.text_column,
        "keyword_column": options.keyword_column,
        "key_column": options.key_column,
    }
    lonely = [name for name, value in columns.items() if value is not None and not options.csv]
    if lonely:
        raise UsageError(f"--{lonely[0].replace('_', '-')} names a column of a CSV: give the file with --csv")
    ready = _ready_sources(options)
    pictures = [
        Source("images", uris.absolute(pattern), key_pattern=options.key_pattern) for pattern in options.images or ()
    ]
    rows = [
        Source("csv", uris.absolute(file), keyword_separator=options.keyword_separator, **columns)
        for file in options.csv or ()
    ]
    if ready and (pictures or rows):
        raise UsageError(
            f"--vectors does not go with {'--images' if pictures else '--csv'}: a root has one encoder, and ready "
            "embeddings were made elsewhere; build two roots"
        )
    if not (pictures or rows or ready):
        raise UsageError("name what to index: --images GLOB or FOLDER, --csv FILE, --vectors GLOB or FOLDER")
    return tuple(dict.fromkeys([*pictures, *rows, *ready]))


def _ready_sources(options: argparse.Namespace) -> list[Source]:
    patterns, metadata = options.vectors or [], options.metadata or []
    alone = [name for name in ("vector_column", "metadata", "modality") if getattr(options, name) and not patterns]
    if alone:
        raise UsageError(f"--{alone[0].replace('_', '-')} is about ready embeddings: give them with --vectors")
    if metadata and len(metadata) != len(patterns):
        raise UsageError(
            f"--metadata is given {len(metadata)} times, --vectors {len(patterns)} times: give one for each, in order"
        )
    if patterns and options.encoder is not None:
        raise UsageError(f"--encoder {options.encoder} has nothing to encode: the embeddings of --vectors are ready")
    return [
        Source(
            "vectors",
            uris.absolute(pattern),
            vector_column=options.vector_column or DEFAULT_COLUMN,
            metadata=uris.absolute(beside) if beside else None,
            modality=options.modality or "image",
        )
        for pattern, beside in itertools.zip_longest(patterns, metadata)
    ]


def index_settings(options: argparse.Namespace) -> IndexSettings:
    """Returns the index that the options ask for."""
    return IndexSettings(options.index_key, options.metric_type, options.max_index_memory, options.code_size)

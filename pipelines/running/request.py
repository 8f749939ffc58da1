"""From the options of a command line to the request of a run, and what two requests differ in."""

import hashlib
import itertools
import os
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

from transforms.errors import UsageError
from transforms.index.choose import check_key
from transforms.index.refine import is_exact
from transforms.records import (
    DERIVED_VERSION,
    FORMAT_VERSION,
    NO_ENCODER,
    STORED_VERSION,
    TABLES_VERSION,
    EncoderSettings,
    IndexSettings,
    Request,
    Source,
)
from transforms.sources import table_rows, url_lists
from transforms.sources.ready import csv_copy
from transforms.sources.ready.clip_folder import ClipFolder
from transforms.sources.ready.vectors import DEFAULT_COLUMN
from transforms.storage import uris

if TYPE_CHECKING:
    from transforms.encoders import Encoder


DEFAULT_ENCODER: Final = "demo"

DEFAULT_REFINE: Final = "f16"

RowKind = Literal["csv", "jsonl", "parquet", "tars", "urls"]

_ROWS: Final[tuple[RowKind, ...]] = get_args(RowKind)
"""Kinds of sources whose rows are items, by their flags."""

_COLUMNS: Final = ("image_column", "text_column", "keyword_column", "key_column")


def default_threads(workers: int = 1) -> int:
    """Returns the CPU threads of a request that names none, where so many processes share the cores."""
    return max(1, min(4, (os.cpu_count() or 1) // workers))


def sources_of(options: Namespace) -> tuple[Source, ...]:
    """Returns the sources that the options name, each once, in the order of kinds and flags.

    Raises:
        UsageError: none is named, kinds that do not go together, or options of a kind that is not there.
    """
    patterns = {kind: getattr(options, kind) or () for kind in _ROWS}
    lonely = [name for name in _COLUMNS if getattr(options, name) is not None and not any(patterns.values())]
    if lonely:
        raise UsageError(
            f"--{lonely[0].replace('_', '-')} names a column of a file of rows: give the file with "
            f"{' or '.join(f'--{kind}' for kind in _ROWS)}"
        )
    if options.image_column is not None and not any(patterns[kind] for kind in _ROWS if kind != "tars"):
        raise UsageError(
            f"--image-column {options.image_column} is of no use to --tars, whose members are the pictures"
        )
    if options.missing_image == "text":
        if options.vectors:
            raise UsageError("--missing-image is about rows that are embedded: leave it out with --vectors")
        have_pictures = options.image_column or patterns["tars"] or patterns["urls"]
        if not (have_pictures and (options.text_column or options.keyword_column)):
            raise UsageError(
                "--missing-image text is about rows with a picture and a text: name both, with --image-column and "
                "--text-column or --keyword-column"
            )
    ready = _ready_sources(options)
    pictures = [
        Source("images", uris.absolute(pattern), key_pattern=options.key_pattern) for pattern in options.images or ()
    ]
    rows = [table_rows.of_what_is_there(_row_source(kind, file, options)) for kind in _ROWS for file in patterns[kind]]
    if ready and (pictures or rows):
        raise UsageError(
            f"--vectors does not go with --{(pictures or rows)[0].kind}: a root has one encoder, and ready "
            "embeddings were made elsewhere; build two roots"
        )
    if not (pictures or rows or ready):
        raise UsageError(
            "name what to index: --images GLOB or FOLDER, --csv, --jsonl, --parquet, --tars or --urls GLOB, --vectors "
            "GLOB or FOLDER"
        )
    return tuple(dict.fromkeys([*pictures, *rows, *ready]))


def _row_source(kind: RowKind, location: str, options: Namespace) -> Source:
    is_list = kind == "urls"
    return Source(
        kind,
        url_lists.pattern_of(location) if is_list else uris.absolute(location),
        image_column=options.image_column or (url_lists.COLUMN if is_list else None),
        text_column=options.text_column,
        keyword_column=options.keyword_column,
        key_column=options.key_column,
        keyword_separator=options.keyword_separator,
        missing_image=options.missing_image or "reject",
    )


def _ready_sources(options: Namespace) -> list[Source]:
    patterns, metadata, modalities = options.vectors or [], options.metadata or [], options.modality or []
    names = ("vector_column", "metadata", "modality", "uri_column", "image_base")
    alone = [name for name in names if getattr(options, name) and not patterns]
    if alone:
        raise UsageError(f"--{alone[0].replace('_', '-')} is about ready embeddings: give them with --vectors")
    for flag, given in (("--metadata", metadata), ("--modality", modalities)):
        if given and len(given) != len(patterns) and (flag, len(given)) != ("--modality", 1):
            raise UsageError(
                f"{flag} is given {len(given)} times, --vectors {len(patterns)} times: give one for each, in order"
            )
    if len(modalities) == 1:
        modalities *= len(patterns)
    base, was = _image_base(options.image_base)
    sources = []
    for pattern, beside, modality in itertools.zip_longest(patterns, metadata, modalities):
        source = Source(
            "vectors",
            uris.absolute(pattern),
            vector_column=options.vector_column or DEFAULT_COLUMN,
            metadata=uris.absolute(beside) if beside else None,
            modality=modality or "image",
            uri_column=options.uri_column,
            image_base=base,
            image_was=was,
        )
        folder = ClipFolder.at(source.pattern)
        sources.append(source if folder is None else folder.source(source, modality))
    _check_pictures(sources, options.image_base)
    return _paired(sources)


def _image_base(asked: str | None) -> tuple[str | None, str | None]:
    """Returns where pictures lie, and what absolute names of them began with before: `DIR`, or `OLD=DIR`."""
    if asked is None:
        return None, None
    was, equals, base = asked.partition("=")
    # A folder may be named `lang=ko`: on this machine it is one that is there, elsewhere nothing absolute follows.
    is_folder = not (base.startswith("/") or "://" in base) if "://" in was else Path(asked).is_dir()
    if equals and not is_folder:
        return uris.absolute(base).rstrip("/"), was.rstrip("/")
    return uris.absolute(asked).rstrip("/"), None


def _check_pictures(sources: Sequence[Source], image_base: str | None) -> None:
    if image_base is not None and not any(source.uri_column for source in sources):
        raise UsageError(f"--image-base {image_base} is where pictures of a column lie: name it with --uri-column")
    for source in sources:
        if source.uri_column is not None and source.metadata is None and source.pattern.lower().endswith(".npy"):
            raise UsageError(
                f"--uri-column {source.uri_column} is a column of metadata, and {source.pattern} has none: give "
                "--metadata, too"
            )


def _paired(sources: Sequence[Source]) -> list[Source]:
    """Makes one source of vectors of pictures and of texts that have the same metadata: they are of the same items.

    Raises:
        UsageError: it is of several of a kind.
    """
    kept = list(sources)
    for metadata in dict.fromkeys(source.metadata for source in sources if source.metadata is not None):
        alone = [one for one in kept if one.metadata == metadata and one.text_vectors is None]
        pictures, texts = ([one for one in alone if one.modality == modality] for modality in ("image", "text"))
        if not (pictures and texts):
            continue
        if len(pictures) + len(texts) > 2:
            raise UsageError(
                f"--metadata {metadata} is that of {len(pictures)} --vectors of pictures and {len(texts)} of texts: "
                "pairs have one of each, so give others metadata of their own"
            )
        kept[kept.index(pictures[0])] = replace(pictures[0], text_vectors=texts[0].pattern)
        kept.remove(texts[0])
    return kept


def _index_settings(options: Namespace) -> IndexSettings:
    """Returns the index that the options ask for."""
    return IndexSettings(
        options.index_key,
        options.metric_type,
        options.max_index_memory,
        options.code_size,
        options.refine_store or DEFAULT_REFINE,
    )


def check(sources: Sequence[Source]) -> None:
    """Refuses sources that cannot work, before anything is written.

    Ready embeddings are looked at where their dimension is asked for.

    Raises:
        UsageError: names what is wrong and the way out.
    """
    for source in sources:
        if source.lists_rows:
            table_rows.check(source)
        elif source.kind == "images":
            from transforms.sources import pictures  # noqa: PLC0415 - ready embeddings need no Pillow

            pictures.check(source)


def request_of(options: Namespace, sources: tuple[Source, ...], encoder: "Encoder", threads: int) -> Request:
    """Makes the request of the options and refuses an encoder or index that cannot work.

    Of ready embeddings it is the encoder that they were made with; then it encodes nothing but queries.

    Raises:
        UsageError: names what is wrong and the way out.
    """
    from transforms import encoders  # noqa: PLC0415 - ready embeddings need no Pillow
    from transforms.tasks.embed.open_encoder import fingerprint_of  # noqa: PLC0415 - likewise

    spec = options.encoder or DEFAULT_ENCODER
    _check_modalities(spec, encoder.modalities, sources)
    settings = EncoderSettings(
        spec=encoders.absolute_spec(spec),
        fingerprint=fingerprint_of(encoder, options.image_fit),
        dim=encoder.dim,
        modalities=tuple(sorted(encoder.modalities)),
        image_fit=options.image_fit,
        device=options.device,
        batch=options.encoder_batch,
        threads=threads,
        pixel_limit=options.pixel_limit,
        normalize=not options.no_normalize,
        precision="full" if options.vectors else options.precision,
    )
    return _request(options, sources, settings)


def request_of_vectors(options: Namespace, sources: tuple[Source, ...], dim: int, threads: int) -> Request:
    """Makes the request of an index of ready embeddings of `dim` components, of which nobody said the encoder.

    What only an encoder asks for (`--device`, `--image-fit` and the like) changes nothing, so it is no part of it.

    Raises:
        UsageError: the index cannot work with this dimension.
    """
    settings = EncoderSettings(
        spec=NO_ENCODER,
        fingerprint=hashlib.sha256(f"{NO_ENCODER}:{dim}".encode()).hexdigest(),
        dim=dim,
        modalities=(),
        threads=threads,
        normalize=not options.no_normalize,
    )
    return _request(options, sources, settings)


def _request(options: Namespace, sources: tuple[Source, ...], encoder: EncoderSettings) -> Request:
    index = _index_settings(options)
    check_key(index, encoder.dim)
    return versioned(Request(sources=sources, encoder=encoder, index=_without_unused(index), seed=options.seed))


def versioned(request: Request) -> Request:
    """Returns a request with the version that an older pixdex needs to refuse it by name, if it must."""
    if request.derivation is not None:
        return replace(request, format_version=DERIVED_VERSION)
    if any(map(_is_later, request.sources)) or (request.is_ready and request.has_encoder):
        return replace(request, format_version=TABLES_VERSION)
    return replace(request, format_version=FORMAT_VERSION if request.index.refine == "none" else STORED_VERSION)


def _is_later(source: Source) -> bool:
    """Tells whether a source is one that an older pixdex does not know, or does not know all of."""
    if source.kind in ("jsonl", "parquet", "tars", "urls") or source.missing_image != "reject":
        return True
    return bool(source.text_vectors or source.uri_column or csv_copy.is_csv(source.metadata or ""))


def difference(there: Request, asked: Request) -> str:
    """Says in a few words in what two requests differ."""
    if (there.is_ready or asked.is_ready) and there.encoder != asked.encoder:
        source, wanted = (_made_of(request) for request in (there, asked))
        if source != wanted:
            return f"{source}, not {wanted}"
    elif there.encoder.fingerprint != asked.encoder.fingerprint:
        return (
            f"encoder {there.encoder.spec} with fingerprint {there.encoder.fingerprint[:12]}…, "
            f"not {asked.encoder.spec} with {asked.encoder.fingerprint[:12]}…"
        )
    if there.reindex != asked.reindex:
        return _reindex_difference(there, asked)
    if there.sources != asked.sources:
        return _source_difference(there, asked)
    names = [
        f"{name} {getattr(one, name)!r}, not {getattr(other, name)!r}"
        for one, other in ((there.encoder, asked.encoder), (there.index, asked.index))
        for name in type(one).__dataclass_fields__
        if getattr(one, name) != getattr(other, name)
    ]
    return "; ".join(names) or f"seed {there.seed}, not {asked.seed}"


def _source_difference(there: Request, asked: Request) -> str:
    one, other = there.derivation, asked.derivation
    if one is None or other is None or there.sources[0].pattern != asked.sources[0].pattern:
        return "other sources"
    names = ("operation", "generation", "alpha", "neighbours", "nprobe", "rows", "by")
    differ = [name for name in names if getattr(one, name) != getattr(other, name)]
    return "; ".join(f"{name} {getattr(one, name)}, not {getattr(other, name)}" for name in differ) or "another root"


def _reindex_difference(there: Request, asked: Request) -> str:
    one, other = there.reindex, asked.reindex
    if one is None or other is None:
        return "a build, not a reindex" if one is None else "a reindex, not a build"
    names = [name for name in type(one).__dataclass_fields__ if getattr(one, name) != getattr(other, name)]
    return "; ".join(
        f"--{name.replace('_', '-')} {getattr(one, name)!r}, not {getattr(other, name)!r}" for name in names
    )


def _made_of(request: Request) -> str:
    encoder = request.encoder
    if not request.is_ready:
        return f"encoder {encoder.spec}"
    made_by = f" and encoder {encoder.spec} ({encoder.fingerprint[:12]}…)" if request.has_encoder else ""
    return f"ready embeddings of {encoder.dim} dimensions{made_by}"


def _check_modalities(spec: str, modalities: frozenset[str], sources: Sequence[Source]) -> None:
    texts = any(source.text_column or source.keyword_column for source in sources)
    images = any(source.kind == "images" or source.image_column or source.image_bytes for source in sources)
    for wanted, needed in (("text", texts), ("image", images)):
        if needed and wanted not in modalities:
            raise UsageError(
                f"--encoder {spec} takes no {wanted}s, only {' and '.join(sorted(modalities))}s: "
                "choose another encoder, or leave those columns out"
            )


def _without_unused(index: IndexSettings) -> IndexSettings:
    """Leaves out what changes nothing: a key that is given does not ask how much memory `auto` may take, nor does one
    whose codes are the vectors store these again.
    """
    if index.key == "auto":
        return index
    return IndexSettings(index.key, index.metric, refine="none" if is_exact(index.key) else index.refine)

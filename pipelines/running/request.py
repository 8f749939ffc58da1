"""From the options of a command line to the request of a run, and what two requests differ in."""

import hashlib
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.terminal import options
from transforms.errors import UsageError
from transforms.index.choose import check_key
from transforms.records import NO_ENCODER, EncoderSettings, IndexSettings, Request, Source
from transforms.sources import csv_rows

if TYPE_CHECKING:
    from transforms.encoders import Encoder


def check(sources: Sequence[Source]) -> None:
    """Refuses sources that cannot work, before anything is written.

    Ready embeddings are looked at where their dimension is asked for.

    Raises:
        UsageError: names what is wrong and the way out.
    """
    for source in sources:
        if source.kind == "csv":
            csv_rows.check(source)
        elif source.kind == "images":
            from transforms.sources import pictures  # noqa: PLC0415 - ready embeddings need no Pillow

            pictures.check(source)


def request_of(own: Namespace, sources: tuple[Source, ...], encoder: "Encoder") -> Request:
    """Makes the request of the options and refuses an encoder or index that cannot work.

    Raises:
        UsageError: names what is wrong and the way out.
    """
    from transforms import encoders  # noqa: PLC0415 - ready embeddings need no Pillow
    from transforms.tasks.embed.open_encoder import fingerprint_of  # noqa: PLC0415 - likewise

    _check_modalities(own.encoder, encoder.modalities, sources)
    settings = EncoderSettings(
        spec=encoders.absolute_spec(own.encoder),
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
    return _request(own, sources, settings)


def request_of_vectors(own: Namespace, sources: tuple[Source, ...], dim: int) -> Request:
    """Makes the request of an index of ready embeddings of `dim` components, which has no encoder.

    What only an encoder asks for (`--device`, `--image-fit` and the like) changes nothing, so it is no part of it.

    Raises:
        UsageError: the index cannot work with this dimension.
    """
    settings = EncoderSettings(
        spec=NO_ENCODER,
        fingerprint=hashlib.sha256(f"{NO_ENCODER}:{dim}".encode()).hexdigest(),
        dim=dim,
        modalities=(),
        threads=own.encoder_threads,
        normalize=not own.no_normalize,
    )
    return _request(own, sources, settings)


def _request(own: Namespace, sources: tuple[Source, ...], encoder: EncoderSettings) -> Request:
    asked = options.index_settings(own)
    check_key(asked, encoder.dim)
    return Request(sources=sources, encoder=encoder, index=_without_unused(asked), seed=own.seed)


def difference(stands: Request, asked: Request) -> str:
    """Says in a few words in what two requests differ."""
    if (stands.is_ready or asked.is_ready) and stands.encoder != asked.encoder:
        made, wanted = (_made_of(request) for request in (stands, asked))
        if made != wanted:
            return f"{made}, not {wanted}"
    elif stands.encoder.fingerprint != asked.encoder.fingerprint:
        return (
            f"encoder {stands.encoder.spec} with fingerprint {stands.encoder.fingerprint[:12]}…, "
            f"not {asked.encoder.spec} with {asked.encoder.fingerprint[:12]}…"
        )
    if stands.reindex != asked.reindex:
        return _reindex_difference(stands, asked)
    if stands.sources != asked.sources:
        return "other sources"
    names = [
        f"{name} {getattr(one, name)!r}, not {getattr(other, name)!r}"
        for one, other in ((stands.encoder, asked.encoder), (stands.index, asked.index))
        for name in type(one).__dataclass_fields__
        if getattr(one, name) != getattr(other, name)
    ]
    return "; ".join(names) or f"seed {stands.seed}, not {asked.seed}"


def _reindex_difference(stands: Request, asked: Request) -> str:
    one, other = stands.reindex, asked.reindex
    if one is None or other is None:
        return "a build, not a reindex" if one is None else "a reindex, not a build"
    names = [name for name in type(one).__dataclass_fields__ if getattr(one, name) != getattr(other, name)]
    return "; ".join(
        f"--{name.replace('_', '-')} {getattr(one, name)!r}, not {getattr(other, name)!r}" for name in names
    )


def _made_of(request: Request) -> str:
    encoder = request.encoder
    return f"ready embeddings of {encoder.dim} dimensions" if request.is_ready else f"encoder {encoder.spec}"


def _check_modalities(spec: str, modalities: frozenset[str], sources: Sequence[Source]) -> None:
    texts = any(source.text_column or source.keyword_column for source in sources)
    images = any(source.kind == "images" or source.image_column for source in sources)
    for wanted, needed in (("text", texts), ("image", images)):
        if needed and wanted not in modalities:
            raise UsageError(
                f"--encoder {spec} takes no {wanted}s, only {' and '.join(sorted(modalities))}s: "
                "choose another encoder, or leave those columns out"
            )


def _without_unused(index: IndexSettings) -> IndexSettings:
    """Leaves out what changes nothing: a key that is given does not ask how much memory `auto` may take."""
    return index if index.key == "auto" else IndexSettings(index.key, index.metric)

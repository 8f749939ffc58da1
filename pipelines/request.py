"""From the options of a command line to the request of a run, and what two requests differ in."""

from argparse import Namespace
from collections.abc import Sequence

from pipelines import options
from transforms import encoders
from transforms.encoders import Encoder
from transforms.errors import UsageError
from transforms.index.choose import check_key
from transforms.open_encoder import fingerprint_of
from transforms.records import EncoderSettings, IndexSettings, Request, Source
from transforms.sources import csv_rows, pictures


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
    index = _without_unused(options.index_settings(own))
    check_key(index, encoder.dim)
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
    return Request(sources=sources, encoder=settings, index=index, seed=own.seed)


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

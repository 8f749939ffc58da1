"""Opens the encoder of a request on a worker and checks that it is the one that was planned with."""

import contextlib
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from transforms import encoders
from transforms.encoders import Encoder, HasEarlier
from transforms.errors import PixdexError
from transforms.records import EncoderSettings

_lent: dict[EncoderSettings, Encoder] = {}
"""Encoders that this process has loaded already."""


@dataclass(frozen=True)
class OpenedEncoder:
    """An encoder in memory, and where it computes: "cpu", or "cuda:0".

    Beam's `Shared` needs an object that takes weak references, which an encoder of a class with slots does not.
    """

    encoder: Encoder
    device: str


def fingerprint_of(encoder: Encoder, image_fit: str) -> str:
    """Returns what decides whether vectors can be compared: the encoder's fingerprint, and how pictures are fitted."""
    if "image" not in encoder.modalities:
        return encoder.fingerprint
    return hashlib.sha256(f"{encoder.fingerprint} {image_fit}".encode()).hexdigest()


def as_recorded(encoder: Encoder, fingerprint: str, image_fit: str) -> Encoder:
    """Returns the encoder with the preprocessing of a root; as it is, if it has none of this fingerprint.

    Args:
        encoder: as it is opened for new roots.
        fingerprint: of the root, as `fingerprint_of` makes it.
        image_fit: how pictures are fitted.
    """
    if fingerprint != fingerprint_of(encoder, image_fit) and isinstance(encoder, HasEarlier):
        earlier = encoder.earlier()
        if fingerprint == fingerprint_of(earlier, image_fit):
            return earlier
    return encoder


def open_encoder(settings: EncoderSettings) -> OpenedEncoder:
    """Loads the encoder, with the preprocessing that was planned with, and sets its threads.

    Raises:
        PixdexError: it is another one than the request names, for example because the checkpoint was replaced.
    """
    return _checked(encoders.load(settings.spec, device=settings.device), settings)


@contextlib.contextmanager
def lent(encoder: Encoder, settings: EncoderSettings) -> Iterator[None]:
    """Has `lent_encoder` return an encoder that was loaded for these settings, until the context ends.

    The launcher has loaded it to describe it; where no other process embeds, nobody has to load it again.
    """
    _lent[settings] = encoder
    del encoder  # what is lent is held in one place
    try:
        yield
    finally:
        _lent.pop(settings, None)


def lent_encoder(settings: EncoderSettings) -> OpenedEncoder | None:
    """Returns the encoder that is lent for these settings, with its threads set; None: none is.

    Raises:
        PixdexError: as `open_encoder`.
    """
    encoder = _lent.get(settings)
    return None if encoder is None else _checked(encoder, settings)


def _checked(encoder: Encoder, settings: EncoderSettings) -> OpenedEncoder:
    encoder = as_recorded(encoder, settings.fingerprint, settings.image_fit)
    fingerprint = fingerprint_of(encoder, settings.image_fit)
    if fingerprint != settings.fingerprint:
        raise PixdexError(
            f"encoder {settings.spec} has fingerprint {fingerprint[:12]}…, the root was made with "
            f"{settings.fingerprint[:12]}…: restore the weights it was made with, or build into a new root"
        )
    _use_threads(settings.threads)
    return OpenedEncoder(encoder, encoder.device)


def _use_threads(threads: int) -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)

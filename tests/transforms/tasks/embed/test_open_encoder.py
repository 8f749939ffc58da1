"""A worker opens the encoder that was planned with, once, whatever class it is of."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from apache_beam.utils.shared import Shared
from numpy.typing import NDArray

from transforms.errors import PixdexError
from transforms.records import EncoderSettings
from transforms.tasks.embed.open_encoder import open_encoder


class Slotted:
    """An encoder that takes no weak references."""

    __slots__ = ()
    dim = 2
    modalities = frozenset({"text"})
    fingerprint = hashlib.sha256(b"slotted").hexdigest()
    device = "cpu"

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.ones((len(texts), 2), np.float32)


SETTINGS = EncoderSettings(f"{__name__}:Slotted", Slotted.fingerprint, Slotted.dim, ("text",))


def test_an_encoder_of_any_class_is_shared_by_the_threads_of_a_worker() -> None:
    shared = Shared()
    first, second = (shared.acquire(lambda: open_encoder(SETTINGS)) for _ in range(2))

    assert first is second
    assert isinstance(first.encoder, Slotted)


def test_an_opened_encoder_says_where_it_computes() -> None:
    assert open_encoder(SETTINGS).device == "cpu"


def test_another_encoder_than_the_planned_one_is_refused() -> None:
    with pytest.raises(PixdexError, match=r"has fingerprint .*, the root was made with 000000000000…"):
        open_encoder(replace(SETTINGS, fingerprint="0" * 64))

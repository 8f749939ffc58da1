"""A worker opens the encoder that was planned with, once, whatever class it is of."""

import gc
import hashlib
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import PIL.Image
import pytest
from apache_beam.utils.shared import Shared
from numpy.typing import NDArray

from transforms.encoders import Encoder, HasEarlier, load
from transforms.errors import PixdexError
from transforms.pictures.decode import decode
from transforms.queries.encode import QueryEncoder
from transforms.records import EncoderSettings, IndexSettings, Request
from transforms.tasks.embed.open_encoder import as_recorded, fingerprint_of, lent, lent_encoder, open_encoder

OF_BEFORE = "d2b9bb921ceea15aa2390f13d787b84116fb6d9f07fa2ffe276ab4e534db2050"
"""What roots of the demo encoder say that were made while Pillow resized their pictures."""


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


def test_an_encoder_is_lent_for_its_settings_and_for_a_time() -> None:
    class Loaded(Slotted):
        """Takes weak references."""

    encoder: Any = Loaded()
    is_there = weakref.ref(encoder)
    with lent(encoder, SETTINGS):
        opened = lent_encoder(SETTINGS)
        assert opened is not None
        assert opened.encoder is encoder
        assert lent_encoder(replace(SETTINGS, batch=9)) is None
    del opened, encoder
    assert lent_encoder(SETTINGS) is None
    gc.collect()
    assert is_there() is None


def test_what_is_lent_is_the_planned_one_or_refused() -> None:
    other = replace(SETTINGS, fingerprint="0" * 64)
    encoder: Any = Slotted()
    with lent(encoder, other), pytest.raises(PixdexError, match=r"has fingerprint .*, the root was made with 00000"):
        lent_encoder(other)


@pytest.fixture(scope="module")
def demo() -> Encoder:
    return load("demo", device="cpu")


def demo_settings(encoder: Encoder) -> EncoderSettings:
    return EncoderSettings("demo", fingerprint_of(encoder, "crop"), encoder.dim, ("image", "text"), device="cpu")


def test_a_root_goes_on_with_the_preprocessing_that_it_was_made_with(demo: Encoder, tmp_path: Path) -> None:
    assert isinstance(demo, HasEarlier)
    transform = open_clip.transform.image_transform(64, is_train=False)
    values = np.random.default_rng(0).integers(0, 256, (150, 200, 3), np.uint8)
    PIL.Image.fromarray(values).save(tmp_path / "a.jpg")
    by_pillow = transform(decode((tmp_path / "a.jpg").read_bytes(), target=64)).numpy()
    of_before, today = (
        QueryEncoder(Request((), demo_settings(encoder), IndexSettings())) for encoder in (demo.earlier(), demo)
    )
    old, new = (encoder.pictures([str(tmp_path / "a.jpg")]) for encoder in (of_before, today))

    np.testing.assert_array_equal(old, demo.encode_images(by_pillow[None]))
    assert not np.array_equal(old, new)
    assert (old * new).sum() > 0.999 * np.linalg.norm(old) * np.linalg.norm(new)
    np.testing.assert_array_equal(of_before.texts(["a red circle"]), today.texts(["a red circle"]))


def test_the_preprocessing_of_before_is_taken_where_its_fingerprint_is_asked_for_and_nowhere_else(
    demo: Encoder,
) -> None:
    assert isinstance(demo, HasEarlier)
    earlier = demo.earlier()

    assert as_recorded(demo, fingerprint_of(demo, "crop"), "crop") is demo
    assert as_recorded(demo, fingerprint_of(earlier, "pad"), "pad").fingerprint == earlier.fingerprint
    assert as_recorded(demo, fingerprint_of(earlier, "pad"), "crop") is demo
    assert as_recorded(demo, "0" * 64, "crop") is demo


def test_the_fingerprint_of_the_demo_before_is_that_of_roots_of_then(demo: Encoder) -> None:
    assert isinstance(demo, HasEarlier)
    assert fingerprint_of(demo.earlier(), "crop") == OF_BEFORE
    assert (
        fingerprint_of(open_encoder(demo_settings(demo)).encoder, "crop") == fingerprint_of(demo, "crop") != OF_BEFORE
    )

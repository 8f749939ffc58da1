"""The shipped encoder is open_clip's model, and imports neither open_clip nor what that imports."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer

from transforms import demo
from transforms.demo.drawing import draw, sample_scenes
from transforms.encoders import CleansTexts, Encoder, HasEarlier, demo_encoder, load, open_clip_encoder
from transforms.encoders.blank import are_blank

MODEL, WEIGHTS = "pixdex-demo", str(Path(demo.__file__).parent / "weights.safetensors")
TEXTS = [
    "a red circle",
    "",
    "two small blue squares beside a large green triangle",
    "Ünïcode &amp; <b>tags</b>, emoji \N{GRINNING FACE}",
    "many words " * 40,
]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load("demo", device="cpu")


@pytest.fixture(scope="module")
def by_open_clip() -> Encoder:
    return open_clip_encoder.open_checkpoint(MODEL, WEIGHTS, "cpu")


def test_its_fingerprint_is_that_of_open_clip(encoder: Encoder, by_open_clip: Encoder) -> None:
    assert encoder.fingerprint == by_open_clip.fingerprint
    assert (encoder.dim, encoder.modalities, encoder.device) == (
        by_open_clip.dim,
        by_open_clip.modalities,
        by_open_clip.device,
    )


@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:1], TEXTS * 10])
def test_its_vectors_of_texts_are_those_of_open_clip(encoder: Encoder, by_open_clip: Encoder, texts: list[str]) -> None:
    np.testing.assert_array_equal(encoder.encode_texts(texts), by_open_clip.encode_texts(texts))


@pytest.mark.parametrize("is_earlier", [False, True])
def test_its_vectors_of_pictures_are_those_of_open_clip(
    encoder: Encoder, by_open_clip: Encoder, *, is_earlier: bool
) -> None:
    if is_earlier:
        assert isinstance(encoder, HasEarlier) and isinstance(by_open_clip, HasEarlier)
        encoder, by_open_clip = encoder.earlier(), by_open_clip.earlier()
        assert encoder.fingerprint == by_open_clip.fingerprint
    rng = np.random.default_rng(0)
    pictures = [draw(scene, rng) for scene in sample_scenes(5, rng)]
    with ThreadPoolExecutor(4) as pool:  # the first picture opens the model, once
        pixels = np.stack(list(pool.map(encoder.preprocess, pictures)))
    np.testing.assert_array_equal(pixels, np.stack([by_open_clip.preprocess(picture) for picture in pictures]))
    ours, theirs = encoder.encode_images(pixels), by_open_clip.encode_images(pixels)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())  # batch norms are folded


def test_texts_and_pictures_take_torch_and_none_of_the_libraries_of_models() -> None:
    code = """
import sys
import numpy as np
from transforms.encoders import load
encoder = load("demo", device="cpu")
encoder.encode_texts(["a red circle"])
encoder.encode_images(encoder.preprocess_pixels(np.zeros((80, 90, 3), np.uint8))[None])
print({"open_clip", "torchvision", "timm", "transformers", "torch._dynamo", "apache_beam"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"


def test_in_half_precision_it_is_open_clip_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (demo_encoder, open_clip_encoder):
        monkeypatch.setattr(module, "inference_dtype", lambda device: torch.bfloat16)
    half, by_open_clip = load("demo", device="cpu"), open_clip_encoder.open_checkpoint(MODEL, WEIGHTS, "cpu")
    np.testing.assert_array_equal(half.encode_texts(TEXTS), by_open_clip.encode_texts(TEXTS))
    assert half.fingerprint == by_open_clip.fingerprint


def test_texts_that_the_tokenizer_cleans_away_are_blank(encoder: Encoder, by_open_clip: Encoder) -> None:
    texts = ["a red circle", "", " ", "&nbsp;", "&amp;nbsp;", "!", "\x01\x02", "&lt;", "7", "&nbsp;x"]
    for one in (encoder, by_open_clip):
        assert isinstance(one, CleansTexts)
        assert one.are_blank(texts) == [False, True, True, True, True, False, True, False, False, False]
        assert one.are_blank([]) == []


def test_a_tokenizer_that_drops_punctuation_finds_more_texts_blank() -> None:
    tokenize = SimpleTokenizer(clean="canonicalize")

    assert are_blank(["...", "-_-", "a.", "&nbsp;!", "\u2014"], tokenize) == [True, True, False, True, False]

"""Pictures are resized as torchvision resizes them, by torch and in one thread; roots of before go on with Pillow."""

from pathlib import Path

import numpy as np
import open_clip
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

from transforms.encoders.preprocessing import Preprocessing
from transforms.encoders.resizing import Resizing

THREADS = Path("/proc/self/task")


def smooth(width: int, height: int) -> PIL.Image.Image:
    rng = np.random.default_rng(width * 1000 + height)
    values = rng.integers(0, 256, (height // 4 + 2, width // 4 + 2, 3), np.uint8)
    return PIL.Image.fromarray(values).resize((width, height), PIL.Image.Resampling.BICUBIC)


@given(
    st.integers(1, 200),
    st.integers(1, 200),
    st.sampled_from([InterpolationMode.BICUBIC, InterpolationMode.BILINEAR]),
    st.sampled_from([(24, 24), (30, 24), ((20, 28), None), ([24], (24, 16))]),
)
def test_it_is_what_torchvision_does_with_pillow(
    width: int, height: int, interpolation: InterpolationMode, sides: tuple[object, object]
) -> None:
    side, crop = sides
    steps = [Resize(side, interpolation), *([CenterCrop(crop)] if crop else [])]
    resizing = Resizing.of(steps)
    assert resizing is not None
    picture: object = smooth(width, height)
    pixels = resizing(np.array(picture))
    for step in steps:
        picture = step(picture)
    expected = np.asarray(picture).transpose(2, 0, 1)

    assert pixels.shape == expected.shape
    differences = np.abs(pixels.astype(int) - expected.astype(int))
    assert differences.mean() < 0.1
    assert differences.max() <= 4


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [CenterCrop(8)],
        [Resize(8), CenterCrop(9)],
        [Resize(8)],
        [Resize(8, max_size=20), CenterCrop(8)],
        [Resize(8, InterpolationMode.NEAREST), CenterCrop(8)],
        [Resize(8), CenterCrop(8), CenterCrop(8)],
        open_clip.transform.image_transform(8, False, resize_mode="longest").transforms[:-2],
    ],
)
def test_other_steps_are_left_to_torchvision(steps: list[object]) -> None:
    assert Resizing.of(steps) is None  # type: ignore[arg-type]  # torchvision is untyped


@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
def test_another_way_to_resize_is_another_fingerprint_and_the_same_steps_keep_it(mode: str) -> None:
    steps = open_clip.transform.image_transform(16, False, resize_mode=mode).transforms
    today = Preprocessing(steps, is_fast=True)
    picture = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 250, 3), np.uint8))
    earlier = today.earlier()

    assert earlier.fingerprint("of before") == "of before"
    assert (today.fingerprint("of before") == "of before") == (mode == "longest")
    assert np.array_equal(today(picture), earlier(picture)) == (mode == "longest")
    for each in (today, earlier):
        np.testing.assert_array_equal(each(picture), each(np.array(picture)))


@pytest.mark.skipif(not THREADS.is_dir(), reason="the threads of a process are not listed here")
@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() == "DEFAULT", reason="torch has no vector unit here that works on bytes"
)
def test_it_starts_no_thread_of_torch() -> None:
    resizing, before = Resizing.of([Resize(224), CenterCrop(224)]), torch.get_num_threads()
    assert resizing is not None
    try:
        torch.set_num_threads(16)
        threads = set(THREADS.iterdir())
        resizing(np.zeros((1500, 2000, 3), np.uint8))
        assert set(THREADS.iterdir()) <= threads
    finally:
        torch.set_num_threads(before)

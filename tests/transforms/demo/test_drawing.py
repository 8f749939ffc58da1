from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.demo.drawing import (
    COLOURS,
    COUNTS,
    POSITIONS,
    SHAPES,
    SIZES,
    Scene,
    draw,
    held_out_pairs,
    sample_scenes,
)

scenes = st.builds(
    Scene,
    colour=st.sampled_from(COLOURS),
    shape=st.sampled_from(SHAPES),
    size=st.sampled_from(SIZES),
    count=st.sampled_from(COUNTS),
    position=st.sampled_from(POSITIONS),
)
seeds = st.integers(0, 2**32)


@given(scenes, seeds, st.sampled_from([64, 100, 128]))
def test_same_scene_and_seed_give_the_same_pixels(scene: Scene, seed: int, size: int) -> None:
    first, second = (draw(scene, np.random.default_rng(seed), size) for _ in range(2))
    assert first.mode == "RGB"
    assert first.size == (size, size)
    assert first.tobytes() == second.tobytes()


@given(scenes, seeds)
def test_another_seed_gives_another_picture_of_the_scene(scene: Scene, seed: int) -> None:
    assert draw(scene, np.random.default_rng(seed)).tobytes() != draw(scene, np.random.default_rng(seed + 1)).tobytes()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("position", POSITIONS)
def test_a_scene_lies_at_its_position(shape: str, position: str) -> None:
    toward = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1), "centre": (0, 0)}[position]
    for count in COUNTS:
        for size in SIZES:
            inked = _ink(Scene("black", shape, size, count, position))
            down, across = np.nonzero(inked)
            right, below = across.mean() / inked.shape[1] - 0.5, down.mean() / inked.shape[0] - 0.5
            for offset, sign in ((right, toward[0]), (below, toward[1])):
                assert offset * sign > 0.09 if sign else abs(offset) < 0.09


@pytest.mark.parametrize("shape", SHAPES)
def test_large_shapes_cover_more_than_small_ones_and_ink_grows_with_the_count(shape: str) -> None:
    area = {
        (size, count): _ink(Scene("black", shape, size, count, "centre")).sum() for size in SIZES for count in COUNTS
    }
    for count in COUNTS:
        assert area["large", count] > 1.8 * area["small", count]
    for size in SIZES:
        assert area[size, 1] < area[size, 2] < area[size, 3] < area[size, 4]


@given(seeds)
def test_held_out_pairs_are_two_of_every_colour_and_every_shape(seed: int) -> None:
    pairs = held_out_pairs(seed)
    assert len(pairs) == len(COLOURS) * len(SHAPES) // 5
    assert set(Counter(colour for colour, _ in pairs).values()) == {2}
    assert set(Counter(shape for _, shape in pairs).values()) == {2}
    assert pairs == held_out_pairs(seed)


def test_sampled_scenes_leave_out_the_pairs_asked_for_and_nothing_else() -> None:
    left_out = held_out_pairs(0)
    sampled = sample_scenes(5_000, np.random.default_rng(0), without=left_out)
    every = {(colour, shape) for colour in COLOURS for shape in SHAPES}
    assert {(scene.colour, scene.shape) for scene in sampled} == every - left_out
    assert {scene.count for scene in sampled} == set(COUNTS)


def _ink(scene: Scene) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Where the shapes are: the dark pixels of a black scene whose background, chosen by seed, is pale."""
    for seed in range(100):
        grey = np.asarray(draw(scene, np.random.default_rng(seed)).convert("L"))
        if np.median(grey) > 190:
            return np.asarray(grey < 110)
    raise AssertionError("no seed gives a pale background")

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.demo.test_drawing import scenes, seeds
from transforms.demo.captions import ATTRIBUTES, SEVERAL, Allowed, describe, full, plain, worded
from transforms.demo.drawing import Scene


@given(scenes, seeds)
def test_a_description_is_true_of_its_scene_and_names_something(scene: Scene, seed: int) -> None:
    caption = describe(scene, np.random.default_rng(seed))
    assert caption.true_of(scene)
    assert caption.allowed


@given(scenes, scenes, seeds)
def test_a_caption_is_true_of_another_scene_only_if_all_it_names_agrees(scene: Scene, other: Scene, seed: int) -> None:
    caption = describe(scene, np.random.default_rng(seed))
    agrees = all(
        getattr(other, name) == getattr(scene, name)
        or (name == "count" and values == SEVERAL and other.count in SEVERAL)
        for name, values in caption.allowed.items()
    )
    assert caption.true_of(other) == agrees


@given(scenes, seeds)
def test_the_words_name_what_the_caption_says_they_name(scene: Scene, seed: int) -> None:
    caption = describe(scene, np.random.default_rng(seed))
    words = caption.text.split()
    assert (scene.colour in words) == ("colour" in caption.allowed)
    assert any(word in (scene.shape, f"{scene.shape}s", f"{scene.shape}es") for word in words) == (
        "shape" in caption.allowed
    )
    assert any(word in words for word in ("small", "little", "tiny", "large", "big")) == ("size" in caption.allowed)
    assert any(word in words for word in ("on", "at", "in", "to")) == ("position" in caption.allowed)


@given(scenes)
def test_a_full_caption_is_true_of_its_scene_alone(scene: Scene) -> None:
    caption = full(scene)
    assert set(caption.allowed) == set(ATTRIBUTES)
    assert caption.true_of(scene)


@pytest.mark.parametrize(
    ("allowed", "text"),
    [
        ({"colour": {"red"}, "shape": {"circle"}, "count": {1}}, "a red circle"),
        ({"colour": {"red"}, "shape": {"circle"}}, "red circle"),
        ({"size": {"small"}, "colour": {"blue"}, "shape": {"square"}, "count": {2}}, "two small blue squares"),
        ({"colour": {"green"}, "shape": {"star"}, "count": {2, 3, 4}, "position": {"left"}}, "green stars on the left"),
        ({"colour": {"orange"}, "shape": {"cross"}, "count": {1}}, "an orange cross"),
        ({"shape": {"arrow"}, "count": {1}, "position": {"centre"}}, "an arrow in the centre"),
        ({"shape": {"cross"}, "count": {4}}, "four crosses"),
        ({"position": {"top"}}, "shape at the top"),
    ],
)
def test_plain_captions_read_like_queries(allowed: dict[str, set[str | int]], text: str) -> None:
    assert plain({name: frozenset(values) for name, values in allowed.items()}).text == text


@given(st.data(), seeds)
def test_varied_words_name_the_same(data: st.DataObject, seed: int) -> None:
    names = data.draw(st.lists(st.sampled_from(list(ATTRIBUTES)), min_size=1, unique=True))
    allowed: Allowed = {name: frozenset({data.draw(st.sampled_from(ATTRIBUTES[name]))}) for name in names}
    assert worded(allowed, np.random.default_rng(seed)).allowed == plain(allowed).allowed

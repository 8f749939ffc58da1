from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.demo_encoder import measure_demo
from transforms import demo
from transforms.demo.drawing import Scene, draw, sample_scenes
from transforms.demo.scoring import SEEN_PAIR, UNSEEN_PAIR, Report, encode_scenes, precision
from transforms.encoders import Encoder, load


@pytest.fixture(scope="module")
def report() -> Report:
    return measure_demo(gallery=4_000, seed=77)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load("demo", device="cpu")


@pytest.mark.gate
def test_nine_of_ten_pictures_found_show_all_that_the_text_names(report: Report) -> None:
    assert report.overall.queries > 400
    assert report.overall.precision_at_10 >= 0.9
    assert report.varied_words.precision_at_10 >= 0.9


@pytest.mark.gate
def test_pairs_of_colour_and_shape_never_seen_in_training_are_found_as_well(report: Report) -> None:
    assert report.by_pair[UNSEEN_PAIR].queries >= 20
    assert report.by_pair[UNSEEN_PAIR].precision_at_10 >= 0.9
    assert report.by_pair[SEEN_PAIR].precision_at_10 >= 0.9


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("a red circle", {"colour": "red", "shape": "circle", "count": 1}),
        ("two small blue squares", {"colour": "blue", "shape": "square", "size": "small", "count": 2}),
        ("green stars on the left", {"colour": "green", "shape": "star", "position": "left"}),
        ("Three Large Yellow Hearts.", {"colour": "yellow", "shape": "heart", "size": "large", "count": 3}),
        ("purple", {"colour": "purple"}),
    ],
)
def test_the_queries_of_the_readme_put_a_true_picture_first(
    encoder: Encoder, query: str, wanted: dict[str, object]
) -> None:
    rng = np.random.default_rng(9)
    scenes = sample_scenes(600, rng)
    target = {"colour": "red", "shape": "ring", "size": "small", "count": 2, "position": "left", **wanted}
    scenes.append(Scene(**target))  # type: ignore[arg-type]  # a scene from its attributes by name
    pictures = encode_scenes(encoder, scenes, rng)
    pictures /= np.linalg.norm(pictures, axis=1, keepdims=True)
    best = scenes[int((pictures @ encoder.encode_texts([query])[0]).argmax())]
    assert {name: getattr(best, name) for name in wanted} == wanted


def test_precision_counts_the_relevant_among_the_nearest() -> None:
    pictures = np.eye(4, dtype=np.float32)
    queries = np.array([[0.9, 0.8, 0.1, 0.0]], dtype=np.float32)
    truth = np.array([[True, False, True, True]])
    np.testing.assert_array_equal(precision(queries, pictures, truth, top=2), [0.5])


def test_the_weights_fit_into_the_package() -> None:
    assert (Path(demo.__file__).parent / "weights.safetensors").stat().st_size <= 15_000_000


def test_every_attribute_changes_the_vector_of_a_picture(encoder: Encoder) -> None:
    base = Scene("red", "circle", "small", 1, "left")
    others = [
        replace(base, colour="black"),
        replace(base, shape="arrow"),
        replace(base, size="large"),
        replace(base, count=4),
        replace(base, position="centre"),
    ]
    pixels = np.stack([encoder.preprocess(draw(scene, np.random.default_rng(1))) for scene in (base, *others)])
    vectors = encoder.encode_images(pixels)
    assert (np.abs(vectors[1:] - vectors[0]).max(axis=1) > 0.01).all()

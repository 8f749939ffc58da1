"""Measures what the demo encoder is for: of the ten pictures found for a text, how many show all that the text names?

The gallery is drawn afresh with its own seed. The queries are all combinations of attribute values that at least
`least_relevant` pictures of the gallery satisfy, a random sample of each group; a picture is relevant when the caption
is true of it. The groups keep the pairs of colour and shape that training has seen apart from those it has not.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from transforms.demo.captions import ATTRIBUTES, SEVERAL, Allowed, Caption, plain, worded
from transforms.demo.drawing import Scene, draw, sample_scenes

TRAINING_SEED = 0  # of the shipped weights: `held_out_pairs(TRAINING_SEED)` are the pairs they have never seen
NO_PAIR, SEEN_PAIR, UNSEEN_PAIR = "no pair named", "pairs seen in training", "pairs never seen in training"
_TOP = 10


class TwoTower(Protocol):
    """The part of an encoder that scoring needs; `transforms.encoders.Encoder` has it."""

    def preprocess(self, image: PIL.Image.Image) -> NDArray[np.float32]:
        """One RGB picture → an array of fixed shape."""

    def encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, *shape) → (n, dim)."""

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """n texts → (n, dim)."""


@dataclass(frozen=True)
class Score:
    """Mean precision@10 over `queries` queries."""

    queries: int
    precision_at_10: float


@dataclass(frozen=True)
class Report:
    """What `measure` found: every group of queries in plain words, and all of them in varied words."""

    gallery: int
    overall: Score
    varied_words: Score
    by_pair: Mapping[str, Score]
    by_attributes_named: Mapping[int, Score]


def measure(
    encoder: TwoTower,
    unseen: frozenset[tuple[str, str]],
    *,
    gallery: int = 10_000,
    seed: int = 1_000_003,
    queries_per_group: int = 400,
    least_relevant: int = 20,
) -> Report:
    """Draws a gallery of `gallery` pictures, searches it exactly with texts and reports precision@10.

    `unseen` are the (colour, shape) pairs that training left out, `queries_per_group` bounds the queries of each of the
    three groups (no pair named, a seen pair, an unseen one). Cost: about 2 ms a picture on two cores.
    """
    rng = np.random.default_rng([seed, 3])
    scenes = sample_scenes(gallery, rng)
    pictures = _unit(encode_scenes(encoder, scenes, rng))
    shows = {name: _shows(scenes, name) for name in ATTRIBUTES}
    groups: dict[str, list[Allowed]] = {NO_PAIR: [], SEEN_PAIR: [], UNSEEN_PAIR: []}
    for allowed in _all_queries():
        if int(relevant(shows, allowed).sum()) >= least_relevant:
            groups[_group(allowed, unseen)].append(allowed)
    kept = {name: _sample(group, queries_per_group, rng) for name, group in groups.items()}
    every = [allowed for group in kept.values() for allowed in group]

    def score(captions: Sequence[Caption]) -> NDArray[np.float64]:
        truth = np.stack([relevant(shows, caption.allowed) for caption in captions])
        return precision(_unit(encoder.encode_texts([caption.text for caption in captions])), pictures, truth)

    exact = score([plain(allowed) for allowed in every])
    group_of = np.repeat(list(kept), [len(group) for group in kept.values()])
    named = np.array([len(allowed) for allowed in every])
    return Report(
        gallery=gallery,
        overall=_mean(exact),
        varied_words=_mean(score([worded(allowed, rng) for allowed in every])),
        by_pair={name: _mean(exact[group_of == name]) for name in kept},
        by_attributes_named={int(count): _mean(exact[named == count]) for count in np.unique(named)},
    )


def precision(
    queries: NDArray[np.float32], pictures: NDArray[np.float32], truth: NDArray[np.bool_], top: int = _TOP
) -> NDArray[np.float64]:
    """(q, d) and (n, d) unit vectors, (q, n) truth → (q,) share of relevant pictures among the `top` nearest."""
    nearest = np.argpartition(-(queries @ pictures.T), top, axis=1)[:, :top]
    return np.asarray(np.take_along_axis(truth, nearest, axis=1).mean(axis=1), dtype=np.float64)


def encode_scenes(
    encoder: TwoTower, scenes: Sequence[Scene], rng: np.random.Generator, batch: int = 250
) -> NDArray[np.float32]:
    """Draws and encodes the scenes: (n, dim) float32. Only one batch of pictures is in memory at a time."""
    return np.concatenate(
        [
            encoder.encode_images(np.stack([encoder.preprocess(draw(scene, rng)) for scene in scenes[at : at + batch]]))
            for at in range(0, len(scenes), batch)
        ]
    )


def relevant(shows: Mapping[str, Mapping[str | int, NDArray[np.bool_]]], allowed: Allowed) -> NDArray[np.bool_]:
    """(n,) whether each picture has, for every attribute named, one of the allowed values."""
    by_attribute = [np.any([shows[name][value] for value in values], axis=0) for name, values in allowed.items()]
    return np.asarray(np.all(by_attribute, axis=0), dtype=np.bool_)


def _shows(scenes: Sequence[Scene], attribute: str) -> dict[str | int, NDArray[np.bool_]]:
    actual = np.array([getattr(scene, attribute) for scene in scenes])
    return {value: actual == value for value in ATTRIBUTES[attribute]}


def _all_queries() -> list[Allowed]:
    """Every combination of named attributes and values; of counts, "several" too."""
    choices: list[list[tuple[str, frozenset[str | int]] | None]] = [
        [None, *((name, frozenset({value})) for value in values)] for name, values in ATTRIBUTES.items()
    ]
    choices[list(ATTRIBUTES).index("count")].append(("count", frozenset(SEVERAL)))
    combinations = (dict(choice for choice in choose if choice) for choose in itertools.product(*choices))
    return [allowed for allowed in combinations if allowed]


def _group(allowed: Allowed, unseen: frozenset[tuple[str, str]]) -> str:
    if "colour" not in allowed or "shape" not in allowed:
        return NO_PAIR
    ((colour,), (shape,)) = allowed["colour"], allowed["shape"]
    return UNSEEN_PAIR if (colour, shape) in unseen else SEEN_PAIR


def _sample(group: Sequence[Allowed], most: int, rng: np.random.Generator) -> list[Allowed]:
    return [group[at] for at in rng.permutation(len(group))[:most]]


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def _mean(values: NDArray[np.float64]) -> Score:
    return Score(queries=len(values), precision_at_10=float(values.mean()) if len(values) else float("nan"))

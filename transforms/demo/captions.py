"""Says in words what a scene shows, or a part of it: "two small blue squares on the left".

A caption knows which attributes it names and which values its words allow, so that `Caption.true_of` decides for any
scene whether the words are true of it. "a red circle" speaks of one circle, "red circles" of two to four, and "red
circle", as people type it into a search box, of any number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from transforms.demo.drawing import COLOURS, COUNTS, POSITIONS, SHAPES, SIZES, Scene

ATTRIBUTES: Final = MappingProxyType(
    {"colour": COLOURS, "shape": SHAPES, "size": SIZES, "count": COUNTS, "position": POSITIONS}
)
SEVERAL: Final = frozenset({2, 3, 4})  # what a plural without a number allows

Allowed = Mapping[str, frozenset[str | int]]

_NUMBERS: Final = {1: ("a", "a", "one", "a single", "1"), 2: ("two", "2"), 3: ("three", "3"), 4: ("four", "4")}
_SIZE_WORDS: Final = {"small": ("small", "small", "little", "tiny"), "large": ("large", "large", "big")}
_PLACES: Final = {
    "left": ("on the left", "on the left", "at the left", "on the left side", "to the left"),
    "right": ("on the right", "on the right", "at the right", "on the right side", "to the right"),
    "top": ("at the top", "at the top", "on the top", "on top"),
    "bottom": ("at the bottom", "at the bottom", "on the bottom"),
    "centre": ("in the centre", "in the centre", "in the center", "in the middle"),
}
_ANY_SHAPE: Final = ("shape", "shape", "object", "thing")
_FRAMES: Final = ("a picture of {}", "an image of {}", "a photo of {}", "a drawing of {}", "picture of {}")
_FRAMED_SHARE = 0.2


@dataclass(frozen=True)
class Caption:
    """Words about a picture, and for every attribute that they name the values they allow."""

    text: str
    allowed: Allowed

    def true_of(self, scene: Scene) -> bool:
        """Whether every attribute that the words name has, in `scene`, a value that they allow."""
        return all(getattr(scene, attribute) in values for attribute, values in self.allowed.items())


def plain(allowed: Allowed) -> Caption:
    """The caption in its plainest words, for instance "three large green stars at the top"."""
    return Caption(_compose(allowed, None), allowed)


def worded(allowed: Allowed, rng: np.random.Generator) -> Caption:
    """A caption that names the same in varied words, for instance "a picture of 3 big green stars on top"."""
    return Caption(_compose(allowed, rng), allowed)


def full(scene: Scene) -> Caption:
    """The plain caption that names everything the scene shows."""
    return plain({attribute: frozenset({getattr(scene, attribute)}) for attribute in ATTRIBUTES})


def describe(scene: Scene, rng: np.random.Generator) -> Caption:
    """A caption true of `scene` that names at least one of its attributes, often two or three, in varied words."""
    named = [attribute for attribute in ATTRIBUTES if rng.uniform() < _NAMED_SHARE[attribute]]
    if not named:
        named = [("colour", "shape", "position")[rng.integers(3)]]
    allowed: dict[str, frozenset[str | int]] = {name: frozenset({getattr(scene, name)}) for name in named}
    if scene.count in SEVERAL and "count" in allowed and rng.uniform() < _PLURAL_SHARE:
        allowed["count"] = SEVERAL
    return worded(allowed, rng)


_NAMED_SHARE: Final = {"colour": 0.75, "shape": 0.75, "size": 0.35, "count": 0.5, "position": 0.4}
_PLURAL_SHARE = 0.35


def _compose(allowed: Allowed, rng: np.random.Generator | None) -> str:
    """Number, size, colour, noun, place: in the first words of each list, or in random ones if a generator is given."""

    def pick(words: tuple[str, ...]) -> str:
        return words[0] if rng is None else words[rng.integers(len(words))]

    counts = allowed.get("count", frozenset())
    plural = bool(counts) and counts != {1}
    number = (
        "" if not counts else pick(("", "", "some", "several")) if counts == SEVERAL else pick(_NUMBERS[_one(counts)])
    )
    size = pick(_SIZE_WORDS[str(_only(allowed["size"]))]) if "size" in allowed else ""
    colour = str(_only(allowed["colour"])) if "colour" in allowed else ""
    noun = str(_only(allowed["shape"])) if "shape" in allowed else pick(_ANY_SHAPE)
    place = pick(_PLACES[str(_only(allowed["position"]))]) if "position" in allowed else ""
    things = " ".join(word for word in (number, size, colour, _plural(noun) if plural else noun) if word)
    things = things.replace("a orange", "an orange").replace("a arrow", "an arrow").replace("a object", "an object")
    if rng is None or rng.uniform() >= _FRAMED_SHARE:
        return f"{things} {place}".strip()
    return f"{pick(_FRAMES).format(things)} {place}".strip()


def _plural(noun: str) -> str:
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"


def _only(values: frozenset[str | int]) -> str | int:
    (value,) = values
    return value


def _one(counts: frozenset[str | int]) -> int:
    return int(_only(counts))

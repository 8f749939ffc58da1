"""Draws the demo's pictures: one to four equal shapes of one colour, one size, at one place, on a quiet background.

A `Scene` says what a picture shows; `draw` shows it. Everything a caption may name is in the scene, and everything else
(the exact hue, the rotation, the spot, the background) comes from the random generator, so that two pictures of one
scene differ like two photographs of one thing. Pure PIL and numpy; about 1,500 pictures of 128 pixels a second on one
core.
"""

import colorsys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

COLOURS: Final = ("red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink", "brown", "black")
SHAPES: Final = ("circle", "square", "triangle", "star", "heart", "cross", "ring", "diamond", "crescent", "arrow")
SIZES: Final = ("small", "large")
COUNTS: Final = (1, 2, 3, 4)
POSITIONS: Final = ("left", "right", "top", "bottom", "centre")

_SUPERSAMPLING = 2
_HELD_OUT_PER_COLOUR = 2

# Hue in degrees, saturation and value from 0 to 1. The ranges leave gaps, so that no picture is between two colours.
_HSV: Final = {
    "red": ((352, 366), (0.80, 1.00), (0.75, 0.95)),
    "orange": ((22, 34), (0.85, 1.00), (0.92, 1.00)),
    "yellow": ((50, 60), (0.80, 1.00), (0.92, 1.00)),
    "green": ((105, 140), (0.60, 1.00), (0.45, 0.80)),
    "turquoise": ((170, 185), (0.60, 1.00), (0.70, 0.95)),
    "blue": ((215, 238), (0.75, 1.00), (0.60, 1.00)),
    "purple": ((268, 288), (0.55, 0.90), (0.50, 0.80)),
    "pink": ((325, 342), (0.30, 0.60), (0.95, 1.00)),
    "brown": ((18, 28), (0.60, 0.80), (0.35, 0.50)),
    "black": ((0, 360), (0.00, 0.20), (0.00, 0.14)),
}
_BACKGROUND_VALUES: Final = ((0.85, 1.00), (0.85, 1.00), (0.85, 1.00), (0.50, 0.75), (0.12, 0.35))  # mostly pale
_RADII: Final = {"small": 0.080, "large": 0.135}  # of the picture's side
_TOWARDS: Final = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1), "centre": (0, 0)}


@dataclass(frozen=True, slots=True)
class Scene:
    """What one picture shows: `count` equal shapes, close together, whose middle lies at `position`."""

    colour: str
    shape: str
    size: str
    count: int
    position: str


def held_out_pairs(seed: int) -> frozenset[tuple[str, str]]:
    """The (colour, shape) pairs, a fifth of all, that training with `seed` never sees: two of each colour and shape."""
    rng = np.random.default_rng([seed, 1])
    colours, shapes = rng.permutation(len(COLOURS)), rng.permutation(len(SHAPES))
    return frozenset(
        (COLOURS[colour], SHAPES[shapes[(row + shift) % len(SHAPES)]])
        for row, colour in enumerate(colours)
        for shift in range(_HELD_OUT_PER_COLOUR)
    )


def sample_scenes(count: int, rng: np.random.Generator, without: Iterable[tuple[str, str]] = ()) -> list[Scene]:
    """`count` scenes, every attribute uniform and independent, except that no (colour, shape) of `without` occurs."""
    absent = frozenset(without)
    pairs = [(colour, shape) for colour in COLOURS for shape in SHAPES if (colour, shape) not in absent]
    chosen = zip(
        rng.integers(len(pairs), size=count).tolist(),
        rng.integers(len(SIZES), size=count).tolist(),
        rng.integers(len(COUNTS), size=count).tolist(),
        rng.integers(len(POSITIONS), size=count).tolist(),
        strict=True,
    )
    return [
        Scene(pairs[pair][0], pairs[pair][1], SIZES[size], COUNTS[number], POSITIONS[place])
        for pair, size, number, place in chosen
    ]


def draw(scene: Scene, rng: np.random.Generator, size: int = 128) -> Image.Image:
    """Draws the scene as an RGB picture, `size` pixels wide and high; equal scenes and generators give equal pixels."""
    colour = _pick_colour(scene.colour, rng)
    picture = _background(colour, rng, size)
    mask = Image.new("L", (size * _SUPERSAMPLING, size * _SUPERSAMPLING), 0)
    pen = ImageDraw.Draw(mask)
    radius = _RADII[scene.size] * rng.uniform(0.93, 1.07)
    rotation = rng.uniform(-0.3, 0.3)
    for centre in _centres(scene, radius, rng):
        turn = rotation + rng.uniform(-0.08, 0.08)
        for outline, ink in _OUTLINES[scene.shape]:
            points = (centre + radius * outline @ _rotation(turn)) * mask.width
            pen.polygon([(float(x), float(y)) for x, y in points], fill=ink)
    red, green, blue = (round(255 * channel) for channel in colour)
    picture.paste((red, green, blue), mask=mask.reduce(_SUPERSAMPLING))
    return picture


def _pick_colour(name: str, rng: np.random.Generator) -> NDArray[np.float64]:
    hue, saturation, value = (rng.uniform(low, high) for low, high in _HSV[name])
    return np.array(colorsys.hsv_to_rgb(hue / 360 % 1.0, saturation, value))


def _background(colour: NDArray[np.float64], rng: np.random.Generator, size: int) -> Image.Image:
    """A soft, nearly grey gradient that `colour` stands out from: a slope and a little noise, enlarged smoothly."""
    while True:
        values = _BACKGROUND_VALUES[rng.integers(len(_BACKGROUND_VALUES))]
        tint = np.array(colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0, 0.18), rng.uniform(*values)))
        if float(np.linalg.norm(tint - colour)) > 0.40:
            break
    ramp = np.linspace(-0.5, 0.5, 8)
    across, down = rng.normal(0, 0.05, 2)
    gradient = across * ramp[None, :, None] + down * ramp[:, None, None]
    cells = np.clip(tint + gradient + rng.normal(0, 0.010, (8, 8, 1)), 0, 1)
    return Image.fromarray((255 * cells).astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC)


def _centres(scene: Scene, radius: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """(count, 2) middles of the shapes, in units of the picture's side: a tight group, pushed from the centre."""
    pitch = 2.2 * radius
    grid = np.array(_GROUPS[scene.count][rng.integers(len(_GROUPS[scene.count]))], dtype=np.float64)
    group = grid * pitch + rng.uniform(-0.06, 0.06, grid.shape) * radius
    room = 0.46 - float(np.abs(grid).max()) * pitch - radius
    towards = np.array(_TOWARDS[scene.position])
    middle = 0.5 + min(room, 0.29) * towards + rng.uniform(-0.035, 0.035, 2)
    return np.asarray(middle + group, dtype=np.float64)


def _rotation(angle: float) -> NDArray[np.float64]:
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _polar(radii: Iterable[float], start: float = -np.pi / 2) -> NDArray[np.float64]:
    lengths = np.array(list(radii))
    angles = start + np.linspace(0, 2 * np.pi, len(lengths), endpoint=False)
    return np.stack([lengths * np.cos(angles), lengths * np.sin(angles)], axis=1)


def _heart() -> NDArray[np.float64]:
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    x = 16 * np.sin(angle) ** 3
    y = 13 * np.cos(angle) - 5 * np.cos(2 * angle) - 2 * np.cos(3 * angle) - np.cos(4 * angle)
    return np.stack([x, -y - 2], axis=1) / 16


def _crescent() -> NDArray[np.float64]:
    """The part of the unit disc that a second disc, moved to the right, leaves uncovered."""
    outer = np.linspace(0.30 * np.pi, 1.70 * np.pi, 28)
    tip = np.array([np.cos(outer[0]), np.sin(outer[0])])
    middle = 0.62
    reach = np.hypot(tip[0] - middle, tip[1])
    bend = np.arctan2(tip[1], tip[0] - middle)
    inner = np.linspace(2 * np.pi - bend, bend, 28)
    back = np.stack([middle + reach * np.cos(inner), reach * np.sin(inner)], axis=1)
    return np.concatenate([np.stack([np.cos(outer), np.sin(outer)], axis=1), back])


def _points(*corners: tuple[float, float]) -> NDArray[np.float64]:
    return np.array(corners, dtype=np.float64)


_ARM = 0.34
_INK, _HOLE = 255, 0
# Outlines in a circle of radius 1 with y downwards, drawn in order: a hole is drawn after what it pierces.
_OUTLINES: Final = {
    "circle": ((_polar([1.0] * 40), _INK),),
    "square": ((_polar([1.15] * 4, start=-np.pi / 4), _INK),),
    "triangle": ((_polar([1.15] * 3), _INK),),
    "star": ((_polar([1.15, 0.48] * 5), _INK),),
    "heart": ((_heart(), _INK),),
    "cross": (
        (_points((-_ARM, -1), (_ARM, -1), (_ARM, 1), (-_ARM, 1)), _INK),
        (_points((-1, -_ARM), (1, -_ARM), (1, _ARM), (-1, _ARM)), _INK),
    ),
    "ring": ((_polar([1.0] * 40), _INK), (_polar([0.56] * 40), _HOLE)),
    "diamond": ((_points((0, -1.1), (0.66, 0), (0, 1.1), (-0.66, 0)), _INK),),
    "crescent": ((_crescent(), _INK),),
    "arrow": (
        (_points((-0.95, -0.3), (0.1, -0.3), (0.1, -0.85), (0.95, 0), (0.1, 0.85), (0.1, 0.3), (-0.95, 0.3)), _INK),
    ),
}
# Where the shapes of a group stand, in steps around its middle.
_GROUPS: Final = {
    1: (((0.0, 0.0),),),
    2: (((-0.5, 0.0), (0.5, 0.0)), ((0.0, -0.5), (0.0, 0.5))),
    3: (((-0.5, 0.5), (0.5, 0.5), (0.0, -0.5)), ((-0.5, -0.5), (0.5, -0.5), (0.0, 0.5))),
    4: (((-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5)),),
}

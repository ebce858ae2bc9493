"""The parts of a scene: plain records in coordinates from 0 to 1, independent of the picture's size.

`x` goes right and `y` down; both are the centre of a part. A size is a fraction of the picture's side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "INK_COLOURS",
    "SHAPES",
    "SURFACES",
    "Chart",
    "ChartPart",
    "Scene",
    "SceneObject",
    "SceneShape",
    "SceneText",
    "Split",
    "Surface",
    "TextSize",
]

Split = Literal["train", "held_out"]
TextSize = Literal["large", "medium", "small"]
"""Sizes of printed text; `small` is illegible at half the resolution."""

ShapeName = Literal["circle", "square", "triangle", "star", "heart", "cross"]
SHAPES: tuple[ShapeName, ...] = ("circle", "square", "triangle", "star", "heart", "cross")
"""Shapes of one colour."""

INK_COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 44, 48),
    "blue": (40, 92, 218),
    "green": (34, 150, 66),
    "yellow": (248, 206, 30),
    "orange": (246, 138, 24),
    "purple": (136, 58, 190),
    "pink": (244, 120, 176),
    "brown": (130, 82, 44),
    "black": (26, 26, 30),
    "white": (252, 252, 252),
    "grey": (132, 136, 142),
}
"""Colours of shapes, letters and charts, in words and in RGB."""


@dataclass(frozen=True)
class SceneObject:
    """A thing in a scene.

    Args:
        concept: Name of the concept.
        x: Centre, from the left.
        y: Centre, from the top.
        size: Its longer side.
        is_mirrored: Whether left and right are swapped.
    """

    concept: str
    x: float
    y: float
    size: float
    is_mirrored: bool = False


@dataclass(frozen=True)
class SceneText:
    """A printed word or number.

    Args:
        text: Its text; printed in capitals.
        x: Centre, from the left.
        y: Centre, from the top.
        height: Height of a capital letter.
        size: Class of that height.
        colour: Colour of the letters.
        plate: Colour of the plate behind them.
    """

    text: str
    x: float
    y: float
    height: float
    size: TextSize
    colour: str
    plate: str


@dataclass(frozen=True)
class SceneShape:
    """A shape in one colour."""

    shape: ShapeName
    colour: str
    x: float
    y: float
    size: float


@dataclass(frozen=True)
class ChartPart:
    """A bar or a piece of pie: its label, its value from 1 to 9, and its colour."""

    label: str
    value: int
    colour: str


@dataclass(frozen=True)
class Chart:
    """A chart that fills the picture."""

    kind: Literal["bar", "pie"]
    parts: tuple[ChartPart, ...]


SurfaceKind = Literal["gradient", "noise", "blur", "stripes", "patches"]
SURFACES: tuple[SurfaceKind, ...] = ("gradient", "noise", "blur", "stripes", "patches")
"""Patterns that show nothing."""


@dataclass(frozen=True)
class Surface:
    """A pattern of two colours, which fills the picture and shows nothing."""

    pattern: SurfaceKind
    colours: tuple[str, str]


@dataclass(frozen=True)
class Scene:
    """A scene.

    Args:
        seed: Seed of the background's details.
        background: Name of the background.
        objects: Things, the farthest first.
        texts: Printed words and numbers.
        shapes: Shapes in one colour.
        chart: A chart, which fills the scene.
        surface: A pattern that shows nothing, which fills the scene.
        split: "train" or "held_out".
        layout: Name of its layout, such as "one", "two", "count" or "text".
    """

    seed: int
    background: str
    objects: tuple[SceneObject, ...] = ()
    texts: tuple[SceneText, ...] = ()
    shapes: tuple[SceneShape, ...] = ()
    chart: Chart | None = None
    surface: Surface | None = None
    split: Split = "train"
    layout: str = "one"

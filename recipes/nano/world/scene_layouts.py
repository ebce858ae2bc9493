"""The layouts of scenes: one or two large things, a crowd, a count, printed words, shapes, a chart.

Each layout is a function of a random generator, its own name and the split. It returns a scene that may not fit the
split.
"""

from __future__ import annotations

import functools
import importlib.resources
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar

import numpy as np

from mgem_agent.recipes.nano.world.backgrounds import BACKGROUNDS, SCENERY, background_named
from mgem_agent.recipes.nano.world.concepts import load_concepts
from mgem_agent.recipes.nano.world.holdout_split import is_held_out_pair, text_pair
from mgem_agent.recipes.nano.world.nouns import is_countable
from mgem_agent.recipes.nano.world.scene_parts import (
    INK_COLOURS,
    SHAPES,
    SURFACES,
    Chart,
    ChartPart,
    Scene,
    SceneObject,
    SceneShape,
    SceneText,
    Split,
    Surface,
    TextSize,
)

__all__ = [
    "ANY_LAYOUTS",
    "ASKED_LAYOUTS",
    "CHART_LABELS",
    "CHART_LAYOUTS",
    "DRAWABLE_LAYOUTS",
    "LAYOUTS",
    "PAGE_LAYOUTS",
    "POSED_LAYOUTS",
    "POSES",
    "SEVERAL_LAYOUTS",
    "UNCLEAR_LAYOUTS",
    "VARIED_LAYOUTS",
    "Pose",
    "backdrop_seed",
    "load_words",
    "posed",
]

MAX_COUNT = 6
"""Maximum number of things of one kind in a scene."""

CHART_LABELS = (
    "cats", "dogs", "birds", "fish", "apples", "pears", "plums", "bread", "cars", "bikes", "trains", "ships",
    "books", "games", "music", "sport", "rain", "sun", "snow", "wind", "tea", "milk", "coffee", "water",
)  # fmt: skip
"""Labels of bars and pie pieces."""

_CHART_COLOURS = ("red", "blue", "green", "yellow", "orange", "purple", "pink", "grey")
_TEXT_HEIGHTS: dict[TextSize, tuple[float, float]] = {
    "large": (0.12, 0.18),  # 31 to 46 px of 256
    "medium": (0.055, 0.085),  # 14 to 22 px of 256
    "small": (0.0275, 0.036),  # 7 to 9 px of 256: 4 px of 128
}
_INKS = (
    ("black", "white"), ("blue", "white"), ("red", "white"), ("green", "white"), ("purple", "white"),
    ("white", "black"), ("white", "blue"), ("white", "red"), ("white", "green"), ("black", "yellow"),
    ("yellow", "black"), ("black", "orange"),
)  # fmt: skip
"""Readable combinations of colours of letters and plate."""

_PLAIN_NAMES = tuple(background.name for background in BACKGROUNDS if background.colour)
_SCENERY_NAMES = tuple(background.name for background in SCENERY)
_MAX_WORDS = 14  # of a page
_GRID = 64  # sizes are multiples of 1/64, so that few scaled pictures are needed

Pose = Literal["alone", "left", "right"]
POSES: dict[Pose, tuple[float, float, float]] = {
    "alone": (0.5, 0.56, 42 / _GRID),
    "left": (0.26, 0.62, 28 / _GRID),
    "right": (0.74, 0.62, 28 / _GRID),
}
"""Centre and size of things in posed scenes."""

Item = TypeVar("Item")
Layout = Callable[[np.random.Generator, str, Split], Scene]


@functools.cache
def load_words() -> tuple[str, ...]:
    """Return all printed words and numbers: about 220 short words, and 0 to 99."""
    file = importlib.resources.files("mgem_agent.recipes.nano.world") / "words.txt"
    return (*file.read_text(encoding="utf-8").split(), *(str(number) for number in range(100)))


@functools.cache
def _concept_names() -> tuple[str, ...]:
    return tuple(concept.name for concept in load_concepts())


@functools.cache
def _countable_names() -> tuple[str, ...]:
    return tuple(name for name in _concept_names() if is_countable(name))


def _pick(rng: np.random.Generator, items: Sequence[Item]) -> Item:
    return items[int(rng.integers(len(items)))]


def _pick_several(rng: np.random.Generator, items: Sequence[Item], number: int) -> list[Item]:
    return [items[int(index)] for index in rng.choice(len(items), size=number, replace=False)]


def _size(rng: np.random.Generator, low: float, high: float) -> float:
    return int(rng.integers(round(low * _GRID), round(high * _GRID) + 1)) / _GRID


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return round(float(rng.uniform(low, high)), 4)


def _background(rng: np.random.Generator, share_plain: float = 0.25) -> str:
    return _pick(rng, _PLAIN_NAMES if rng.random() < share_plain else _SCENERY_NAMES)


def _scene(rng: np.random.Generator, layout: str, split: Split, background: str, **parts: Any) -> Scene:
    return Scene(int(rng.integers(2**31)), background, split=split, layout=layout, **parts)


def _object(rng: np.random.Generator, concept: str, x: float, y: float, size: float) -> SceneObject:
    return SceneObject(concept, round(x, 4), round(y, 4), size, bool(rng.random() < 0.5))


def _one(rng: np.random.Generator, layout: str, split: Split) -> Scene:
    background = _background(rng)
    size = _size(rng, 0.45, 0.75)
    free = (1 - size) / 2 - 0.02
    if background_named(background).has_ground:
        y = 1 - size / 2 - _between(rng, 0.05, 0.1)
    else:
        y = 0.5 + _between(rng, -0.4, 0.4) * free
    x = 0.5 + _between(rng, -0.7, 0.7) * free
    thing = _object(rng, _pick(rng, _concept_names()), x, y, size)
    return _scene(rng, layout, split, background, objects=(thing,))


def _two(rng: np.random.Generator, layout: str, split: Split) -> Scene:
    background = _background(rng)
    first, second = _pick_several(rng, _concept_names(), 2)
    if layout == "two_beside":
        sizes = [_size(rng, 0.4, 0.48) for _ in range(2)]
        middle = _between(rng, 0.8, 0.9) if background_named(background).has_ground else _between(rng, 0.6, 0.85)
        ys = [middle - size / 2 + _between(rng, -0.02, 0.04) for size in sizes]
        xs = [0.26 + _between(rng, -0.015, 0.015), 0.74 + _between(rng, -0.015, 0.015)]
    else:
        sizes = [_size(rng, 0.38, 0.45) for _ in range(2)]
        ys = [0.255 + _between(rng, -0.02, 0.02), 0.73 + _between(rng, -0.02, 0.015)]
        shared = 0.5 + _between(rng, -0.15, 0.15)
        xs = [shared + _between(rng, -0.03, 0.03) for _ in range(2)]
    things = tuple(
        _object(rng, concept, x, y, size) for concept, x, y, size in zip((first, second), xs, ys, sizes, strict=True)
    )
    return _scene(rng, layout, split, background, objects=things)


def posed(scene: Scene) -> Scene:
    """Return a scene whose things have fixed sizes and positions, on a background with fixed details.

    The caption determines such a scene completely.
    """
    poses: dict[str, tuple[Pose, ...]] = {"one": ("alone",), "two_beside": ("left", "right")}
    things = zip(scene.objects, poses[scene.layout], strict=True)
    objects = tuple(SceneObject(thing.concept, *POSES[pose]) for thing, pose in things)
    return replace(scene, objects=objects, seed=backdrop_seed(scene.background))


def backdrop_seed(background: str) -> int:
    """Return the seed of a background's fixed details."""
    return zlib.crc32(background.encode())


def _cells(rng: np.random.Generator, number: int, top: float, bottom: float) -> list[tuple[float, float, float]]:
    """Return centres and maximum sizes of positions that do not overlap, in random order."""
    columns, rows = (2, 1) if number <= 2 else (2, 2) if number <= 4 else (3, 2) if number <= 6 else (3, 3)
    width, height = 1 / columns, (bottom - top) / rows
    room = min(width, height)
    places = [
        ((column + 0.5) * width, top + (row + 0.5) * height, room) for column in range(columns) for row in range(rows)
    ]
    return [places[int(index)] for index in rng.permutation(len(places))[:number]]


def _placed(
    rng: np.random.Generator, concepts: Sequence[str], top: float = 0.06, bottom: float = 0.96
) -> tuple[SceneObject, ...]:
    things = []
    for concept, (x, y, room) in zip(concepts, _cells(rng, len(concepts), top, bottom), strict=True):
        size = min(_size(rng, 0.72 * room, 0.88 * room), 0.42)
        free = (room - size) / 2
        things.append(_object(rng, concept, x + _between(rng, -free, free), y + _between(rng, -free, free), size))
    return tuple(sorted(things, key=lambda thing: thing.y))


def _crowd(rng: np.random.Generator, layout: str, split: Split) -> Scene:
    number = int(rng.integers(3, 5))
    return _scene(
        rng, layout, split, _background(rng), objects=_placed(rng, _pick_several(rng, _concept_names(), number))
    )


def _count(rng: np.random.Generator, layout: str, split: Split) -> Scene:
    number = int(rng.integers(2, MAX_COUNT + 1))
    several, other = _pick_several(rng, _countable_names(), 2)
    concepts = [several] * number
    if number < MAX_COUNT and rng.random() < 0.35:
        concepts.append(other)
    return _scene(rng, layout, split, _background(rng, 0.4), objects=_placed(rng, concepts))


def _text(rng: np.random.Generator, size: TextSize, x: float, y: float) -> SceneText:
    colour, plate = _pick(rng, _INKS)
    low, high = _TEXT_HEIGHTS[size]
    return SceneText(_pick(rng, load_words()), x, y, _between(rng, low, high), size, colour, plate)


def _text_place(rng: np.random.Generator, size: TextSize, low: float, high: float) -> tuple[float, float]:
    side = {"large": 0.5, "medium": 0.25, "small": 0.16}[size]
    return _between(rng, side, max(side, 1 - side)), _between(rng, low, high)


def _text_scene(rng: np.random.Generator, layout: str, split: Split) -> Scene:
    sizes: dict[str, TextSize] = {"text_large": "large", "text_medium": "medium", "text_small": "small"}
    size = sizes[layout]
    background = _background(rng, 0.4)
    objects: tuple[SceneObject, ...] = ()
    if rng.random() < 0.65:
        thing_size = _size(rng, 0.42, 0.55)
        is_below = rng.random() < 0.5
        y = 0.3 if is_below else 0.7
        objects = (_object(rng, _pick(rng, _concept_names()), _between(rng, 0.35, 0.65), y, thing_size),)
        place = _text_place(rng, size, 0.74, 0.86) if is_below else _text_place(rng, size, 0.13, 0.26)
    else:
        place = _text_place(rng, size, 0.3, 0.7)
    texts = [_text(rng, size, *place)]
    if not objects and rng.random() < 0.3:  # a second one of another size, far from the first
        other: TextSize = "small" if size != "small" else "large"
        texts.append(_text(rng, other, *_text_place(rng, other, 0.12, 0.16)))
    return _scene(rng, layout, split, background, objects=objects, texts=tuple(texts))


def _page(rng: np.random.Generator, layout: str, split: Split) -> Scene:
    """Return rows of printed words; each word and its colours fit the split."""
    texts: list[SceneText] = []
    top = 0.04
    sizes: tuple[TextSize, ...] = ("small", "small", "small", "medium", "medium", "large")
    while top < 0.9 and len(texts) < _MAX_WORDS:
        size = _pick(rng, sizes)
        left, tallest = _between(rng, 0.02, 0.2), 0.0
        while left < 0.95 and len(texts) < _MAX_WORDS:
            text = _text(rng, size, 0.0, 0.0)
            while is_held_out_pair(*text_pair(text)) != (split == "held_out"):
                text = _text(rng, size, 0.0, 0.0)
            width = text.height * (0.75 * len(text.text) + 1.2)  # approximate width of the plate
            if left + width > 0.98 or top + 1.9 * text.height > 0.98:
                break
            texts.append(replace(text, x=round(left + width / 2, 4), y=round(top + 0.95 * text.height, 4)))
            tallest = max(tallest, text.height)
            left += width + _between(rng, 0.02, 0.15)
        top += 1.9 * tallest + _between(rng, 0.01, 0.06)
    return _scene(rng, layout, split, _background(rng, 0.4), texts=tuple(texts))


def _shapes(rng: np.random.Generator, layout: str, split: Split) -> Scene:
    background = _pick(rng, _PLAIN_NAMES)
    paper = background_named(background).colour
    colours = [colour for colour in INK_COLOURS if colour != paper]
    number = int(rng.integers(1, 5))
    shapes = _pick_several(rng, SHAPES, number)
    if number == 1:
        size = _size(rng, 0.4, 0.7)
        places = [(0.5 + _between(rng, -0.1, 0.1), 0.5 + _between(rng, -0.1, 0.1), size)]
    else:
        places = [
            (x + _between(rng, -0.02, 0.02), y + _between(rng, -0.02, 0.02), _size(rng, 0.62 * room, 0.8 * room))
            for x, y, room in _cells(rng, number, 0.06, 0.94)
        ]
    drawn = zip(shapes, _pick_several(rng, colours, number), places, strict=True)
    return _scene(
        rng,
        layout,
        split,
        background,
        shapes=tuple(SceneShape(shape, colour, *place) for shape, colour, place in drawn),
    )


def _chart(rng: np.random.Generator, layout: str, split: Split) -> Scene:
    number = int(rng.integers(2, 5))
    labels = _pick_several(rng, CHART_LABELS, number)
    values = _pick_several(rng, range(1, 10), number)  # all different, so that the largest and the smallest are unique
    colours = _pick_several(rng, _CHART_COLOURS, number)
    parts = tuple(ChartPart(*part) for part in zip(labels, values, colours, strict=True))
    chart = Chart("bar" if layout == "chart_bar" else "pie", parts)
    return _scene(rng, layout, split, "plain white", chart=chart)


def _surface(rng: np.random.Generator, layout: str, split: Split) -> Scene:
    first, second = _pick_several(rng, tuple(INK_COLOURS), 2)
    return _scene(rng, layout, split, "plain grey", surface=Surface(_pick(rng, SURFACES), (first, second)))


def _few(rng: np.random.Generator, layout: str, split: Split) -> Scene:
    """Return two or three of one thing, side by side."""
    background = _background(rng)
    number = int(rng.integers(2, 4))
    size = _size(rng, 0.38, 0.46) if number == 2 else _size(rng, 0.28, 0.33)
    concept = _pick(rng, _countable_names())
    y = _between(rng, 0.8, 0.9) - size / 2
    xs = [(2 * column + 1) / (2 * number) + _between(rng, -0.015, 0.015) for column in range(number)]
    return _scene(rng, layout, split, background, objects=tuple(_object(rng, concept, x, y, size) for x in xs))


LAYOUTS: dict[str, Layout] = {
    "one": _one,
    "two_beside": _two,
    "two_above": _two,
    "crowd": _crowd,
    "count": _count,
    "few": _few,
    "text_large": _text_scene,
    "text_medium": _text_scene,
    "text_small": _text_scene,
    "page": _page,
    "shapes": _shapes,
    "chart_bar": _chart,
    "chart_pie": _chart,
    "unclear": _surface,
}
"""The layouts by name."""

DRAWABLE_LAYOUTS = {"one": 0.6, "two_beside": 0.28, "two_above": 0.12}
"""Frequencies of layouts with one or two large things."""

VARIED_LAYOUTS = {"one": 0.6, "two_beside": 0.22, "two_above": 0.08, "few": 0.1}
"""Frequencies of layouts for a generator that draws things in several sizes and places."""

POSED_LAYOUTS = {"one": 0.75, "two_beside": 0.25}
"""Frequencies of posed layouts."""

SEVERAL_LAYOUTS = {"crowd": 0.8, "two_beside": 0.15, "two_above": 0.05}
"""Layouts that teach naming: a few different things."""

PAGE_LAYOUTS = {"page": 1.0}
"""Layouts that teach reading: many words at once."""

ANY_LAYOUTS = {
    "one": 0.22,
    "two_beside": 0.1,
    "two_above": 0.04,
    "crowd": 0.1,
    "count": 0.13,
    "text_large": 0.06,
    "text_medium": 0.07,
    "text_small": 0.14,
    "shapes": 0.08,
    "chart_bar": 0.04,
    "chart_pie": 0.02,
}
"""Frequencies of all layouts."""

ASKED_LAYOUTS = {
    "one": 0.06,
    "two_beside": 0.1,
    "two_above": 0.06,
    "crowd": 0.17,
    "count": 0.23,
    "text_large": 0.02,
    "text_medium": 0.02,
    "text_small": 0.05,
    "shapes": 0.14,
    "chart_bar": 0.11,
    "chart_pie": 0.04,
}
"""Frequencies of all layouts, with more of those that ask for places, numbers, colours and charts."""

CHART_LAYOUTS = {"chart_bar": 0.7, "chart_pie": 0.3}
"""Frequencies of the two kinds of charts."""

UNCLEAR_LAYOUTS = {"unclear": 1.0}
"""Patterns that show nothing."""

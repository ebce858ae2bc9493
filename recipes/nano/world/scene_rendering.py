"""Drawing of scenes: background, soft shadows, pictures of things, shapes, printed words, charts.

The picture of a thing is scaled once for each size and cached; scenes use few sizes.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from mgem_agent.errors import InputError
from mgem_agent.recipes.nano.world.backdrops import paint_backdrop
from mgem_agent.recipes.nano.world.backgrounds import background_named
from mgem_agent.recipes.nano.world.chart_drawing import draw_chart
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.nano.world.fonts import font_for_capitals
from mgem_agent.recipes.nano.world.scene_parts import INK_COLOURS, Scene, SceneObject, SceneShape, SceneText
from mgem_agent.recipes.nano.world.sprites import Sprites
from mgem_agent.recipes.nano.world.surfaces import paint_surface

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["draw_thing", "letter_boxes", "render_scene", "scene_pixels"]

_MIN_PX = 16
_SCALE = 4  # shapes are drawn larger and scaled down, which smooths their edges
_SHADOW = 0.34  # darkness of the centre of a shadow
_STANDS_FROM = 0.66  # things whose lower edge is above this float and cast no shadow


def render_scene(scene: Scene, assets: EmojiAssets, size_px: int = 256) -> Image.Image:
    """Draw a scene.

    Args:
        scene: The scene.
        assets: The pictures of its things.
        size_px: Width and height of the picture, from 16.

    Returns:
        The picture, RGB. The same arguments give the same pixels.

    Raises:
        InputError: If the size is too small.
    """
    if size_px < _MIN_PX:
        raise InputError(f"A scene cannot be drawn at {size_px} px. Give {_MIN_PX} or more.")
    if scene.surface is not None:
        return paint_surface(scene.surface, scene.seed, size_px)
    image = paint_backdrop(scene.background, scene.seed, size_px)
    has_ground = background_named(scene.background).has_ground
    for thing in scene.objects:
        stands = has_ground and thing.y + thing.size / 2 > _STANDS_FROM
        draw_thing(image, thing, assets, stands=stands, has_shadow=stands)
    for shape in scene.shapes:
        _draw_shape(image, shape)
    if scene.chart is not None:
        draw_chart(image, scene.chart)
    for text in scene.texts:
        _draw_text(image, text)
    return image


def scene_pixels(scenes: Sequence[Scene], assets: EmojiAssets, size_px: int) -> Tensor:
    """Draw scenes as a batch of pixels.

    Args:
        scenes: B scenes.
        assets: The pictures of their things.
        size_px: Width and height H of the pictures.

    Returns:
        (B, 3, H, H) from -1 to 1, channels last.
    """
    import torch  # `mgem data scenes` draws without it

    pictures = np.stack([np.asarray(render_scene(scene, assets, size_px=size_px)) for scene in scenes])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1


def draw_thing(image: Image.Image, thing: SceneObject, assets: EmojiAssets, *, stands: bool, has_shadow: bool) -> None:
    """Draw one thing onto a picture.

    Args:
        image: The picture, RGB and square; it is changed.
        thing: The thing.
        assets: The pictures of things.
        stands: Whether a thing that is wider than high stands on the ground; otherwise it is centred vertically.
        has_shadow: Whether it casts a shadow on the ground.
    """
    side = image.width
    sprite = Sprites.of(assets).scaled(thing.concept, max(2, round(thing.size * side)), thing.is_mirrored)
    left = round(thing.x * side - sprite.width / 2)
    bottom = round((thing.y + thing.size / 2) * side)  # wide things stand on the same ground
    if has_shadow:
        width, height = round(sprite.width * 0.95), max(2, round(thing.size * side * 0.16))
        shadow = _shadow().resize((max(2, width), height))
        image.paste((12, 18, 30), (left + (sprite.width - width) // 2, bottom - height // 2 - height // 8), shadow)
    top = bottom - sprite.height if stands else round(thing.y * side - sprite.height / 2)
    image.paste(sprite, (left, top), sprite)


@functools.cache
def _shadow() -> Image.Image:
    """Return a soft disc as a mask."""
    axis = np.linspace(-1, 1, 64, dtype=np.float32)
    distance = np.sqrt(axis[:, None] ** 2 + axis[None, :] ** 2)
    disc = np.clip(1 - distance, 0, 1) ** 0.8 * _SHADOW * 1.6
    return Image.fromarray((np.minimum(disc, _SHADOW) * 255).astype(np.uint8))


def _draw_shape(image: Image.Image, shape: SceneShape) -> None:
    side = max(4, round(shape.size * image.width))
    mask = Image.new("L", (side * _SCALE, side * _SCALE))
    pen = ImageDraw.Draw(mask)
    full = side * _SCALE - 1
    if shape.shape == "circle":
        pen.ellipse((0, 0, full, full), fill=255)
    else:
        pen.polygon([(x * full, y * full) for x, y in _outline(shape.shape)], fill=255)
    position = (round(shape.x * image.width - side / 2), round(shape.y * image.width - side / 2))
    image.paste(INK_COLOURS[shape.colour], position, mask.reduce(_SCALE))


@functools.cache
def _outline(shape: str) -> tuple[tuple[float, float], ...]:
    """Return the corners of a shape in a square of side 1."""
    if shape == "square":
        return ((0.06, 0.06), (0.94, 0.06), (0.94, 0.94), (0.06, 0.94))
    if shape == "triangle":
        return ((0.5, 0.05), (1.0, 0.95), (0.0, 0.95))
    if shape == "cross":
        a, b = 0.34, 0.66
        return (
            (a, 0), (b, 0), (b, a), (1, a), (1, b), (b, b), (b, 1), (a, 1), (a, b), (0, b), (0, a), (a, a),
        )  # fmt: skip
    if shape == "star":
        corners = []
        for index in range(10):
            radius, angle = (0.52 if index % 2 == 0 else 0.21), math.pi * (index / 5 - 0.5)
            corners.append((0.5 + radius * math.cos(angle), 0.53 + radius * math.sin(angle)))
        return tuple(corners)
    curve = []  # a heart
    for index in range(60):
        angle = 2 * math.pi * index / 60
        x = 16 * math.sin(angle) ** 3
        y = 13 * math.cos(angle) - 5 * math.cos(2 * angle) - 2 * math.cos(3 * angle) - math.cos(4 * angle)
        curve.append((0.5 + x / 33, 0.46 - y / 33))
    return tuple(curve)


def _draw_text(image: Image.Image, text: SceneText) -> None:
    side = image.width
    font, words = font_for_capitals(text.height * side), text.text.upper()
    pen = ImageDraw.Draw(image)
    left, top, right, bottom = font.getbbox(words)
    margin = _plate_margin(text, side)
    x, y = _middle_of(text, side), text.y * side
    plate = (x - (right - left) / 2 - margin, y - (bottom - top) / 2 - margin * 0.8,
             x + (right - left) / 2 + margin, y + (bottom - top) / 2 + margin * 0.8)  # fmt: skip
    pen.rounded_rectangle(plate, radius=margin * 0.5, fill=INK_COLOURS[text.plate])
    pen.text((x - (left + right) / 2, y - (top + bottom) / 2), words, font=font, fill=INK_COLOURS[text.colour])


def _plate_margin(text: SceneText, side: int) -> float:
    return max(1.5, 0.5 * text.height * side)


def _middle_of(text: SceneText, side: int) -> float:
    """Return the centre of a word in px, moved so that its plate is inside the picture."""
    left, _, right, _ = font_for_capitals(text.height * side).getbbox(text.text.upper())
    room = (right - left) / 2 + _plate_margin(text, side) + 1
    return min(max(text.x * side, room), side - room)


def letter_boxes(text: SceneText, size_px: int = 256) -> list[tuple[float, float, float, float]]:
    """Return the box of each letter of a word: left, top, right and bottom, from 0 to 1.

    Args:
        text: The word.
        size_px: Width and height of the picture.
    """
    font, words = font_for_capitals(text.height * size_px), text.text.upper()
    left, top, right, bottom = font.getbbox(words)
    begin = _middle_of(text, size_px) - (left + right) / 2
    edges = [(begin + font.getlength(words[:number])) / size_px for number in range(len(words) + 1)]
    half = (bottom - top) / 2 / size_px
    return [(low, text.y - half, high, text.y + half) for low, high in itertools.pairwise(edges)]

"""Whether a generator's seed gives another picture of the same caption, and whether things are where a caption says.

The variety of pictures is the mean distance between two pictures of one caption, by the mean of the visual tokens of
the model that sees. It is compared with that of real scenes, which have the same things and background, in other places
and sizes. A picture of two things follows its caption if it is nearer, pixel by pixel, to the scene that the caption
describes than to the one with both things exchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch.nn.functional as F
from PIL import Image
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from mgem_agent.recipes.eval.proportion import Proportion
from mgem_agent.recipes.nano.drawing.aligned_scenes import aligned_scene, draw_aligned
from mgem_agent.recipes.nano.world.backgrounds import background_named
from mgem_agent.recipes.nano.world.concepts import load_concepts
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.nano.world.nouns import with_article
from mgem_agent.recipes.nano.world.scene import Scene, SceneObject
from mgem_agent.recipes.nano.world.scene_rendering import render_scene
from mgem_agent.tools.drawing import draw
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import ImageResult

__all__ = ["PLACED_PAIRS", "PictureVariety", "measure_variety", "real_scene"]

_AT_ONCE = 8
_COMPARED_PX = 32
_REAL_SEED = 977
"""Series of scenes in which real ones are looked for."""

_LOOKS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("a fox in the snow", ("fox",), "snow"),
    ("a red apple on a beach", ("red apple",), "beach"),
    ("an owl at night", ("owl",), "night sky"),
    ("a sailing boat on the sea", ("sailing boat",), "sea"),
    ("a cat and a dog in a meadow", ("cat", "dog"), "meadow"),
    ("a rabbit and a fir tree in the mountains", ("rabbit", "fir tree"), "mountains"),
    ("three mushrooms in a forest", ("mushroom",) * 3, "forest"),
    ("a rocket in space", ("rocket",), "space"),
)
"""Captions with the things and the background of their scenes."""

_GROUNDS = ("meadow", "snow", "plain blue", "beach", "desert", "forest")
PLACED_PAIRS: tuple[tuple[str, tuple[tuple[float, float, float], ...]], ...] = (
    ("to the left of", ((0.26, 0.63, 0.44), (0.74, 0.63, 0.44))),
    ("to the right of", ((0.74, 0.63, 0.44), (0.26, 0.63, 0.44))),
    ("above", ((0.5, 0.255, 0.42), (0.5, 0.73, 0.42))),
)
"""Relations, and the centre and size of both things."""


class PictureEncoder(Protocol):
    """The interface of `SeeingModel`."""

    def features(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Return (n, c) a vector for each picture."""
        ...


class PictureVariety(BaseModel):
    """Results of a generator whose seed has an effect.

    Attributes:
        num_captions: Number of captions.
        num_seeds: Pictures of each.
        drawn: Mean cosine distance between two pictures of a caption.
        real: The same of real scenes.
        placed: Pictures of two things whose positions follow the caption.
    """

    model_config = ConfigDict(frozen=True)

    num_captions: int
    num_seeds: int
    drawn: float
    real: float
    placed: Proportion

    @property
    def share(self) -> float:
        """The variety, as a share of that of real scenes."""
        return self.drawn / self.real


def measure_variety(
    generator: ImageGenerator,
    encoder: PictureEncoder,
    assets: EmojiAssets,
    *,
    num_seeds: int = 8,
    num_placed: int = 48,
    seed: int = 0,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> PictureVariety:
    """Draw captions with several seeds, and captions with positions, and compare them with real scenes.

    Args:
        generator: The generator.
        encoder: Encodes pictures.
        assets: The pictures of things.
        num_seeds: Pictures of each caption; at least 2.
        num_placed: Captions with positions.
        seed: Seed of the first picture.
        report: Called with the number done and the total.

    Raises:
        MgemError: If a picture cannot be drawn.
    """
    total = num_seeds * len(_LOOKS) + num_placed
    spreads: list[tuple[float, float]] = []
    for number, (caption, things, ground) in enumerate(_LOOKS):
        report(number * num_seeds, total)
        drawn = _draw(generator, [ImageRequest(prompt=caption, seed=seed + each) for each in range(num_seeds)])
        real = [real_scene(things, ground, each, assets, drawn[0].width) for each in range(num_seeds)]
        spreads.append((_spread(encoder.features(drawn)), _spread(encoder.features(real))))
    placed: list[bool] = []
    while len(placed) < num_placed:
        report(num_seeds * len(_LOOKS) + len(placed), total)
        placed += _follow(generator, assets, seed, range(len(placed), min(len(placed) + _AT_ONCE, num_placed)))
    report(total, total)
    drawn_spread, real_spread = (float(np.mean(column)) for column in zip(*spreads, strict=True))
    return PictureVariety(
        num_captions=len(_LOOKS),
        num_seeds=num_seeds,
        drawn=drawn_spread,
        real=real_spread,
        placed=Proportion.of(placed),
    )


def _draw(generator: ImageGenerator, requests: Sequence[ImageRequest]) -> list[Image.Image]:
    found: dict[int, Image.Image] = {}
    for event in draw(generator, requests):
        if isinstance(event, ImageResult):
            if event.error is not None:
                raise event.error
            if event.image is not None:
                found[event.index] = event.image.convert("RGB")
    return [found[index] for index in range(len(requests))]


def real_scene(things: tuple[str, ...], ground: str, number: int, assets: EmojiAssets, size_px: int) -> Image.Image:
    """Draw a scene with these things, with the sizes and positions of another scene of as many things.

    Args:
        things: The concept of each thing.
        ground: The background.
        number: Which of these scenes; each has other sizes and positions.
        assets: The pictures of things.
        size_px: Side of the picture.
    """
    has_ground = background_named(ground).has_ground
    index = number * 1_000
    while True:
        scene = aligned_scene(_REAL_SEED, index)[0]
        num_kinds = len({thing.concept for thing in scene.objects})
        is_like = len(scene.objects) == len(things) and num_kinds == len(set(things))
        if is_like and background_named(scene.background).has_ground == has_ground:
            objects = tuple(replace(old, concept=name) for old, name in zip(scene.objects, things, strict=True))
            return draw_aligned(replace(scene, background=ground, objects=objects), assets, size_px)
        index += 1


def _spread(features: Tensor) -> float:
    """Return the mean cosine distance between two of n rows (n, c)."""
    unit = F.normalize(features.float(), dim=-1)
    num = len(unit)
    return float((1 - unit @ unit.T).sum() / (num * (num - 1)))


def _follow(generator: ImageGenerator, assets: EmojiAssets, seed: int, numbers: Sequence[int]) -> list[bool]:
    """Draw the captions with positions of these numbers; return which pictures follow theirs."""
    names = [concept.name for concept in load_concepts()]
    cases = []
    for number in numbers:
        chance = np.random.default_rng((seed, number))
        first, second = (names[int(which)] for which in chance.choice(len(names), 2, replace=False))
        cases.append((first, second, _GROUNDS[number % len(_GROUNDS)], PLACED_PAIRS[number % len(PLACED_PAIRS)]))
    requests = [
        ImageRequest(
            prompt=f"{with_article(first)} {relation} {with_article(second)} {background_named(ground).phrases[0]}",
            seed=seed + number,
        )
        for number, (first, second, ground, (relation, _)) in zip(numbers, cases, strict=True)
    ]
    pictures = _draw(generator, requests)
    return [
        _distance(picture, (first, second), ground, places, assets)
        < _distance(picture, (second, first), ground, places, assets)
        for picture, (first, second, ground, (_, places)) in zip(pictures, cases, strict=True)
    ]


def _distance(
    picture: Image.Image,
    things: tuple[str, str],
    ground: str,
    places: tuple[tuple[float, float, float], ...],
    assets: EmojiAssets,
) -> float:
    """Return the mean squared difference of a picture and a scene with two things at these places."""
    objects = tuple(SceneObject(name, *place) for name, place in zip(things, places, strict=True))
    scene = render_scene(Scene(1, ground, objects=objects), assets, picture.width)
    small = [np.asarray(each.resize((_COMPARED_PX, _COMPARED_PX)), np.float32) for each in (picture, scene)]
    return float(((small[0] - small[1]) ** 2).mean())

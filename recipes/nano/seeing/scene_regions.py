"""Regions of a scene: box and name of each thing, word and shape.

A caption says what is in a picture but hardly where. Matching regions with phrases trains an encoder's patches with far
fewer pictures (RegionCLIP, Zhong et al., 2022). The regions of a synthetic scene are known.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from mgem_agent.recipes.nano.world.chart_drawing import chart_label_boxes
from mgem_agent.recipes.nano.world.nouns import with_article
from mgem_agent.recipes.nano.world.scene_captions import name_of, printed
from mgem_agent.recipes.nano.world.scene_parts import Chart, Scene
from mgem_agent.recipes.nano.world.scene_rendering import letter_boxes as boxes_of_letters

__all__ = [
    "ALPHABET",
    "SPELLED",
    "RegionBatch",
    "SceneRegion",
    "box_coverage",
    "chart_regions",
    "cut_window",
    "pool_regions",
    "region_batch",
    "scene_regions",
]

ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789 "
"""Characters of printed words, and a blank for positions after the end of a word."""

SPELLED = 6
"""Number of letters of a word to spell."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class SceneRegion:
    """A region of a scene.

    Attributes:
        name: What it shows; always the same wording.
        phrase: One possible wording.
        box: Left, top, right and bottom, from 0 to 1.
        is_fine: Whether it is visible only at high resolution.
        letters: Boxes of the letters of a printed word or number, which is its name.
    """

    name: str
    phrase: str
    box: Box
    is_fine: bool = False
    letters: tuple[Box, ...] = ()

    @property
    def is_printed(self) -> bool:
        """Whether it is a printed word or number."""
        return bool(self.letters)


def scene_regions(scene: Scene, rng: random.Random) -> list[SceneRegion]:
    """Return the things, shapes and printed words of a scene; a chart has none.

    Args:
        scene: The scene.
        rng: Random generator of the wording.
    """
    regions = []
    for thing in scene.objects:
        half = thing.size * 0.4  # corners of the picture of a thing are mostly empty
        phrase = with_article(name_of(thing.concept, rng))
        regions.append(SceneRegion(thing.concept, phrase, _box(thing.x, thing.y, half, half)))
    for shape in scene.shapes:
        name = f"{shape.colour} {shape.shape}"
        half = shape.size * 0.4
        regions.append(SceneRegion(name, with_article(name), _box(shape.x, shape.y, half, half)))
    for text in scene.texts:
        letters = tuple(boxes_of_letters(text))
        box = (*letters[0][:2], *letters[-1][2:])
        is_fine = text.size == "small"
        regions.append(SceneRegion(text.text, printed(text.text), box, is_fine=is_fine, letters=letters))
    return regions


def chart_regions(chart: Chart) -> list[SceneRegion]:
    """Return the printed labels of a chart; the letters of a label are one box."""
    boxes = chart_label_boxes(chart)
    return [
        SceneRegion(part.label, printed(part.label), box, is_fine=True, letters=(box,))
        for part, box in zip(chart.parts, boxes, strict=True)
    ]


def _box(x: float, y: float, half_width: float, half_height: float) -> Box:
    return x - half_width, y - half_height, x + half_width, y + half_height


@dataclass(frozen=True, slots=True)
class RegionBatch:
    """The regions of a batch of scenes, at most k of each.

    Attributes:
        phrases: P phrases, one for each name.
        labels: (B, k) index of the phrase of each region; -100 for no region.
        boxes: (B, k, 4) left, top, right and bottom, from 0 to 1.
        is_fine: (B, k) whether it is visible only at high resolution.
        spelling: (B, k, SPELLED) first letters of a printed word, as indices into `ALPHABET`, padded with the blank;
            -100 for no word.
        letters: (B, m) all letters of a picture, at most m; -100 for none.
        letter_boxes: (B, m, 4) boxes of the letters.
    """

    phrases: list[str]
    labels: Tensor
    boxes: Tensor
    is_fine: Tensor
    spelling: Tensor
    letters: Tensor
    letter_boxes: Tensor

    def to(self, device: torch.device) -> RegionBatch:
        """Return the batch with its tensors on a device."""
        moved = {each.name: getattr(self, each.name).to(device) for each in fields(self) if each.name != "phrases"}
        return replace(self, **moved)


def region_batch(scenes: Sequence[Scene], rng: random.Random) -> RegionBatch:
    """Return the regions of scenes; k and m are at least 1.

    Args:
        scenes: B scenes.
        rng: Random generator of the wording.
    """
    regions = [scene_regions(scene, rng) for scene in scenes]
    marks = [
        [mark for region in found if region.is_printed for mark in zip(region.name, region.letters, strict=True)]
        for found in regions
    ]
    num_regions, num_letters = (max(1, *map(len, each)) for each in (regions, marks))
    labels = torch.full((len(scenes), num_regions), -100)
    boxes = torch.zeros(len(scenes), num_regions, 4)
    is_fine = torch.zeros(len(scenes), num_regions, dtype=torch.bool)
    spelling = torch.full((len(scenes), num_regions, SPELLED), -100)
    letters = torch.full((len(scenes), num_letters), -100)
    letter_boxes = torch.zeros(len(scenes), num_letters, 4)
    numbers: dict[tuple[str, bool], int] = {}
    phrases: list[str] = []
    for row, found in enumerate(regions):
        for column, region in enumerate(found):
            key = (region.name, region.is_printed)
            if key not in numbers:
                numbers[key] = len(phrases)
                phrases.append(region.phrase)
            labels[row, column] = numbers[key]
            boxes[row, column] = torch.tensor(region.box)
            is_fine[row, column] = region.is_fine
            if region.is_printed:
                spelling[row, column] = _places(region.name[:SPELLED].ljust(SPELLED))
        if marks[row]:
            letters[row, : len(marks[row])] = _places(letter for letter, _ in marks[row])
            letter_boxes[row, : len(marks[row])] = torch.tensor([box for _, box in marks[row]])
    return RegionBatch(phrases, labels, boxes, is_fine, spelling, letters, letter_boxes)


def _places(letters: Iterable[str]) -> Tensor:
    return torch.tensor([ALPHABET.index(letter) for letter in letters])


def box_coverage(boxes: Tensor, grid: int) -> Tensor:
    """Return the fraction of each grid cell that a box covers.

    Args:
        boxes: (..., 4) left, top, right and bottom, from 0 to 1.
        grid: Cells a side.

    Returns:
        (..., grid², ) from 0 to 1, in raster order.
    """
    edges = torch.arange(grid, device=boxes.device, dtype=boxes.dtype)
    low, high = boxes[..., :2] * grid, boxes[..., 2:] * grid
    covered = (torch.minimum(high[..., None], edges + 1) - torch.maximum(low[..., None], edges)).clamp(min=0)
    across, down = covered.unbind(-2)
    return (down[..., :, None] * across[..., None, :]).flatten(-2)


def cut_window(boxes: Tensor, window: Tensor, least: float = 0.6) -> tuple[Tensor, Tensor]:
    """Return boxes in coordinates of a window of their picture, and which of them are inside.

    Args:
        boxes: (B, k, 4) left, top, right and bottom, from 0 to 1.
        window: (B, 4) the same for the windows.
        least: Minimum fraction of a box that has to be inside.

    Returns:
        (B, k, 4) boxes, clipped to 0 … 1; (B, k) bool.
    """
    corner, size = window[:, None, :2], window[:, None, 2:] - window[:, None, :2]
    low, high = (boxes[..., :2] - corner) / size, (boxes[..., 2:] - corner) / size
    whole = (high - low).prod(-1)
    low, high = low.clamp(0, 1), high.clamp(0, 1)
    return torch.cat([low, high], -1), (high - low).prod(-1) >= least * whole.clamp(min=1e-9)


def pool_regions(features: Tensor, boxes: Tensor) -> Tensor:
    """Return the mean of a map's features over each box.

    Args:
        features: (B, C, g, g).
        boxes: (B, k, 4) left, top, right and bottom, from 0 to 1.

    Returns:
        (B, k, C).
    """
    weights = box_coverage(boxes, features.shape[-1])
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-6)
    return weights @ features.flatten(2).transpose(1, 2)

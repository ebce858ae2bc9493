"""Regions of a page in which a character may be, and which character is where."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mgem_agent.errors import InputError
from mgem_agent.user_files import user_path

__all__ = ["Box", "RegionFinder", "assign", "grounding_dino", "make_finder", "windows"]

Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels."""

RegionFinder = Callable[[Image.Image, int], list[Box]]
"""Returns the regions of a picture, given the number of characters that are expected."""

_SHARES = (1.0, 0.65, 0.45)
_OVERLAP = 0.3
_THRESHOLD = 0.25


def make_finder(name: str) -> RegionFinder:
    """Return a finder of regions.

    Args:
        name: `windows`, or `grounding-dino:FOLDER` with a model of transformers.

    Raises:
        InputError: If there is no such finder, or its model cannot be read.
    """
    kind, _, rest = name.partition(":")
    if name == "windows":
        return windows
    if kind == "grounding-dino" and rest:
        return grounding_dino(rest)
    raise InputError(
        f"There is no detector {name!r}. Allowed: 'windows', 'grounding-dino:IDEA-Research/grounding-dino-tiny'."
    )


def windows(picture: Image.Image, num_expected: int) -> list[Box]:
    """Return overlapping square windows of three sizes; the whole picture is one of them.

    Args:
        picture: The picture.
        num_expected: Not used.
    """
    side = min(picture.size)
    boxes: list[Box] = []
    for share in _SHARES:
        size = max(8, round(side * share))
        for top in _steps(picture.height, size):
            boxes += [(left, top, left + size, top + size) for left in _steps(picture.width, size)]
    return boxes


def _steps(length: int, size: int) -> list[int]:
    num = 1 + round(2 * (length - size) / size) if length > size else 1
    return [round(place * (length - size) / max(1, num - 1)) for place in range(num)]


def grounding_dino(name: str) -> RegionFinder:
    """Return ViStoryBench's detector: GroundingDINO, asked for "character".

    Args:
        name: Folder or hub id of a model of transformers.

    Raises:
        InputError: If it cannot be read.
    """
    from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

    source = str(user_path(name)) if user_path(name).is_dir() else name
    try:
        model: Any = AutoModelForZeroShotObjectDetection.from_pretrained(source).eval()
        processor: Any = AutoProcessor.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise InputError(f"The detector {name!r} cannot be loaded: {str(error).splitlines()[0]}.") from error

    @torch.inference_mode()
    def find(picture: Image.Image, num_expected: int) -> list[Box]:
        inputs = processor(images=picture, text="character.", return_tensors="pt")
        found = processor.post_process_grounded_object_detection(
            model(**inputs), inputs["input_ids"], threshold=_THRESHOLD, text_threshold=_THRESHOLD,
            target_sizes=[(picture.height, picture.width)],
        )[0]  # fmt: skip
        best = found["scores"].argsort(descending=True)[:num_expected]
        return [tuple(map(int, found["boxes"][place].tolist())) for place in best]  # type: ignore[misc]

    return find


def assign(similarities: Mapping[str, Tensor], boxes: Sequence[Box], threshold: float) -> dict[str, int]:
    """Give each character the region that looks most like it; no region goes to two characters.

    The most similar pairs come first. Regions that overlap a region that is taken are dropped.

    Args:
        similarities: For each character, its similarity to each region.
        boxes: The regions.
        threshold: Smallest similarity of a character that is found.

    Returns:
        For each character that is found, the index of its region.
    """
    pairs = sorted(
        ((float(row[place]), key, place) for key, row in similarities.items() for place in range(len(boxes))),
        reverse=True,
    )
    found: dict[str, int] = {}
    for similarity, key, place in pairs:
        if similarity < threshold:
            break
        if key not in found and all(_shared(boxes[place], boxes[taken]) <= _OVERLAP for taken in found.values()):
            found[key] = place
    return found


def _shared(box: Box, other: Box) -> float:
    """Return the intersection of two regions over their union."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in (box, other)]
    return width * height / (sum(areas) - width * height)

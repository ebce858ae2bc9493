from __future__ import annotations

import pytest
import torch
from PIL import Image

from mgem_agent.errors import InputError
from mgem_agent.recipes.eval.story.regions import assign, make_finder, windows


def test_windows_cover_the_page() -> None:
    boxes = windows(Image.new("RGB", (200, 100)), 1)
    covered = torch.zeros(100, 200)
    for left, top, right, bottom in boxes:
        assert right - left == bottom - top and 0 <= left and right <= 200 and 0 <= top and bottom <= 100
        if bottom - top < 100:
            covered[top:bottom, left:right] = 1
    assert covered.all() and len(boxes) == len(set(boxes))
    assert (0, 0, 100, 100) in boxes


def test_each_character_gets_a_region_of_its_own() -> None:
    boxes = [(0, 0, 10, 10), (1, 1, 11, 11), (20, 0, 30, 10)]
    alike = {"fox": torch.tensor([0.9, 0.8, 0.1]), "bear": torch.tensor([0.8, 0.85, 0.3])}
    assert assign(alike, boxes, 0.0) == {"fox": 0, "bear": 2}  # the second overlaps the first
    assert assign(alike, boxes, 0.5) == {"fox": 0}
    assert assign(alike, boxes, 0.95) == {}


def test_an_unknown_detector_is_refused() -> None:
    with pytest.raises(InputError, match="no detector 'eyes'. Allowed: 'windows'"):
        make_finder("eyes")
    with pytest.raises(
        InputError, match="The detector 'grounding-dino:nowhere/none' cannot be loaded|cannot be loaded"
    ):
        make_finder("grounding-dino:nowhere/none")

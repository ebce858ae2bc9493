"""Regions of scenes: what they are called, how much of a patch they cover, and their features."""

import random

import pytest
import torch

from mgem_agent.recipes.nano.seeing.scene_regions import (
    ALPHABET,
    SPELLED,
    box_coverage,
    cut_window,
    pool_regions,
    region_batch,
    scene_regions,
)
from mgem_agent.recipes.nano.world.scene import Scene, SceneObject, SceneShape, SceneText

SIGN = SceneText("sale", 0.5, 0.8, 0.03, "small", "black", "white")
TIGER = SceneObject("tiger", 0.25, 0.25, 0.4)
SCENE = Scene(0, "beach", objects=(TIGER,), texts=(SIGN,))


def test_things_words_and_shapes_are_regions_and_charts_are_not():
    tiger, sign = scene_regions(SCENE, random.Random(0))
    assert (tiger.name, sign.name) == ("tiger", "sale")
    assert sign.is_printed and sign.is_fine and not tiger.is_printed
    assert sign.phrase == 'the word "sale"'
    assert tiger.box == pytest.approx((0.09, 0.09, 0.41, 0.41))
    (circle,) = scene_regions(
        Scene(0, "plain white", shapes=(SceneShape("circle", "red", 0.5, 0.5, 0.5),)), random.Random(0)
    )
    assert (circle.name, circle.phrase) == ("red circle", "a red circle")
    (number,) = scene_regions(
        Scene(0, "beach", texts=(SceneText("12", 0.5, 0.5, 0.1, "large", "red", "white"),)), random.Random(0)
    )
    assert number.phrase == "the number 12" and not number.is_fine
    assert len(number.letters) == 2 and number.letters[0][2] == number.letters[1][0]
    assert number.box == (*number.letters[0][:2], *number.letters[1][2:])


def test_a_batch_names_each_thing_once_and_a_printed_name_apart():
    printed = Scene(0, "beach", texts=(SceneText("tiger", 0.5, 0.5, 0.1, "large", "red", "white"),))
    batch = region_batch([SCENE, printed, Scene(0, "beach"), SCENE], random.Random(0))
    assert len(batch.phrases) == 3
    assert batch.labels.tolist() == [[0, 1], [2, -100], [-100, -100], [0, 1]]
    assert "".join(ALPHABET[place] for place in batch.spelling[1, 0]) == "tiger "
    assert batch.spelling[0, 0].tolist() == [-100] * SPELLED
    assert [ALPHABET[place] for place in batch.letters[0] if place >= 0] == list("sale")
    assert batch.letter_boxes[1, :5, 0].diff().min() > 0  # from left to right
    assert batch.is_fine.tolist() == [[False, True], [False, False], [False, False], [False, True]]


def test_coverage_is_the_shared_area():
    box = torch.tensor([0.25, 0.0, 0.75, 0.5])
    assert box_coverage(box, 2).tolist() == [0.5, 0.5, 0.0, 0.0]
    covered = box_coverage(torch.tensor([0.1, 0.2, 0.63, 0.9]), 8)
    assert covered.sum().item() == pytest.approx(0.53 * 0.7 * 64, rel=1e-5)


def test_pooling_takes_the_mean_of_what_a_box_covers():
    features = torch.arange(4.0).view(1, 1, 2, 2)
    boxes = torch.tensor([[[0.0, 0.0, 1.0, 1.0], [0.5, 0.5, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]])
    assert pool_regions(features, boxes)[0, :, 0].tolist() == [1.5, 3.0, 0.0]


def test_a_window_keeps_what_is_mostly_inside():
    boxes = torch.tensor([[[0.25, 0.25, 0.5, 0.5], [0.4, 0.4, 0.6, 0.6], [0.7, 0.7, 0.9, 0.9]]])
    inside, is_there = cut_window(boxes, torch.tensor([[0.0, 0.0, 0.5, 0.5]]))
    assert is_there.tolist() == [[True, False, False]]
    assert inside[0, 0].tolist() == [0.5, 0.5, 1.0, 1.0]

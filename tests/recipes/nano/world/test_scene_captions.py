from __future__ import annotations

import random

import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.nano.world.backgrounds import background_named
from mgem_agent.recipes.nano.world.concepts import concept_named
from mgem_agent.recipes.nano.world.scene import sample_scene
from mgem_agent.recipes.nano.world.scene_captions import caption
from mgem_agent.recipes.nano.world.scene_parts import Scene, SceneObject


@pytest.mark.parametrize("style", ["plain", "rich", "tags", "story"])
def test_a_caption_names_every_thing_and_the_place(style: str) -> None:
    for index in range(60):
        scene = sample_scene(0, index, kind="drawable")
        words = caption(scene, random.Random(index), style)  # type: ignore[arg-type]
        for thing in scene.objects:
            assert any(name in words for name in concept_named(thing.concept).names), words
        background = background_named(scene.background)
        assert any(place in words for place in (background.name, "night", *background.phrases)), words


def test_left_and_right_are_those_of_the_picture() -> None:
    pair = (SceneObject("fox", 0.26, 0.5, 0.4), SceneObject("rocket", 0.74, 0.5, 0.4))
    scene = Scene(0, "space", objects=pair, layout="two_beside")
    said = {caption(scene, random.Random(seed)) for seed in range(80)}
    assert any("fox to the left of a" in words for words in said)
    assert not any("rocket to the left of" in words or "fox on the right" in words for words in said)


def test_the_same_random_numbers_give_the_same_words() -> None:
    scene = sample_scene(0, 5)
    assert caption(scene, random.Random(1), "rich") == caption(scene, random.Random(1), "rich")
    with pytest.raises(
        InputError, match="There is no caption style 'haiku'. Allowed: 'plain', 'rich', 'tags', 'story'"
    ):
        caption(scene, random.Random(1), "haiku")  # type: ignore[arg-type]

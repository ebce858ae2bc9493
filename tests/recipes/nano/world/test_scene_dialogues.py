"""Dialogues about scenes: what is listed, in which order, and what is never asked."""

import random

import pytest

from mgem_agent.recipes.nano.world.nouns import with_article
from mgem_agent.recipes.nano.world.scene import SceneKind, sample_scene
from mgem_agent.recipes.nano.world.scene_dialogues import DialogueTurn, dialogue_about


def _dialogues(kind: SceneKind, num: int = 60) -> list[tuple[DialogueTurn, ...]]:
    return [dialogue_about(sample_scene(0, index, kind=kind), random.Random(index)) for index in range(num)]


def test_a_page_is_read_aloud_from_top_to_bottom() -> None:
    listed = 0
    for index, turns in enumerate(_dialogues("page")):
        scene = sample_scene(0, index, kind="page")
        assert not any(turn.kind.startswith("read") for turn in turns)  # "the small sign" is any of several
        if turns[0].kind != "list":
            continue
        listed += 1
        said = turns[0].answer.removesuffix(".").lower().split(", ")
        assert sorted(said) == sorted(text.text.lower() for text in scene.texts)
        top = min(scene.texts, key=lambda text: text.y - text.height)
        assert said.index(top.text.lower()) < len(said) / 2
    assert listed > 30


def test_different_things_are_listed_and_several_of_one_kind_are_not() -> None:
    listed = 0
    for index, turns in enumerate(_dialogues("several")):
        scene = sample_scene(0, index, kind="several")
        if turns[0].kind == "list":
            listed += 1
            names = [with_article(thing.concept) for thing in scene.objects]
            assert all(name.lower() in turns[0].answer.lower() for name in names)
    assert listed > 30
    counts = [turns for index, turns in enumerate(_dialogues("any", 200)) if sample_scene(0, index).layout == "count"]
    assert counts and not any(turn.kind == "list" for turns in counts for turn in turns)


@pytest.mark.parametrize("kind", ["any", "several", "page"])
def test_what_a_thing_is_comes_before_questions_that_name_it(kind: SceneKind) -> None:
    for turns in _dialogues(kind):
        assert len({turn.question for turn in turns}) == len(turns)
        kinds = [turn.kind for turn in turns if turn.kind not in ("caption", "list")]
        asked = [kind == "what" for kind in kinds]
        assert asked == sorted(asked, reverse=True)

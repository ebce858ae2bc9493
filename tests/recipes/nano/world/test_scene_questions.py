from __future__ import annotations

import random
from collections import Counter

from mgem_agent.recipes.nano.world.scene import sample_scene
from mgem_agent.recipes.nano.world.scene_dialogues import dialogue_about
from mgem_agent.recipes.nano.world.scene_parts import (
    Chart,
    ChartPart,
    Scene,
    SceneObject,
    SceneShape,
    SceneText,
    Surface,
)
from mgem_agent.recipes.nano.world.scene_questions import QUESTION_KINDS, UNCLEAR, Question, questions_about


def asked(scene: Scene, seeds: int = 30) -> list[Question]:
    return [question for seed in range(seeds) for question in questions_about(scene, random.Random(seed))]


def test_every_answer_names_what_is_accepted_and_every_kind_occurs() -> None:
    kinds: Counter[str] = Counter()
    answers: Counter[str] = Counter()
    for index in range(400):
        for question in questions_about(sample_scene(0, index), random.Random(index)):
            assert any(accepted in question.answer.lower() for accepted in question.accepted), question
            assert question.text.endswith("?")
            kinds[question.kind] += 1
            if question.kind == "yes_no":
                answers[question.answer] += 1
    assert set(kinds) == set(QUESTION_KINDS) - {"unclear"}
    assert 0.42 < answers["Yes."] / answers.total() < 0.58


def test_answers_follow_the_scene() -> None:
    pair = (SceneObject("ghost", 0.26, 0.5, 0.4), SceneObject("frog", 0.74, 0.5, 0.4))
    found = {(q.text, q.answer) for q in asked(Scene(0, "snow", objects=pair, layout="two_beside"))}
    assert ("Where is the ghost?", "On the left.") in found
    assert ("What is to the right of the ghost?", "A frog.") in found
    assert ("What colour is the frog?", "Green.") in found
    assert ("Is there a ghost?", "Yes.") in found
    assert ("Where is this?", "In the snow.") in found


def test_counting_and_reading() -> None:
    foxes = tuple(SceneObject("fox", 0.2 * n, 0.5, 0.15) for n in range(1, 4))
    sign = SceneText("open", 0.5, 0.1, 0.03, "small", "black", "white")
    found = {
        (q.kind, q.answer, q.accepted) for q in asked(Scene(0, "sea", objects=foxes, texts=(sign,), layout="count"))
    }
    assert ("count", "Three.", ("three", "3")) in found
    assert ("read_small", "Open.", ("open",)) in found


def test_charts() -> None:
    chart = Chart("bar", (ChartPart("cats", 2, "red"), ChartPart("dogs", 7, "blue")))
    found = {(q.text, q.answer) for q in asked(Scene(0, "plain white", chart=chart))}
    assert ("Which bar is the largest?", "Dogs.") in found
    assert ("What is the value for cats?", "Two.") in found
    assert ("Is cats larger than dogs?", "No.") in found


def test_a_dialogue_mixes_questions_without_repeating_one() -> None:
    lengths = set()
    for index in range(80):
        turns = dialogue_about(sample_scene(0, index), random.Random(index))
        lengths.add(len(turns))
        assert len({turn.question for turn in turns}) == len(turns)
    assert lengths == {1, 2, 3, 4, 5, 6, 7}


def test_of_a_pattern_it_cannot_tell_whatever_is_asked() -> None:
    scene = Scene(0, "plain grey", surface=Surface("gradient", ("red", "blue")))
    found = asked(scene)
    assert all(question.kind == "unclear" and UNCLEAR in question.answer for question in found)
    assert {"What is this?", "Describe the picture.", "Which bar is the largest?"} <= {q.text for q in found}
    turns = dialogue_about(scene, random.Random(0))
    assert {turn.kind for turn in turns} == {"unclear"}  # no caption


def test_a_thorough_dialogue_asks_about_everything() -> None:
    things = tuple(SceneObject(name, x, 0.3, 0.2) for name, x in (("fox", 0.2), ("frog", 0.5), ("ghost", 0.8)))
    shapes = (SceneShape("circle", "red", 0.2, 0.8, 0.2), SceneShape("star", "blue", 0.8, 0.8, 0.2))
    scene = Scene(0, "snow", objects=things, shapes=shapes, layout="crowd")
    found = [question.text for question in questions_about(scene, random.Random(0), thorough=True)]
    for word in ("circle", "star"):
        assert {f"Where is the {word}?", f"What colour is the {word}?"} <= set(found)
    assert sum(text.startswith("Where ") for text in set(found)) >= 5
    chart = Chart("bar", (ChartPart("cats", 2, "red"), ChartPart("dogs", 7, "blue"), ChartPart("birds", 5, "green")))
    texts = {q.text for q in questions_about(Scene(0, "plain white", chart=chart), random.Random(0), thorough=True)}
    assert {f"What is the value for {label}?" for label in ("cats", "dogs", "birds")} <= texts
    few = [len(dialogue_about(scene, random.Random(seed))) for seed in range(40)]
    many = [len(dialogue_about(scene, random.Random(seed), thorough=True)) for seed in range(40)]
    assert min(few) < 5 <= min(many) and sum(many) > 1.2 * sum(few)

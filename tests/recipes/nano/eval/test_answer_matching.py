from __future__ import annotations

import pytest

from mgem_agent.recipes.nano.eval.answer_matching import is_right_answer, names_all_things
from mgem_agent.recipes.nano.world.dataset import SceneDataSettings, scene_record
from mgem_agent.recipes.nano.world.generation_dataset import GenerationDataSettings, generation_record


@pytest.mark.parametrize(
    ("kind", "answer", "accepted", "is_right"),
    [
        ("what", "A FOX.", ["fox"], True),
        ("what", "It is a fox, I think", ["fox"], True),
        ("what", "A foxglove.", ["fox"], False),
        ("what", "", ["fox"], False),
        ("what", "A polar bear.", ["bear", "brown bear"], False),
        ("what", "A bear.", ["bear", "brown bear"], True),
        ("what", "The star.", ["star"], True),
        ("what", "A bar chart of ants and bees.", ["bar chart"], True),
        ("colour", "Light-blue", ["blue"], True),
        ("colour", "Bluish.", ["blue"], False),
        ("count", "3", ["three", "3"], True),
        ("count", "Thirteen.", ["three", "3"], False),
        ("count", "13", ["three", "3"], False),
        ("where", "It's on the left!", ["on the left"], True),
        ("where", "On the right.", ["on the left"], False),
        ("read_small", "Lamp", ["lamp"], True),
        ("read_small", "Lamps.", ["lamp"], False),
        ("yes_no", "Yes.", ["yes"], True),
        ("yes_no", "yes, there is no doubt", ["yes"], False),
        ("yes_no", "Yes, it is.", ["yes"], True),
        ("yes_no", "I say yes.", ["yes"], False),
        ("yes_no", "No.", ["yes"], False),
        ("yes_no", "Yesterday", ["yes"], False),
    ],
)
def test_answers(kind: str, answer: str, accepted: list[str], is_right: bool) -> None:
    assert is_right_answer(kind, answer, accepted) is is_right


def test_every_answer_of_the_data_is_right() -> None:
    for index in range(40):
        record = scene_record(index, SceneDataSettings("held_out"))
        answers = [turn["value"] for turn in record["conversations"] if turn["from"] == "gpt"]
        for kind, answer, accepted in zip(record["answer_kinds"], answers, record["accepted"], strict=True):
            if kind not in ("caption", "list"):  # these have no one answer
                assert is_right_answer(kind, answer, accepted), (kind, answer, accepted)


@pytest.mark.parametrize(
    ("captions", "wanted", "is_kept"),
    [
        (["an orange fox in the snow"], ["fox"], True),
        (["an orange FOX and an owl"], ["fox", "owl"], True),
        (["an orange fox", "an owl at night"], ["fox", "owl"], True),
        (["an orange fox"], ["fox", "owl"], False),
        (["two foxes"], ["fox"], True),
        (["a foxy lady"], ["fox"], False),
        ([], ["fox"], False),
    ],
)
def test_captions_keep_things(captions: list[str], wanted: list[str], is_kept: bool) -> None:
    assert names_all_things(captions, wanted) is is_kept


def test_every_caption_of_the_data_keeps_its_things() -> None:
    for index in range(60):
        record = generation_record(index, GenerationDataSettings("held_out"))
        answers = [turn["value"] for turn in record["conversations"] if turn["from"] == "gpt"]
        for answer, wanted in zip(answers, record["wanted"], strict=True):
            assert names_all_things([answer], wanted), (answer, wanted)

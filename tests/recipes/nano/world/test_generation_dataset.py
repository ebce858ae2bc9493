from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mgem_agent.core_model.prompts.templates import load_prompt_template, render_dialogue
from mgem_agent.errors import InputError
from mgem_agent.gen.parser import parse
from mgem_agent.gen.tool_calls import plan_drawing
from mgem_agent.recipes.data.record_files import read_records
from mgem_agent.recipes.nano.world.generation_dataset import GenerationDataSettings, generation_record, write_generation
from mgem_agent.recipes.nano.world.generation_dialogues import GENERATION_KINDS, REFUSALS, generation_dialogue
from mgem_agent.recipes.nano.world.holdout_split import is_held_out_pair
from mgem_agent.recipes.nano.world.scene_parts import Split

SETTINGS = GenerationDataSettings()
RECORDS = [generation_record(index, SETTINGS) for index in range(300)]


def captions(answer: str) -> list[str]:
    return re.findall(r"<h> (.+?) </h>", answer)


def test_all_kinds_occur_and_only_text_records_never_draw() -> None:
    kinds = Counter(record["kind"] for record in RECORDS)
    assert set(kinds) == set(GENERATION_KINDS)
    for record in RECORDS:
        drawn = [captions(turn["value"]) for turn in record["conversations"] if turn["from"] == "gpt"]
        assert any(drawn) == (record["kind"] != "text_only")
        assert [("draw" if found else "text") for found in drawn] == record["answer_kinds"]
        if record["kind"] == "story":
            assert len(drawn[0]) >= 2


def test_captions_keep_what_was_asked_for() -> None:
    for record in RECORDS:
        answers = [turn["value"] for turn in record["conversations"] if turn["from"] == "gpt"]
        for answer, wanted in zip(answers, record["wanted"], strict=True):
            assert all(any(name in caption for caption in captions(answer)) for name in wanted), record


def test_tags_are_whole_and_the_sign_is_the_templates_own() -> None:
    template = load_prompt_template("chatml")
    for record in RECORDS[:40]:
        roles = {"human": "user", "gpt": "assistant"}
        messages = [
            {"role": roles[turn["from"]], "content": turn["value"], "draw": turn.get("draw")}
            for turn in record["conversations"]
        ]
        text = render_dialogue(messages, template=template).text
        assert text.count("<GEN>") == sum(bool(turn.get("draw")) for turn in record["conversations"])
        for turn in record["conversations"]:
            assert turn["value"].count("<h>") == turn["value"].count("</h>") == len(captions(turn["value"]))
            assert not (turn.get("draw") and turn["from"] == "gpt")


def test_the_parser_of_answers_reads_the_same_captions() -> None:
    for record in RECORDS[:40]:
        for turn in record["conversations"]:
            plan = plan_drawing(parse(turn["value"]), "auto")
            assert list(plan.captions) == captions(turn["value"])


def test_held_out_pairs_are_held_out() -> None:
    for split in ("train", "held_out"):
        for index in range(100):
            record = generation_record(index, GenerationDataSettings(split))  # type: ignore[arg-type]
            names = sorted({name for wanted in record["wanted"] for name in wanted})
            pairs = list(itertools.combinations(names, 2))
            if pairs:
                assert any(is_held_out_pair(*pair) for pair in pairs) == (split == "held_out")


def test_held_out_questions_are_worded_otherwise() -> None:
    def questions(record: dict[str, Any]) -> list[str]:
        return [turn["value"] for turn in record["conversations"] if turn["from"] == "human"]

    trained = {question for index in range(3000) for question in questions(generation_record(index, SETTINGS))}
    asked = [q for index in range(300) for q in questions(generation_record(index, GenerationDataSettings("held_out")))]
    assert len(set(asked)) > 100
    assert trained.isdisjoint(asked)


def test_writing_goes_on(tmp_path: Path) -> None:
    write_generation(tmp_path, 2)
    path = write_generation(tmp_path, 5)
    assert list(read_records(path)) == RECORDS[:5]
    with pytest.raises(InputError, match="0 dialogues cannot be made. Give 1 or more"):
        write_generation(tmp_path, 0)


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_some_turns_refuse_a_picture_and_get_none(split: Split) -> None:
    turns = [
        turn
        for index in range(400)
        for turn in generation_dialogue("text_only", random.Random(index), split)
        if turn.question.startswith(REFUSALS[split])
    ]
    assert len(turns) > 60
    assert not any("<h>" in turn.answer or turn.draw or turn.wanted for turn in turns)

from __future__ import annotations

import json
from pathlib import Path

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from mgem_agent.chat_models.text_engine import TextRequest
from mgem_agent.errors import InputError
from mgem_agent.recipes.nano.eval import drawing_protocol
from mgem_agent.recipes.nano.eval.drawing_protocol import DrawingTurn, held_out_turns, measure_drawing
from mgem_agent.recipes.nano.world.concepts import concept_named
from mgem_agent.testing import ScriptedReasoner

TURNS = [
    DrawingTurn("a", "recaption", (HumanMessage("Draw a fox."),), ("fox",)),
    DrawingTurn("b", "in_context", (HumanMessage("Hello"), AIMessage("Hello!"), HumanMessage("An owl.")), ("owl",)),
    DrawingTurn("c", "text_only", (HumanMessage("What is an owl?"),)),
    DrawingTurn("d", "text_only", (HumanMessage("Who are you?"),)),
]


def test_turns_are_of_both_sorts_and_none_comes_twice() -> None:
    turns = held_out_turns(12)
    assert [bool(turn.wanted) for turn in turns] == [True] * 12 + [False] * 12
    assert len({tuple(message.text for message in turn.messages) for turn in turns}) == 24
    assert all(concept_named(name) for turn in turns for name in turn.wanted)
    assert not any(turn.messages[-1].additional_kwargs for turn in turns)
    later = [turn for turn in turns if len(turn.messages) > 1]
    assert any(isinstance(message, AIMessage) and message.tool_calls for turn in later for message in turn.messages)
    assert not any("<" in message.text for turn in turns for message in turn.messages)
    with pytest.raises(InputError, match="0 turns cannot be answered"):
        held_out_turns(0)


def test_captions_are_counted_with_and_without_the_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing_protocol, "held_out_turns", lambda num, seed: TURNS)
    reasoner = ScriptedReasoner(
        script=[
            "Here: <h> an orange fox </h>",  # a, in words
            "<h> a dog </h>",  # a, with the sign: not what was asked for
            "<h> an owl at night",  # b, in words: not closed
            "An owl. <h> a brown owl </h>",  # b, with the sign
            "A bird.",  # c
            "<h> a face </h>",  # d: nobody asked for it
        ]
    )
    file = tmp_path / "drawing.jsonl"
    asked, told = measure_drawing(reasoner, file, {"name": "m"}, num=2)
    counts = {
        sign: {kind: (found.well_formed.num_right, found.kept.num_right, found.kept.num) for kind, found in of.items()}
        for sign, of in asked.items()
    }
    assert counts == {
        "words": {"in_context": (0, 0, 1), "recaption": (1, 1, 1), "all": (1, 1, 2)},
        "sign": {"in_context": (1, 1, 1), "recaption": (1, 0, 1), "all": (2, 1, 2)},
    }
    assert (told.num_right, told.num) == (1, 2)
    sent = [bool(request.dialogue[-1].get("draw")) for request in reasoner.requests]
    assert sent == [False, True, False, True, False, False]
    assert all(request.temperature == 0 for request in reasoner.requests)
    first = json.loads(file.read_text().splitlines()[0])
    assert (first["id"], first["captions"], first["text"]) == ("a/words", ["an orange fox"], "Here:")
    silent = ScriptedReasoner(script=["not asked again"])
    assert measure_drawing(silent, file, {"name": "m"}, num=2) == (asked, told)
    assert silent.requests == ()


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing_protocol, "held_out_turns", lambda num, seed: TURNS[2:])
    file = tmp_path / "drawing.jsonl"
    with pytest.raises(RuntimeError, match="the lights went out"):
        measure_drawing(ScriptedReasoner(script=["A bird.", RuntimeError("the lights went out")]), file, {}, num=2)

    def says(request: TextRequest) -> str:
        return str(request.dialogue[-1]["content"])

    told = []
    _, share = measure_drawing(
        ScriptedReasoner(script=[says]), file, {}, num=2, report=lambda *numbers: told.append(numbers)
    )
    assert (share.num_right, share.num) == (2, 2)
    assert told[-1] == (2, 2)

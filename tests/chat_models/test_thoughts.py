"""Thinking is taken out of an answer, however its pieces are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgem_agent.chat_models.thoughts import ThoughtReader, text_without_thoughts, thinks_by_name, without_thoughts
from mgem_agent.testing import ScriptedReasoner

ANSWERS = [
    ("No thought.", "No thought."),
    ("<think>I could draw <h> a fox </h></think> <h> a red fox </h>", "<h> a red fox </h>"),
    ("<THINK>\nA.\n</Think>\n\nB.", "B."),
    ("<thinking>a</thinking>b<think>c</think>d", "bd"),
    ("[THINK]a[/THINK]b", "b"),
    ("Maybe the key.</think>\nThe Lost Key", "The Lost Key"),
    ("a</think>b</think>c", "c"),
    ("<think>never closed", ""),
    ("<think></think>\n", ""),
    ("The tag `</think>` ends a thought.", "The tag `</think>` ends a thought."),
    ("a < b and <thin> air <", "a < b and <thin> air <"),
    ("", ""),
]


@pytest.mark.parametrize(("answer", "expected"), ANSWERS)
def test_thinking_is_left_out(answer: str, expected: str) -> None:
    assert text_without_thoughts(answer) == expected


@given(st.sampled_from(ANSWERS), st.integers(1, 9))
def test_pieces_change_nothing(case: tuple[str, str], length: int) -> None:
    answer, expected = case
    for holds in (True, False):
        reader = ThoughtReader(holds=holds)
        shown = ""
        for at in range(0, len(answer), length):
            before = reader.num_bare
            piece = reader.feed(answer[at : at + length])
            shown = piece if reader.num_bare > before else shown + piece
        assert shown + reader.close() == expected


def test_what_is_no_thought_is_shown_at_once() -> None:
    reader = ThoughtReader()
    assert [reader.feed(piece) for piece in ("One ", "two", "<th", "ree>")] == ["One ", "two", "", "<three>"]
    assert [ThoughtReader(holds=True).feed("One"), reader.has_thought] == ["", False]


def test_blocks_of_text_are_read_and_others_stay() -> None:
    blocks = [{"type": "thinking", "thinking": "x"}, {"type": "text", "text": "<think>y</think>z"}, "a</think>b"]
    assert without_thoughts(blocks) == [blocks[0], {"type": "text", "text": "z"}, "b"]


def test_some_names_say_that_a_model_thinks() -> None:
    assert all(map(thinks_by_name, ("deepseek-r1:7b", "QwQ-32B", "qwen3-30b-thinking")))
    assert not any(map(thinks_by_name, ("gpt-5", "far1", "llama3", "plain-1")))


@pytest.mark.parametrize("piece_length", [1, 3, 50])
@pytest.mark.parametrize("opening", ["<think>", ""])
def test_a_caption_in_a_thought_is_no_call(opening: str, piece_length: int) -> None:
    line = f"{opening}I could write <h> a fox </h></think> Here: <h> a red fox </h>"
    answer = ScriptedReasoner(script=[line], piece_length=piece_length).invoke("Draw.")
    assert answer.text == "Here:"
    assert [call["args"]["prompt"] for call in answer.tool_calls] == ["a red fox"]


def test_a_caption_that_is_asked_for_comes_after_the_thought() -> None:
    script = ["<think>Hm.</think>Sure.", "<think>a fox?</think> a red fox </h>"]
    answer = ScriptedReasoner(script=script).invoke("Draw.", draw="always")
    assert (answer.text, answer.tool_calls[0]["args"]["prompt"]) == ("Sure.", "a red fox")


def test_a_model_that_thinks_without_an_opening_tag_is_known_from_its_first_answer() -> None:
    model = ScriptedReasoner(script=["Hm.</think>One.", "Hm.</think>Two."])
    assert "".join(str(chunk.text) for chunk in model.stream("1")) == "Hm.</think>One."  # it cannot be taken back
    assert "".join(str(chunk.text) for chunk in model.stream("2")) == "Two."

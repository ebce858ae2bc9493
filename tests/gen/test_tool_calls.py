"""Which captions are drawn, and the tool call that draws one."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgem_agent.errors import InputError
from mgem_agent.gen.events import GenNotice, captions
from mgem_agent.gen.markup import MAX_CAPTION_LENGTH
from mgem_agent.gen.parser import parse
from mgem_agent.gen.tool_calls import DrawMode, DrawPlan, check_draw_defaults, new_call_id, plan_drawing, to_tool_call
from mgem_agent.tools.image_request import ImageRequest

ANSWER = parse("Two: <h> a fox </h> <h> an owl </h>")


@pytest.mark.parametrize(
    ("mode", "plan"),
    [
        ("auto", DrawPlan(("a fox", "an owl"))),
        ("always", DrawPlan(("a fox", "an owl"))),
        ("never", DrawPlan((), (GenNotice("drawing_off", "a fox"), GenNotice("drawing_off", "an owl")))),
    ],
)
def test_which_captions_are_drawn(mode: DrawMode, plan: DrawPlan) -> None:
    assert plan_drawing(ANSWER, mode) == plan


@pytest.mark.parametrize("answer", ["I would rather not.", "<h> </h>", "<h> a fox"])
def test_a_caption_is_missed_only_where_one_was_asked_for(answer: str) -> None:
    missed = {mode: plan_drawing(parse(answer), mode).caption_missing for mode in get_args(DrawMode)}
    assert missed == {"auto": False, "always": True, "never": False}


def test_an_unknown_mode_is_refused() -> None:
    mode: Any = "sometimes"
    with pytest.raises(InputError, match=r"^There is no draw mode 'sometimes'\. Allowed: 'auto', 'always', 'never'\.$"):
        plan_drawing(ANSWER, mode)


def test_a_call_is_what_langchain_holds() -> None:
    call = to_tool_call("a red fox", defaults={"seed": 7, "width": 1024}, id_factory=lambda: "call_1")
    assert list(call) == ["name", "args", "id", "type"]
    assert (call["name"], call["id"], call["type"]) == ("generate_image", "call_1", "tool_call")
    assert set(call["args"]) == set(ImageRequest.model_fields)
    assert call["args"]["negative_prompt"] is None
    assert ImageRequest.model_validate(call["args"]) == ImageRequest(prompt="a red fox", seed=7, width=1024)
    assert json.loads(json.dumps(call)) == call


def test_each_call_has_its_own_id() -> None:
    ids = {to_tool_call("a fox")["id"] for _ in range(20)} | {new_call_id()}
    assert len(ids) == 21
    assert all(name.startswith("call_") for name in ids)


@given(st.text(st.one_of(st.sampled_from("<h>/ \n\x00"), st.characters(codec=None)), max_size=40))
def test_every_complete_caption_can_be_drawn(text: str) -> None:
    for caption in captions(parse(f"<h>{text}</h>", close_at_end=True)):
        assert to_tool_call(caption)["args"]["prompt"] == caption


def test_a_caption_has_as_many_characters_as_a_request_may_have() -> None:
    assert ImageRequest.model_json_schema()["properties"]["prompt"]["maxLength"] == MAX_CAPTION_LENGTH
    assert to_tool_call("x" * 20_000)["args"]["prompt"] == "x" * MAX_CAPTION_LENGTH


@pytest.mark.parametrize("caption", ["", " \n", "\x00"])
def test_a_caption_without_words_is_refused(caption: str) -> None:
    with pytest.raises(InputError, match=r"^The caption .* is empty\. Give a description of the picture"):
        to_tool_call(caption)


@pytest.mark.parametrize(
    ("defaults", "message"),
    [
        (
            {"prompt": "x", "sampler": "y"},
            r"^Unknown drawing defaults: 'prompt', 'sampler'\. Allowed: task, negative_pro",
        ),
        ({"width": 3}, r"^The drawing defaults are not valid\. width: Input should be .* 16\.$"),
        (
            {"task": "edit"},
            r"^The drawing defaults are not valid\. task='edit' needs image",
        ),
    ],
)
def test_wrong_defaults_are_refused_before_anything_is_drawn(defaults: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_draw_defaults(defaults)
    with pytest.raises(InputError, match=message):
        to_tool_call("a fox", defaults=defaults)


def test_right_defaults_pass() -> None:
    check_draw_defaults({})
    check_draw_defaults({"seed": 7, "references": ("img-1",), "options": {"scheduler": "euler"}})

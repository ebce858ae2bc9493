"""Which way a picture is changed by: the one that is meant, or one that the caller allows instead."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mgem_agent.errors import UnsupportedRequestError
from mgem_agent.tools import Capabilities, EditPlan, EditRequest, ImageRequest, plan_edit

ORIGINAL = ImageRequest(prompt="a red fox in the snow.", seed=7, width=64, height=48, num_inference_steps=4)


def plan(*tasks: str, max_references: int = 0, strict: bool = False, **fields: Any) -> EditPlan:
    edit = EditRequest(**{"instruction": "make it night", "image": "fox", **fields})
    able = Capabilities(tasks=tasks, seed=True, strength=True, max_references=max_references)  # type: ignore[arg-type]
    return plan_edit(edit, able, generator="painter", strict=strict)


EVERYTHING = ("edit", "inpaint", "image_to_image", "text_to_image")
INSTEAD = ("inpaint", "image_to_image", "redraw")


@pytest.mark.parametrize(
    ("given", "way"), [({}, "edit"), ({"mask": "hole"}, "inpaint"), ({"strength": 0.4}, "image_to_image")]
)
def test_the_way_that_is_meant_is_gone_where_it_can_be(given: dict[str, Any], way: str) -> None:
    plans = [plan(*EVERYTHING, **given), plan(*EVERYTHING, **given, fallbacks=INSTEAD, original=ORIGINAL, caption="x")]
    assert plans[0] == plans[1]
    assert (plans[0].way, plans[0].request.task, plans[0].notices) == (way, way, ())
    assert plans[0].request.prompt == "make it night"
    assert (plans[0].request.mask, plans[0].request.strength) == (given.get("mask"), given.get("strength"))


def test_another_way_is_gone_only_where_it_is_named() -> None:
    with pytest.raises(UnsupportedRequestError) as refusal:
        plan("image_to_image", "text_to_image")
    assert str(refusal.value) == (
        "Generator 'painter' cannot edit this picture. edit: task='edit' is not supported; supported: image_to_image, "
        "text_to_image. It supports image_to_image, text_to_image, and at most 0 reference picture(s). "
        "Allow another way (fallbacks=('image_to_image', 'redraw')) or use another generator."
    )
    taken = plan("image_to_image", "text_to_image", fallbacks=["image_to_image"], seed=3)
    assert (taken.way, taken.request.task, taken.request.seed) == ("image_to_image", "image_to_image", 3)
    assert [(notice.argument, notice.message) for notice in taken.notices] == [
        ("task", "painter does not support 'edit'; 'image_to_image' was used with the prompt 'make it night'.")
    ]


@pytest.mark.parametrize(
    ("tasks", "fallbacks", "way"),
    [
        (("image_to_image", "text_to_image"), ("image_to_image", "redraw"), "image_to_image"),
        (("image_to_image", "text_to_image"), ("redraw", "image_to_image"), "redraw"),
        (("inpaint", "image_to_image"), ("inpaint", "image_to_image"), "image_to_image"),  # there is no mask
        (("text_to_image",), INSTEAD, "redraw"),
    ],
)
def test_fallbacks_are_tried_in_the_order_of_the_caller(tasks: Any, fallbacks: Any, way: str) -> None:
    assert plan(*tasks, fallbacks=fallbacks, original=ORIGINAL).way == way


def test_what_the_other_way_costs_is_said() -> None:
    taken = plan("image_to_image", mask="hole", fallbacks=["image_to_image"])
    assert taken.request.mask is None
    assert [notice.argument for notice in taken.notices] == ["task", "mask"]
    assert taken.notices[1].message == "'image_to_image' uses no mask; the whole picture may have changed."
    taken = plan("edit", strength=0.4, fallbacks=["edit"])
    assert [notice.message for notice in taken.notices] == [
        "painter does not support 'image_to_image'; 'edit' was used.",
        "'edit' uses no strength; it was left out.",
    ]


@pytest.mark.parametrize(
    ("given", "prompt"),
    [
        ({}, "make it night"),
        ({"original": ORIGINAL}, "a red fox in the snow. make it night"),
        ({"original": ORIGINAL, "caption": "a fox at night"}, "a fox at night"),
    ],
)
def test_a_way_that_obeys_no_instruction_is_given_a_caption(given: dict[str, Any], prompt: str) -> None:
    assert plan("image_to_image", fallbacks=["image_to_image"], **given).request.prompt == prompt


def test_redrawing_keeps_the_request_and_its_seed() -> None:
    taken = plan("text_to_image", fallbacks=["redraw"], original=ORIGINAL, seed=9)
    assert taken.request == ORIGINAL.model_copy(update={"prompt": "a red fox in the snow. make it night"})
    assert [notice.message for notice in taken.notices][1:] == ["'redraw' keeps the picture's own seed, 7."]
    with pytest.raises(UnsupportedRequestError, match=r"redraw: It needs `original`, the request that made the pict"):
        plan("text_to_image", fallbacks=["redraw"])


def test_references_rule_a_way_out_where_they_are_not_taken() -> None:
    with pytest.raises(
        UnsupportedRequestError, match=r"edit: 2 reference picture\(s\) given; maximum: 1\. It supports"
    ):
        plan("edit", max_references=1, references=("a", "b"))
    taken = plan("image_to_image", max_references=2, references=("a", "b"), fallbacks=["image_to_image"])
    assert taken.request.references == ("a", "b")


def test_strict_rules_out_what_would_be_left_out() -> None:
    refused = (
        r"inpaint: Generator 'painter' cannot follow the request exactly: painter does not support negative_prompt"
    )
    assert plan("inpaint", mask="hole", negative_prompt="stars").way == "inpaint"
    with pytest.raises(UnsupportedRequestError, match=refused):
        plan("inpaint", mask="hole", negative_prompt="stars", strict=True)


def test_only_pictures_that_may_be_needed_are_named() -> None:
    made_from = ImageRequest(prompt="x", task="edit", image="sketch")
    edit = EditRequest(instruction="x", image="fox", mask="hole", references=("hat", "fox"), original=made_from)
    assert edit.picture_ids == ("fox", "hole", "hat")
    assert edit.model_copy(update={"fallbacks": ("redraw",)}).picture_ids == ("fox", "hole", "hat", "sketch")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"instruction": " "}, "at least 1 character"),
        ({"fallbacks": "inpaint"}, "fallbacks is 'inpaint', a string. Give a list"),
        ({"fallbacks": ("magic",)}, "'edit', 'inpaint', 'image_to_image' or 'redraw'"),
        ({"strength": 0}, "greater than 0"),
    ],
)
def test_wrong_fields_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message.replace("(", r"\(")):
        EditRequest(**{"instruction": "x", "image": "fox", **wrong})


def test_the_reason_for_an_unsupported_task_is_given() -> None:
    able = Capabilities(unsupported={"edit": "Its two halves disagree."})
    with pytest.raises(UnsupportedRequestError, match=r"edit: task='edit' is not .*\. Its two halves disagree\. It"):
        plan_edit(EditRequest(instruction="make it night", image="img-1"), able, generator="g")

"""What a model asks for when it draws or edits."""

from __future__ import annotations

from typing import Any

import pytest

from mgem_agent.errors import InputError
from mgem_agent.tools.drawing_arguments import EditArguments, read_draw_arguments

FILLED = {"image": "", "mask": "null", "seed": -1, "strength": 0, "width": 0, "height": 0, "references": "", "n": 1}


def read(**given: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    request, notices = read_draw_arguments({"prompt": "a fox", **given}, {})
    return request.model_dump(exclude_defaults=True, exclude={"prompt"}), notices


def test_a_model_may_fill_every_field() -> None:
    assert read(**FILLED, task="", size="1024x1024") == ({"width": 1024, "height": 1024}, ())
    assert read(**FILLED | {"strength": 1}) == ({}, ())
    assert read(strength=0.4) == ({}, ("The strength 0.4 was left out: there is no picture to start from.",))


@pytest.mark.parametrize(
    ("given", "task"),
    [({}, "edit"), ({"strength": 0.5}, "image_to_image"), ({"strength": 1}, "edit"), ({"mask": "img-2"}, "inpaint")],
)
def test_the_task_follows_from_the_pictures(given: dict[str, Any], task: str) -> None:
    found, notices = read(image="img-1", **given)
    assert (found["task"], notices) == (task, ())


def test_a_strength_of_one_is_kept_where_it_means_something() -> None:
    assert read(image="img-1", task="image_to_image", strength=1)[0]["strength"] == 1
    assert read(image="img-1", mask="img-2", strength=1)[0]["strength"] == 1


def test_defaults_hold_where_the_call_leaves_a_field_open() -> None:
    request, _ = read_draw_arguments({"prompt": "x", "seed": -1, "width": 0, "height": 64}, {"seed": 7, "width": 32})
    assert (request.seed, request.width, request.height) == (7, 32, 64)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"image": "img-1", "task": "text_to_image"}, "task='text_to_image' takes no image. Set task to one of"),
        ({"mask": "img-2"}, "task='inpaint' needs a mask"),
        ({"task": "edit"}, "task='edit' needs image"),
        ({"width": 3}, "width: Input should be greater than or equal to 16"),
        ({"seed": 2**64}, "seed: Input should be less than"),
        ({"prompt": " "}, "prompt: String should have at least 1 character"),
        ({"image": {"type": "image"}}, "image: Input should be a valid string"),
    ],
)
def test_what_contradicts_itself_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match="The arguments of the call are wrong") as wrong:
        read(**given)
    assert message in str(wrong.value)


def edit(**given: Any) -> dict[str, Any]:
    asked = EditArguments.model_validate({"image": "a", "instruction": "make it night", **given})
    return asked.request(lambda image: f"img-{image}").model_dump(exclude_defaults=True, exclude={"instruction"})


def test_editing_is_read_the_same_way() -> None:
    assert edit(mask="null", seed=-1, strength=0, references="", caption="none", size="1024x1024") == {"image": "img-a"}
    assert edit(strength=1) == {"image": "img-a"}
    assert edit(strength=1, mask="m") == {"image": "img-a", "mask": "img-m", "strength": 1}
    assert edit(references='["r"]', seed="7") == {"image": "img-a", "references": ("img-r",), "seed": 7}
    assert EditArguments.model_validate({"image_id": "a", "prompt": "make it night"}).instruction == "make it night"
    with pytest.raises(InputError, match=r"strength: Input should be less than or equal to 1\. Call again"):
        edit(strength=70)

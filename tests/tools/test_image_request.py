import pytest
from pydantic import ValidationError

from mgem_agent.tools.image_request import ImageRequest


def test_control_characters_are_no_part_of_a_prompt() -> None:
    request = ImageRequest(prompt=" a\x1b[31m fox\u202e\nby night\x00 ", negative_prompt="\tblurry")
    assert request.prompt == "a [31m fox \nby night"
    assert request.negative_prompt == "blurry"


def test_round_trips_as_json() -> None:
    request = ImageRequest(
        prompt="make it night", task="inpaint", image="img-1", mask="img-2", strength=0.5,
        references=("img-1", "img-3"), options={"clip_skip": 2},
    )  # fmt: skip
    assert ImageRequest.model_validate_json(request.model_dump_json()) == request
    assert request.picture_ids == ("img-1", "img-2", "img-3")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": " \n "}, "at least 1 character"),
        ({"prompt": "x" * 10_001}, "at most 10000 characters"),
        ({"prompt": "x", "seed": -1}, "greater than or equal to 0"),
        ({"prompt": "x", "width": 8}, "greater than or equal to 16"),
        ({"prompt": "x", "colour": "red"}, "Extra inputs are not permitted"),
        ({"prompt": "x", "task": "edit"}, "task='edit' needs image"),
        ({"prompt": "x", "image": "img-1"}, "Set task to one of 'image_to_image', 'inpaint', 'edit'"),
        (
            {"prompt": "x", "task": "inpaint", "image": "img-1"},
            "needs a mask, and only that task takes one",
        ),
        (
            {"prompt": "x", "task": "edit", "image": "img-1", "mask": "img-2"},
            "needs a mask, and only that task takes one",
        ),
        ({"prompt": "x", "strength": 0.5}, "Only task='image_to_image' and task='inpaint' take a strength"),
        ({"prompt": "x", "task": "image_to_image", "image": "img-1", "strength": 0}, "greater than 0"),
    ],
)
def test_refuses_what_makes_no_sense(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ImageRequest.model_validate(fields)

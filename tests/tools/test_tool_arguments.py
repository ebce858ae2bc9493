"""How the arguments of a call are read, whatever tool it calls."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mgem_agent.tools.tool_arguments import NamedPicture, ToolArguments, decode_json, explain_arguments


class Card(ToolArguments):
    prompt: str
    negative_prompt: str | None = None
    width: int | None = None
    height: int | None = None
    seed: int | None = None
    strength: float | None = None
    image: NamedPicture | None = None
    references: list[NamedPicture] | None = None
    kind: Literal["text_to_image", "edit"] | None = None


def read(given: Any) -> dict[str, Any]:
    return Card.model_validate(given).model_dump(exclude_none=True)


EMPTY = ["", " ", "null", "None", "N/A", "undefined", "auto", None, [], {}]


@pytest.mark.parametrize("name", [name for name in Card.model_fields if name != "prompt"])
@pytest.mark.parametrize("value", EMPTY, ids=repr)
def test_empty_values_count_as_absent(name: str, value: Any) -> None:
    assert read({"prompt": "a fox", name: value}) == {"prompt": "a fox"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", -1), ("seed", "-1"), ("seed", "random"), ("width", 0), ("height", -1), ("strength", 0),
     ("strength", "0.0"), ("seed", False), ("references", [""]), ("references", ["null", None]), ("n", 1),
     ("num_images", "1"), ("size", "auto"), ("quality", ""), ("style", None)],
)  # fmt: skip
def test_neutral_values_count_as_absent(name: str, value: Any) -> None:
    card = Card.model_validate({"prompt": "a fox", name: value})
    assert (card.model_dump(exclude_none=True), card.notices) == ({"prompt": "a fox"}, ())


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"size": "640x480"}, {"width": 640, "height": 480}),
        ({"size": "640 × 480"}, {"width": 640, "height": 480}),
        ({"imageSize": [640, 480]}, {"width": 640, "height": 480}),
        ({"size": {"width": 640, "height": 480}}, {"width": 640, "height": 480}),
        ({"resolution": 512}, {"width": 512, "height": 512}),
        ({"size": "512x512", "width": 512}, {"width": 512, "height": 512}),
        ({"width": "640px", "height": "480"}, {"width": 640, "height": 480}),
        ({"w": 640, "h": 480.0}, {"width": 640, "height": 480}),
        ({"negativePrompt": "rain"}, {"negative_prompt": "rain"}),
        ({"negative_prompt": ["rain", "fog"]}, {"negative_prompt": "rain, fog"}),
        ({"negative_prompt": "", "negative": "rain"}, {"negative_prompt": "rain"}),
        ({"image": ["img-1"]}, {"image": "img-1"}),
        ({"image_id": "img-1"}, {"image": "img-1"}),
        ({"references": "img-1"}, {"references": ["img-1"]}),
        ({"references": '["img-1", "img-2"]'}, {"references": ["img-1", "img-2"]}),
        ({"kind": "Text-to-Image"}, {"kind": "text_to_image"}),
        ({"kind": "txt2img"}, {"kind": "text_to_image"}),
        ({"seed": 0}, {"seed": 0}),
        ({"seed": "7"}, {"seed": 7}),
    ],
)
def test_synonyms_and_other_spellings_are_read(given: dict[str, Any], found: dict[str, Any]) -> None:
    card = Card.model_validate({"prompt": "a fox", **given})
    assert (card.model_dump(exclude_none=True), card.notices) == ({"prompt": "a fox", **found}, ())


ARGUMENTS = {"prompt": "a fox", "seed": 7}


@pytest.mark.parametrize(
    "given",
    [json.dumps(ARGUMENTS), json.dumps(json.dumps(ARGUMENTS)), {"input": ARGUMENTS}, {"args": json.dumps(ARGUMENTS)},
     {"prompt": json.dumps(ARGUMENTS)}, {"prompt": "a fox", "seed": '"7"'}],
    ids=repr,
)  # fmt: skip
def test_json_in_json_is_decoded(given: Any) -> None:
    assert read(given) == ARGUMENTS


def test_unknown_arguments_are_left_out_with_a_notice() -> None:
    card = Card.model_validate({"prompt": "a fox", "quality": "hd", "n": 3, "text": "another", "size": "square"})
    assert (card.prompt, card.width) == ("a fox", None)
    assert card.notices == (
        "The argument 'quality' is unknown and was left out.",
        "The argument 'n' was left out: request each picture in its own call.",
        "The argument 'text' is unknown and was left out.",
        "The argument 'size' is unknown and was left out.",
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "prompt: Field required. Call again with arguments that fit the tool's schema."),
        ({"prompt": None}, "prompt: Input should be a valid string"),
        ({"prompt": "x", "seed": "many"}, "seed: Input should be a valid integer"),
        ({"prompt": "x", "size": "640x480", "width": 512}, "size is '640x480' and width is 512. Give one of"),
        ({"prompt": "x", "kind": "paint"}, "kind: Input should be 'text_to_image' or 'edit'"),
        ("a fox", "Input should be a valid dictionary"),
        ([1], "Input should be a valid dictionary"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ValidationError) as wrong:
        Card.model_validate(given)
    assert explain_arguments(wrong.value).startswith("The arguments of the call are wrong. ")
    assert message in explain_arguments(wrong.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from([*Card.model_fields, "size", "n", "steps", "input", "mood"])


@given(st.dictionaries(NAMES, JSON, max_size=6) | JSON)
def test_nothing_but_a_refusal_comes_of_odd_arguments(given: Any) -> None:
    try:
        card = Card.model_validate(given)
    except ValidationError as error:
        explain_arguments(error)
    else:
        assert Card.model_validate(card.model_dump(exclude_none=True)) == card


def test_text_that_is_no_json_stays() -> None:
    for text in ("a fox", "{a fox}", "[1", '"', "{" * 100_000):
        assert decode_json(text) == text

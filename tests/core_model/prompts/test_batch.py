"""Tests of sharing out pictures, options and padding."""

from typing import Any

import pytest

from mgem_agent.core_model.prompts.batch import (
    PromptBatchOptions,
    images_by_prompt,
    pad_rows,
    prompt_columns,
    split_options,
)
from mgem_agent.core_model.prompts.tokens import PromptTokens
from mgem_agent.errors import PromptError

TWO = ["a <image> b", "<image><image>"]
ADVICE = (
    "Give one picture for each '<image>'. "
    "In a dialogue, an image is a part of a message; a mark typed as text is removed."
)


@pytest.mark.parametrize(
    ("images", "counts", "expected"),
    [
        (None, [0], [[]]),
        ("x", [1], [["x"]]),
        (["x"], [1], [["x"]]),
        ([["x", "y"]], [2], [["x", "y"]]),
        (("x", "y"), [2], [["x", "y"]]),
        (["x", "y", "z"], [1, 2], [["x"], ["y", "z"]]),
        ([["x"], ["y", "z"]], [1, 2], [["x"], ["y", "z"]]),
        ([None, ("y", "z")], [0, 2], [[], ["y", "z"]]),
        (["x", ["y", "z"]], [1, 2], [["x"], ["y", "z"]]),
        ([[], []], [0, 0], [[], []]),
        ([], [0, 0], [[], []]),
    ],
)
def test_each_prompt_gets_its_pictures(images: Any, counts: list[int], expected: list[list[str]]) -> None:
    assert images_by_prompt(images, counts, ["p"] * len(counts), "<image>") == expected


@pytest.mark.parametrize(
    ("images", "counts", "prompts", "words"),
    [
        (None, [1], TWO[:1], "Prompt 1, 'a <image> b', needs 1 image(s), and 0 were given."),
        (["x", "y"], [1], TWO[:1], "Prompt 1, 'a <image> b', needs 1 image(s), and 2 were given."),
        (["x", "y"], [1, 2], TWO, "The 2 prompts need 3 images (1, 2), and 2 were given."),
        ([["x"], ["y"]], [1, 2], TWO, "Prompt 2, '<image><image>', needs 2 image(s), and 1 were given."),
        ([["x"]], [1, 2], TWO, "There are 2 prompts and 1 lists of images."),
        (None, [1], ["abcde" * 40], f"Prompt 1, '{'abcde' * 12}'…, needs 1 image(s), and 0 were given."),
    ],
)
def test_too_many_and_too_few_pictures(images: Any, counts: list[int], prompts: list[str], words: str) -> None:
    with pytest.raises(PromptError) as caught:
        images_by_prompt(images, counts, prompts, "<image>")
    assert str(caught.value).startswith(words)
    assert str(caught.value).endswith(ADVICE)


def test_options_are_sorted() -> None:
    options, image_options = split_options(
        {
            "padding": "max_length",
            "text_kwargs": {"max_length": 9},
            "images_kwargs": {"image_aspect_ratio": "square"},
            "common_kwargs": {"return_tensors": "np"},
        }
    )
    assert options == PromptBatchOptions(padding="max_length", max_length=9, return_tensors="np")
    assert image_options == {"image_aspect_ratio": "square"}
    assert split_options({}) == (PromptBatchOptions(), {})
    with pytest.raises(TypeError, match=r"^Unknown keyword 'do_resize', 'paddding'. Allowed: add_special_tokens, "):
        split_options({"paddding": True, "images_kwargs": {"do_resize": False}})


def test_keywords_of_transformers_that_ask_for_nothing_count_as_absent() -> None:
    neutral = {
        "return_token_type_ids": False,
        "stride": None,
        "videos": None,
        "videos_kwargs": {},
        "padding_side": None,
    }
    assert split_options(neutral) == (PromptBatchOptions(), {})
    with pytest.raises(TypeError, match="^Unknown keyword 'videos'"):
        split_options({"videos": ["film.mp4"]})


def test_a_batch_is_rounded_up_to_a_multiple() -> None:
    assert len(columns([1, 2, 3], [4], pad_to_multiple_of=8)["input_ids"][1]) == 8
    assert len(columns([1] * 8, pad_to_multiple_of=8)["input_ids"][0]) == 8


def test_padding() -> None:
    assert pad_rows([[1], [2, 3]], 3, 0, "left") == [[0, 0, 1], [0, 2, 3]]
    assert pad_rows([[1], [2, 3]], 3, 0, "right") == [[1, 0, 0], [2, 3, 0]]
    assert pad_rows([[1], [2, 3]], 0, 0, "left") == [[1], [2, 3]]


def columns(*rows: list[int], pad_ids: Any = (None, 7), **options: Any) -> dict[str, Any]:
    encoded = [PromptTokens(row, [(index, index + 1) for index in range(len(row))]) for row in rows]
    return prompt_columns(encoded, PromptBatchOptions(**options), pad_ids)


def test_columns() -> None:
    assert columns([1], [2, 3]) == {"input_ids": [[7, 1], [2, 3]], "attention_mask": [[0, 1], [1, 1]]}
    assert columns([1], [2, 3], padding_side="right")["attention_mask"] == [[1, 0], [1, 1]]
    assert columns([1], [2, 3], padding="max_length", max_length=3)["input_ids"] == [[7, 7, 1], [7, 2, 3]]
    assert columns([1], [2, 3], padding="max_length", max_length=1)["input_ids"] == [[7, 1], [2, 3]]
    assert columns([1], [2, 3], padding=False, return_tensors=None)["input_ids"] == [[1], [2, 3]]
    assert columns([1], [2, 3], return_offsets_mapping=True)["offset_mapping"] == [[(0, 0), (0, 1)], [(0, 1), (1, 2)]]
    assert columns([1], [2], pad_ids=(None,))["input_ids"] == [[1], [2]]
    assert columns([1, 2], truncation=True, max_length=2)["input_ids"] == [[1, 2]]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pad_ids": ()}, "The tokenizer has no padding token and no EOS to pad prompts of different lengths with."),
        (
            {"padding": False},
            "Prompts of different lengths cannot form a tensor. Use padding=True, or return_tensors=None.",
        ),
        ({"padding": "max_length"}, "padding='max_length' needs max_length. Give it, or use padding=True."),
        (
            {"truncation": True, "max_length": 1},
            "A prompt has 2 tokens and max_length is 1. It is not truncated, because that would lose part of an "
            "image or of the last turn. Shorten it, or raise max_length.",
        ),
    ],
)
def test_batches_that_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(PromptError) as caught:
        columns([1], [2, 3], **options)
    assert str(caught.value).startswith(words)

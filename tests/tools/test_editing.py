"""Changing a picture: drawn by the way that is planned, with what it cost in the result."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from PIL import Image

from mgem_agent.errors import GenerationCancelledError, GeneratorOutputError, InputError, UnsupportedRequestError
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools import Capabilities, EditRequest, GenerationProgress, edit_image

PICTURES = {"fox": Image.new("RGB", (32, 32), "red"), "hole": Image.new("L", (32, 32), 0)}


def edited(generator: FlatColourGenerator, **fields: Any) -> Any:
    options = {name: fields.pop(name) for name in ("cancel", "on_progress", "strict") if name in fields}
    edit = EditRequest(**{"instruction": "make it night", "image": "fox", **fields})
    return edit_image(generator, edit, pictures=PICTURES, **options)


def test_the_picture_is_changed_by_the_way_that_is_meant() -> None:
    generator = FlatColourGenerator(size=(32, 32), num_steps=2)
    steps: list[GenerationProgress] = []
    outcome = edited(generator, seed=5, on_progress=steps.append)
    assert (outcome.way, outcome.is_fallback, outcome.result.notices) == ("edit", False, ())
    assert outcome.result.image.size == (32, 32)
    assert generator.drawn[0].task == "edit" and generator.drawn[0].seed == 5
    assert [step.step for step in steps] == [1, 2]


def test_a_mask_keeps_what_it_does_not_cover() -> None:
    outcome = edited(FlatColourGenerator(size=(32, 32)), mask="hole")
    assert outcome.way == "inpaint" and outcome.result.executed.mask == "hole"
    assert outcome.result.image.getpixel((0, 0)) == (255, 0, 0)


def test_the_result_says_that_another_way_was_taken_and_what_else_was_changed() -> None:
    generator = FlatColourGenerator(capabilities=Capabilities(tasks={"image_to_image"}))  # type: ignore[arg-type]
    outcome = edited(generator, fallbacks=("inpaint", "image_to_image"), seed=5)
    assert (outcome.way, outcome.is_fallback) == ("image_to_image", True)
    assert [notice.argument for notice in outcome.result.notices] == ["task", "seed"]
    assert outcome.result.notices[1].message == "flat does not support seed; it was left out."


def test_nothing_is_drawn_where_no_way_is_left() -> None:
    generator = FlatColourGenerator(capabilities=Capabilities())
    with pytest.raises(UnsupportedRequestError, match=r"^Generator 'flat' cannot edit .* It supports text_to_image"):
        edited(generator, fallbacks=("inpaint", "image_to_image"))
    assert generator.num_batches == 0


def test_a_drawing_that_fails_takes_no_other_way() -> None:
    generator = FlatColourGenerator(fail_on="night")
    with pytest.raises(GeneratorOutputError, match=r"The card 'make it night' came out blank"):
        edited(generator, fallbacks=("image_to_image",))
    assert generator.num_batches == 1


def test_a_picture_that_is_not_given_is_named() -> None:
    with pytest.raises(InputError, match=r"names picture\(s\) 'none', which are missing"):
        edited(FlatColourGenerator(), image="none")


def test_it_can_be_stopped() -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(GenerationCancelledError, match="cancelled"):
        edited(FlatColourGenerator(), cancel=cancel)

"""Requests to draw."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest

from mgem_agent.recipes.eval.agent.prompts import EvalPrompt


@pytest.fixture
def requests() -> list[EvalPrompt]:
    """Two requests with two questions each."""
    return [
        EvalPrompt(
            prompt=f"{number} cats",
            atom_count=2,
            vqa_list=(("How many cats are in the image?", number), ("Are there any cats in the image?", "Yes")),
            skills=("count", "object"),
        )
        for number in ("two", "three")
    ]


@pytest.fixture
def warnings_of_others() -> Iterator[None]:
    """Let TRL and its libraries warn; our own warnings are errors elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

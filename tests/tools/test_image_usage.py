"""The tokens in a server's answer."""

from __future__ import annotations

from typing import Any

import pytest

from mgem_agent.tools.image_usage import ImageUsage, read_image_usage


@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        ({"usage": {"input_tokens": 9, "output_tokens": 272}}, ImageUsage(9, 0, 272)),
        (
            {"usage": {"input_tokens": 70, "input_tokens_details": {"image_tokens": 60}, "output_tokens": 5}},
            ImageUsage(10, 60, 5),
        ),
        ({"usage": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}}, None),
        ({"usage": {"input_tokens": "many", "output_tokens": None}}, None),
        ({"usage": "unknown"}, None),
        ({"data": []}, None),
        ("text", None),
    ],
)
def test_what_can_be_read(answer: Any, usage: ImageUsage | None) -> None:
    assert read_image_usage(answer) == usage


def test_the_sum() -> None:
    assert sum([ImageUsage(1, 2, 3), ImageUsage(4, 5, 6)], ImageUsage()) == ImageUsage(5, 7, 9)

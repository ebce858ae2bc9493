"""What a server's error says, in words."""

from __future__ import annotations

from typing import Any

import pytest

from mgem_agent.tools.servers.server_answer import MAX_MESSAGE_CHARS, message_of

WIDTH = {"type": "multiple_of", "loc": ["body", "width"], "msg": "Input should be a multiple of 8", "input": 30}
STEPS = {"type": "missing", "loc": ["body", "steps"], "msg": "Field required"}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"detail": "Not Found"}, "Not Found"),
        (
            {"detail": [WIDTH, STEPS]},
            "body.width: Input should be a multiple of 8; body.steps: Field required",
        ),
        ({"detail": {"msg": "No such model"}}, "No such model"),
        ({"errors": ["too wide", {"message": "too high."}]}, "too wide; too high"),
        ({"error": {"message": "size?"}}, "size?"),
        ({"error": "HTTPException", "detail": "Sampler not found", "body": "", "errors": ""}, "Sampler not found"),
        ({"error": "OutOfMemoryError", "detail": "", "errors": "CUDA out of memory"}, "CUDA out of memory"),
        ({"message": "Value not in list", "details": "ckpt_name"}, "Value not in list"),
        ({"detail": [], "code": 7}, '{"detail": [], "code": 7}'),
        ([{"loc": "body", "msg": "bad\nvalue"}], "bad value"),
        ("<html><body>x", "an HTML page"),
        ("", "no reason given"),
    ],
)
def test_an_error_keeps_its_words(data: Any, words: str) -> None:
    assert message_of(data) == words


def test_long_and_deep_errors_are_cut() -> None:
    assert len(message_of({"detail": [WIDTH] * 100})) <= MAX_MESSAGE_CHARS + 1
    deep: Any = "x"
    for _ in range(20):
        deep = {"error": [deep]}
    assert message_of(deep).startswith('{"error": [{"error"')

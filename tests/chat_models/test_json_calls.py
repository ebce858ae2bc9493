"""Calls in JSON are read however the text is cut, and nothing is lost."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mgem_agent.chat_models.json_calls import JsonCall, JsonCallParser, render_call

PARTS = (
    "<tool_call>",
    "</tool_call>",
    '{"name": "f", "arguments": {"a": "ä"}}',
    '{"name": "f"',
    "<tool",
    "x",
    " ",
    "}",
)


def read(text: str, size: int) -> list[str | JsonCall]:
    parser = JsonCallParser()
    found = [item for at in range(0, len(text), size) for item in parser.feed(text[at : at + size])]
    return [*found, *parser.close()]


def joined(items: list[str | JsonCall]) -> list[str | JsonCall]:
    result: list[str | JsonCall] = []
    for item in items:
        if isinstance(item, str) and result and isinstance(result[-1], str):
            result[-1] += item
        else:
            result.append(item)
    return result


@given(st.lists(st.sampled_from(PARTS), max_size=8).map("".join), st.integers(1, 20))
@example("<tool_call><tool_call>" + PARTS[2] + "</tool_call>", 3)
def test_cuts_change_nothing(text: str, size: int) -> None:
    assert joined(read(text, size)) == joined(read(text, max(1, len(text))))


@given(st.text(alphabet="<tol_ca>/{}", max_size=60))
def test_text_without_a_call_is_kept(text: str) -> None:
    if "<tool_call>" not in text:
        assert "".join(str(item) for item in read(text, 4)) == text


@pytest.mark.parametrize(
    ("body", "call"),
    [
        ('{"name": "f", "arguments": {"a": 1}}', JsonCall("f", '{"a": 1}')),
        ('{"name": "f", "parameters": {"a": 1}}', JsonCall("f", '{"a": 1}')),
        ('{"name": "f"}', JsonCall("f", "{}")),
        ('```json\n{"name": "f", "arguments": {"a": "ä"}}\n```', JsonCall("f", '{"a": "ä"}')),
        ('{"name": "f", "arguments": {"a": 1}', JsonCall("f", '{"a": 1}')),
        ('{"name": 3}', JsonCall("", '{"name": 3}')),
        ("f(1)", JsonCall("", "f(1)")),
        ("[" * 100_000, JsonCall("", "[" * 100_000)),
        ('{"a":' * 100_000, JsonCall("", '{"a":' * 100_000)),
    ],
)
def test_a_call_is_read_or_handed_on_as_it_stands(body: str, call: JsonCall) -> None:
    assert read(f"<tool_call>{body}</tool_call>", 1000) == [call]
    assert read(f"<tool_call>{body}", 1000) == [call]


def test_what_is_written_is_read_again() -> None:
    assert read(render_call("f", {"a": "ä"}), 5) == [JsonCall("f", '{"a": "ä"}')]


def test_many_beginnings_take_no_long_time() -> None:
    start = time.process_time()
    read("<tool" * 40_000, 50)
    assert time.process_time() - start < 2

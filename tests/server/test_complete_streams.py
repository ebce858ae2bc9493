"""Responses that are ended without their end."""

from __future__ import annotations

from typing import Any

import pytest

from mgem_agent.server.complete_streams import CompleteStreams

START = {"type": "http.response.start", "status": 200, "headers": []}
PIECE = {"type": "http.response.body", "body": b"x", "more_body": True}
END = {"type": "http.response.body", "body": b"", "more_body": False}


@pytest.mark.parametrize(
    ("given", "sent"),
    [([START, PIECE], [START, PIECE, END]), ([START, PIECE, END], [START, PIECE, END]), ([], [])],
)
async def test_the_end_is_sent_once(given: list[Any], sent: list[Any]) -> None:
    found: list[Any] = []

    async def send(message: Any) -> None:
        found.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in given:
            await send(message)

    await CompleteStreams(app)({"type": "http"}, receive, send)
    assert found == sent

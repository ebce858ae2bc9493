"""The parts of a server."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from mgem_agent.errors import InputError
from mgem_agent.mcp.parts import run_in_thread
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner


def test_a_generator_is_made_once_and_only_if_it_is_offered(make_parts: Any) -> None:
    made: list[str] = []

    def make(name: str) -> FlatColourGenerator:
        made.append(name)
        return FlatColourGenerator()

    parts = make_parts(make_generator=make)
    assert parts.generator() is parts.generator("flat") and made == ["flat"]
    with pytest.raises(InputError, match="Available: flat, charged"):
        parts.generator("openai:m@http://evil.example/v1")


def test_a_record_without_the_address_finds_its_generator(make_parts: Any) -> None:
    name = "openai:m@http://10.0.0.7/v1"
    generator = FlatColourGenerator()
    parts = make_parts(generators=(name,), make_generator=lambda asked: generator)
    assert parts.recorded_generator("openai:m") is generator
    with pytest.raises(InputError, match="which is not available here"):
        parts.recorded_generator("nano")


def test_the_chat_model_is_made_once(make_parts: Any) -> None:
    parts = make_parts(reasoner=lambda: ScriptedReasoner(script=[]))
    assert parts.chat_model() is parts.chat_model()
    with pytest.raises(InputError, match="Start it with --model"):
        make_parts().chat_model()


async def test_cancelling_sets_the_event_of_the_work() -> None:
    begun, stopped, told = threading.Event(), threading.Event(), threading.Event()

    def work(cancel: threading.Event) -> None:
        begun.set()
        if cancel.wait(10):
            stopped.set()

    running = asyncio.create_task(run_in_thread("draw", work, on_cancel=told.set))
    await asyncio.to_thread(begun.wait, 10)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await asyncio.to_thread(stopped.wait, 10) and told.is_set()

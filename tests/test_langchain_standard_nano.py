"""LangChain's own suite for chat models over the real nano.

It needs nano's language model in the cache (run `mgem chat` once) and some minutes. What is marked, nano
cannot do: name the keys of an object without a schema, decide by itself to call a tool, copy Japanese
or a number.
"""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from PIL import Image

from mgem_agent import ChatMiniGemini
from mgem_agent.nano.language_model import SMOLLM2, nano_cache
from mgem_agent.nano.reasoner import make_nano_reasoner

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not any(nano_cache().glob(f"{SMOLLM2.name}-*")), reason="nano was never fetched here"),
]


_NANO = make_nano_reasoner()
"""One model for all tests: its weights take seconds to load."""


class TestNano(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatMiniGemini

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "nano", "temperature": 0, "engine_factory": lambda name: _NANO.text_engine(name)}

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_image_tool_message(self) -> bool:
        return True

    @property
    def supports_json_mode(self) -> bool:
        return False  # it writes JSON, with keys of its own where no schema names them

    @pytest.mark.xfail(reason="nano does not decide by itself to call a tool.", strict=False)
    def test_agent_loop(self, model: BaseChatModel) -> None:
        super().test_agent_loop(model)

    @pytest.mark.xfail(reason="nano writes 300 where it is asked for 3.", strict=False)
    def test_tool_calling(self, model: BaseChatModel) -> None:
        super().test_tool_calling(model)

    @pytest.mark.xfail(reason="nano writes 300 where it is asked for 3.", strict=False)
    async def test_tool_calling_async(self, model: BaseChatModel) -> None:
        await super().test_tool_calling_async(model)

    @pytest.mark.xfail(reason="One of nano's jokes is longer than its answer may be.", strict=False)
    def test_structured_output_optional_param(self, model: BaseChatModel) -> None:
        super().test_structured_output_optional_param(model)

    @pytest.mark.xfail(reason="nano does not copy Japanese.", strict=False)
    def test_unicode_tool_call_integration(self, model: BaseChatModel, **options: Any) -> None:
        super().test_unicode_tool_call_integration(model)

    @pytest.fixture(autouse=True)
    def picture_of_the_suite(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Give the suite a picture, which it would fetch otherwise."""
        buffer = io.BytesIO()
        Image.new("RGB", (8, 6), "teal").save(buffer, "PNG")
        answer = SimpleNamespace(content=buffer.getvalue())
        monkeypatch.setattr("langchain_tests.integration_tests.chat_models.httpx.get", lambda *_, **__: answer)

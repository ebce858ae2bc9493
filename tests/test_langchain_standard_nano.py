"""LangChain's own suite for chat models over the real nano.

It needs nano's language model in the cache (run `mgem chat` once) and some minutes. What fails, a model of this size
cannot do; see `CANNOT`.
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


class TestNano(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatMiniGemini

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "nano", "temperature": 0}

    @pytest.fixture(scope="class")
    def nano(self) -> BaseChatModel:
        """One model for all tests: its weights take seconds to load."""
        return make_nano_reasoner(temperature=0, max_tokens=200)

    @pytest.fixture
    def model(self, nano: BaseChatModel) -> BaseChatModel:
        return nano

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_image_tool_message(self) -> bool:
        return True

    @property
    def supports_json_mode(self) -> bool:
        return True

    @pytest.fixture(autouse=True)
    def picture_of_the_suite(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Give the suite a picture, which it would fetch otherwise."""
        buffer = io.BytesIO()
        Image.new("RGB", (8, 6), "teal").save(buffer, "PNG")
        answer = SimpleNamespace(content=buffer.getvalue())
        monkeypatch.setattr("langchain_tests.integration_tests.chat_models.httpx.get", lambda *_, **__: answer)

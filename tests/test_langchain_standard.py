"""LangChain's own suites for chat models, over a script where a tiny model would not do what they ask.

The script stands at the edge, where the core model writes text: messages, prompts, parsing and chunks are real.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests
from PIL import Image

from mgem_agent import ChatMiniGemini
from mgem_agent.chat_models.text_engine import TextEnd, TextRequest
from mgem_agent.core_model.image_loading import load_image

VALUES: dict[str, Any] = {"integer": 3, "number": 3, "boolean": True, "array": [], "object": {}, "null": None}


class ObedientEngine:
    """Writes what an able model would: the call that it is told to make, with a value for each argument."""

    def stream(self, request: TextRequest) -> Iterator[str | TextEnd]:
        text = self.answer(request)
        for start in range(0, len(text), 5):
            yield text[start : start + 5]
        yield TextEnd(input_tokens=12, output_tokens=5)

    def answer(self, request: TextRequest) -> str:
        system = request.dialogue[0]["content"] if request.dialogue[0]["role"] == "system" else ""
        last = request.dialogue[-1]["content"]
        for part in last if isinstance(last, list) else ():
            if part["type"] == "image":
                load_image(part["image"])
        said = last if isinstance(last, str) else " ".join(part.get("text", "") for part in last)
        if request.prefill == "{":
            return '"setup": "Why do cats purr?", "punchline": "They are pleased."} And more.'
        tools = [
            json.loads(line) for line in system.splitlines() if line.startswith('{"name"') and "parameters" in line
        ]
        if not tools or "Result of" in said or "Error of" in said:
            return "Hello, this is an answer."
        tool = tools[0]
        arguments = json.dumps(self.arguments(tool["parameters"], said), ensure_ascii=False)
        whole = f'<tool_call>\n{{"name": "{tool["name"]}", "arguments": {arguments}}}\n</tool_call>'
        assert whole.startswith(request.prefill)
        return whole.removeprefix(request.prefill)

    def arguments(self, parameters: dict[str, Any], said: str) -> dict[str, Any]:
        quoted = re.search("'(.+?)'", said)
        text = quoted[1] if quoted else "some words"
        return {
            name: VALUES.get(field.get("type", "string"), text)
            for name, field in parameters.get("properties", {}).items()
        }


def scripted(model_name: str) -> ObedientEngine:
    return ObedientEngine()


class TestUnit(ChatModelUnitTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatMiniGemini

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "YanweiLi/MGM-2B"}  # never loaded


class TestIntegration(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatMiniGemini

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "YanweiLi/MGM-2B", "engine_factory": scripted}

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_image_tool_message(self) -> bool:
        return True

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str | None:
        return "YanweiLi/MGM-7B"

    @pytest.fixture(autouse=True)
    def picture_of_the_suite(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Give the suite a picture, which it would fetch otherwise."""
        buffer = io.BytesIO()
        Image.new("RGB", (8, 6), "teal").save(buffer, "PNG")
        answer = SimpleNamespace(content=buffer.getvalue())
        monkeypatch.setattr("langchain_tests.integration_tests.chat_models.httpx.get", lambda *_, **__: answer)

"""`nano` as a chat model, which sees if its vision weights are installed.

Nothing is downloaded or loaded before the first request.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage
from pydantic import Field

from mgem_agent.chat_models.chat_model import GenProtocolModel
from mgem_agent.chat_models.langchain_messages import user_text
from mgem_agent.chat_models.mini_gemini import ChatMiniGemini
from mgem_agent.chat_models.text_engine import TextEngine
from mgem_agent.device_memory.model_size import ModelSize
from mgem_agent.extras import require_packages
from mgem_agent.gen.tool_calls import DRAW_TOOL_NAME, DrawMode
from mgem_agent.nano.drawing_intent import DrawingIntent, read_drawing_intent
from mgem_agent.nano.foreign_warnings import without_foreign_warnings
from mgem_agent.nano.requested_caption import read_description
from mgem_agent.nano.text_only import TextOnlyEngine, load_text_only
from mgem_agent.nano.tool_intent import named_tool
from mgem_agent.nano.vision_language import has_vision_weights, load_nano
from mgem_agent.prompts import render_prompt

__all__ = ["NanoChat", "NanoTextChat", "make_nano_reasoner"]


class NanoChat(ChatMiniGemini):
    """nano, whose mode `auto` follows :mod:`mgem_agent.nano.drawing_intent`."""

    language_model: str | os.PathLike[str] | None = Field(default=None, exclude=True, repr=False)
    """Source of the language model; only for its size."""

    def memory_size(self, name: str) -> ModelSize | None:
        """Return what nano needs; None before its first use, which puts it together.

        Args:
            name: `nano`.
        """
        from mgem_agent.nano.vision_language import nano_size

        return nano_size(self.language_model)

    def auto_draw_mode(self, messages: Sequence[BaseMessage]) -> DrawMode:
        """Return `always` or `never` if the user's words are clear; after a tool result, the model decides.

        Args:
            messages: The dialogue.
        """
        if not messages or not isinstance(messages[-1], HumanMessage):
            return "auto"
        modes: dict[DrawingIntent, DrawMode] = {"draw": "always", "words": "never", "open": "auto"}
        return modes[read_drawing_intent(user_text(messages))]

    def caption_start(self, messages: Sequence[BaseMessage]) -> str:
        """Return the description that the user gave of the picture, with a comma; nano would leave parts of it out.

        Args:
            messages: The dialogue.
        """
        if not messages or not isinstance(messages[-1], HumanMessage):
            return ""
        if any(block["type"] == "image" for block in messages[-1].content_blocks):
            return ""  # the request may be about that picture
        is_first = sum(isinstance(message, HumanMessage) for message in messages) == 1
        described = read_description(user_text(messages), is_first=is_first)
        return described and f"{described},"

    def auto_tool_choice(self, messages: Sequence[BaseMessage], tools: Sequence[Mapping[str, Any]]) -> str:
        """Return the tool that the user's words name or ask for; otherwise the model decides, and answers in words.

        Args:
            messages: The dialogue.
            tools: The bound tools, in OpenAI's form.
        """
        if not messages or not isinstance(messages[-1], HumanMessage):
            return "auto"
        text = user_text(messages)
        others = [tool for tool in tools if tool["function"]["name"] != DRAW_TOOL_NAME]
        named = named_tool(text, others)
        if named is None and len(others) < len(tools) and read_drawing_intent(text) == "draw":
            return DRAW_TOOL_NAME
        return named or "auto"

    def forbids_tags(self) -> bool:
        """Return true: otherwise nano might answer with a caption only, and no text would be left."""
        return True

    def needs_grammar(self) -> bool:
        """Return whether nano can follow a grammar: freely, it forgets the premise of a story after two sentences."""
        return self.follows_grammar()


class NanoTextChat(NanoChat):
    """The language model alone. It was not trained on `<GEN>`, so plain words ask for a picture."""

    def fixed_instructions(self) -> Sequence[str]:
        """Return its system prompt."""
        return (render_prompt("nano"),)

    def caption_start(self, messages: Sequence[BaseMessage]) -> str:
        """Return nothing: captions are written from examples."""
        return ""


def make_nano_reasoner(
    *,
    language_model: str | os.PathLike[str] | None = None,
    offline: bool | None = None,
    exact: bool = False,
    **options: Any,
) -> GenProtocolModel:
    """Return nano as a chat model.

    Args:
        language_model: Source of the language model; see :func:`find_language_model`.
        offline: Whether downloads are forbidden; by default from the environment.
        exact: Whether PyTorch computes every token, without the compiled code for a CPU.
        **options: Fields of :class:`ChatMiniGemini`.

    Raises:
        MissingDependencyError: If the extra `local` is not installed.
    """
    require_packages("The reasoner 'nano'", *ChatMiniGemini.REQUIRES)
    sees = has_vision_weights()
    where: dict[str, Any] = {"language_model": language_model, "offline": offline, "exact": exact}

    def make_engine(name: str) -> TextEngine:
        with without_foreign_warnings():
            from mgem_agent.chat_models.core_engine import CoreEngine

            if sees:
                return CoreEngine(*load_nano(**where), max_dialogues=max_dialogues)
            return TextOnlyEngine(CoreEngine(*load_text_only(**where), max_dialogues=max_dialogues))

    made = (NanoChat if sees else NanoTextChat)(**{"model": "nano", **options, "engine_factory": make_engine})
    made.language_model = language_model
    max_dialogues = made.max_dialogues
    return made

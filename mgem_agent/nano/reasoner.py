"""`nano` as a chat model: with eyes where its vision weights are installed, of text alone where they are not.

Nothing is fetched or loaded before the first answer is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage

from mgem_agent.chat_models.chat_model import GenProtocolModel
from mgem_agent.chat_models.langchain_messages import user_text
from mgem_agent.chat_models.mini_gemini import ChatMiniGemini
from mgem_agent.chat_models.text_engine import TextEngine
from mgem_agent.extras import require_packages
from mgem_agent.gen.tool_calls import DrawMode
from mgem_agent.nano.drawing_intent import DrawingIntent, read_drawing_intent
from mgem_agent.nano.foreign_warnings import without_foreign_warnings
from mgem_agent.nano.text_only import TextOnlyEngine, load_text_only
from mgem_agent.nano.vision_language import has_vision_weights, load_nano
from mgem_agent.prompts import render_prompt

__all__ = ["NanoChat", "NanoTextChat", "make_nano_reasoner"]


class NanoChat(ChatMiniGemini):
    """nano, which draws in the mode `auto` as :mod:`mgem_agent.nano.drawing_intent` reads the user's words."""

    def auto_draw_mode(self, messages: Sequence[BaseMessage]) -> DrawMode:
        """Return `always` or `never` where the user's words are clear; what a tool returned is left to the model.

        Args:
            messages: The dialogue.
        """
        if not messages or not isinstance(messages[-1], HumanMessage):
            return "auto"
        modes: dict[DrawingIntent, DrawMode] = {"draw": "always", "words": "never", "open": "auto"}
        return modes[read_drawing_intent(user_text(messages))]

    def forbids_tags(self) -> bool:
        """Return true: nano would answer with a caption alone, which leaves no words."""
        return True


class NanoTextChat(NanoChat):
    """The language model alone. As it knows no trigger, plain words that ask for a picture stand for it."""

    def fixed_instructions(self) -> Sequence[str]:
        """Return what it is told of itself."""
        return (render_prompt("nano"),)


def make_nano_reasoner(
    *,
    language_model: str | os.PathLike[str] | None = None,
    offline: bool | None = None,
    exact: bool = False,
    **options: Any,
) -> GenProtocolModel:
    """Return nano as a chat model.

    Args:
        language_model: Where to take the language model from; see :func:`find_language_model`.
        offline: Whether nothing may be fetched; by default as the environment says.
        exact: Whether the float32 weights write each token; by default the same in fewer bits do, which is quicker and
            says something else now and then.
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
    max_dialogues = made.max_dialogues
    return made

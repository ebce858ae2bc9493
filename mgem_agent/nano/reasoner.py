"""`nano` as a chat model: with eyes where its vision weights are installed, of text alone where they are not.

Nothing is fetched or loaded before the first answer is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from mgem_agent.chat_mini_gemini import ChatMiniGemini
from mgem_agent.json_calls import load_prompt
from mgem_agent.nano.vision_language import has_eyes, load_nano
from mgem_agent.protocol_model import GenProtocolModel
from mgem_agent.text_engine import TextEngine

__all__ = ["NanoTextChat", "make_nano_reasoner"]


class NanoTextChat(ChatMiniGemini):
    """The language model alone, which is told the `<GEN>` protocol, as it was not taught it."""

    def fixed_instructions(self) -> Sequence[str]:
        """Return the protocol, as it is told to the model."""
        return (load_prompt("drawing"),)


def make_nano_reasoner(
    *, language_model: str | os.PathLike[str] | None = None, offline: bool | None = None, **options: Any
) -> GenProtocolModel:
    """Return nano as a chat model.

    Args:
        language_model: Where to take the language model from; see :func:`find_language_model`.
        offline: Whether nothing may be fetched; by default as the environment says.
        **options: Fields of :class:`ChatMiniGemini`.
    """
    sees = has_eyes()

    def make_engine(name: str) -> TextEngine:
        from mgem_agent.core_engine import CoreEngine
        from mgem_agent.nano.text_only import TextOnlyEngine, load_text_only

        if sees:
            return CoreEngine(*load_nano(language_model=language_model, offline=offline), max_dialogues=max_dialogues)
        loaded = load_text_only(language_model=language_model, offline=offline)
        return TextOnlyEngine(CoreEngine(*loaded, max_dialogues=max_dialogues))

    made = (ChatMiniGemini if sees else NanoTextChat)(**{"model": "nano", **options, "engine_factory": make_engine})
    max_dialogues = made.max_dialogues
    return made

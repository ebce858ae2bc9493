"""Accept the parts of an agent as objects or by name."""

from __future__ import annotations

import os
from typing import Any

from langchain_core.language_models import BaseChatModel

from mgem_agent.errors import InputError
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.registry import make_generator

__all__ = ["generator_of", "reasoner_of"]


def reasoner_of(given: Any) -> BaseChatModel:
    """Return a reasoner, created by name if a name is given.

    Args:
        given: A chat model, or a name for `make_reasoner`.

    Raises:
        InputError: If it is neither.
    """
    if isinstance(given, BaseChatModel):
        return given
    if isinstance(given, (str, os.PathLike)):
        from mgem_agent.reasoners import make_reasoner

        return make_reasoner(given)
    raise InputError(
        f"The reasoner is a {type(given).__name__!r}. Give a LangChain chat model, or a name such as 'nano' or "
        "'openai:gpt-5'."
    )


def generator_of(given: Any) -> ImageGenerator:
    """Return a generator, created by name if a name is given.

    Args:
        given: A generator, or a name for `make_generator`.

    Raises:
        InputError: If it is neither.
    """
    if isinstance(given, str):
        return make_generator(given)
    if callable(getattr(type(given), "generate", None)):
        found: ImageGenerator = given
        return found
    raise InputError(
        f"The generator is a {type(given).__name__!r}. Give an image generator, or a name such as 'nano' or "
        "'diffusers:stabilityai/sdxl-turbo'."
    )

"""Which part of a premise the grammars of a story keep, for a reasoner that needs it."""

from __future__ import annotations

import re
from dataclasses import replace

from langchain_core.language_models import BaseChatModel

from mgem_agent.chat_models.chat_model import GenProtocolModel
from mgem_agent.workflows.premise import Premise, read_premise
from mgem_agent.workflows.story_recipe import StoryRecipe

__all__ = ["kept_premise"]

ARTICLE = re.compile(r"^(?:the|an?)\s+", re.IGNORECASE)


def kept_premise(
    recipe: StoryRecipe, reasoner: BaseChatModel | None, *, is_wanted: bool | None = None
) -> Premise | None:
    """Return what the grammars of a story must keep; None if its reasoner writes freely.

    Args:
        recipe: The recipe. Only the premise of an English story can be read.
        reasoner: The chat model that writes.
        is_wanted: Whether grammars are wanted; None if the reasoner needs them.
    """
    is_english = recipe.language.lower().split("-")[0] == "en"
    if recipe.kind != "story" or not is_english or not isinstance(reasoner, GenProtocolModel) or is_wanted is False:
        return None
    premise = read_premise(recipe.premise or "")
    if premise is None or not (reasoner.follows_grammar() if is_wanted else reasoner.needs_grammar()):
        return None
    hero = next((each.name for each in recipe.cast), premise.hero)
    return replace(premise, hero=ARTICLE.sub("", hero))

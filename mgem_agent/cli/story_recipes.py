"""Read the argument of `mgem story`: a recipe file, the name of a built-in recipe, or a premise."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mgem_agent.errors import InputError
from mgem_agent.recipes.stories import story_recipe_files
from mgem_agent.user_files import user_path

if TYPE_CHECKING:
    from mgem_agent.workflows import StoryRecipe

__all__ = ["ENDINGS", "find_recipe"]

ENDINGS = (".yaml", ".yml", ".json")
"""How the name of a recipe's file ends."""
BARE_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def find_recipe(words: str) -> tuple[StoryRecipe, Path]:
    """Return a recipe, and the folder that its picture paths are relative to.

    Args:
        words: A file name that ends in .yaml, .yml or .json; the name of a built-in recipe; otherwise a premise.

    Raises:
        InputError: If the file is not a valid recipe, or a single word is not the name of a recipe.
    """
    from mgem_agent.workflows import load_story_recipe
    from mgem_agent.workflows.recipe_options import validated_recipe

    text = words.strip()
    shipped = story_recipe_files()
    if text.lower().endswith(ENDINGS):
        path = user_path(text)
        return load_story_recipe(path), path.parent
    if text in shipped:
        return load_story_recipe(shipped[text]), shipped[text].parent
    if BARE_NAME.fullmatch(text) or not text:
        close = difflib.get_close_matches(text, shipped, n=1)
        guess = f" Did you mean {close[0]!r}?" if close else ""
        raise InputError(
            f"There is no story recipe {text!r}.{guess} Built-in recipes: {', '.join(shipped)}. You can also give a "
            f"recipe file, or a premise of several words."
        )
    return validated_recipe({"premise": text}), Path()

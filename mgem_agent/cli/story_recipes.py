"""From what a person writes after `mgem story` to a recipe: a file, the name of one that is shipped, or a premise."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgem_agent.errors import InputError
from mgem_agent.recipes.stories import story_recipe_files
from mgem_agent.user_files import user_path

if TYPE_CHECKING:
    from mgem_agent.workflows import StoryRecipe

__all__ = ["ENDINGS", "find_recipe", "has_everything", "with_options"]

ENDINGS = (".yaml", ".yml", ".json")
"""How the name of a recipe's file ends."""
BARE_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def find_recipe(words: str) -> tuple[StoryRecipe, Path]:
    """Return a recipe, and the folder that its pictures are looked for in.

    Args:
        words: A file whose name ends in .yaml, .yml or .json; the name of a shipped recipe; else a premise.

    Raises:
        InputError: If the file cannot be told, or a single word names nothing.
    """
    from mgem_agent.workflows import StoryRecipe, load_story_recipe

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
            f"There is no story recipe {text!r}.{guess} Shipped: {', '.join(shipped)}. Or give a recipe's file, or a "
            f"premise of some words."
        )
    return _validated({"premise": text}, StoryRecipe), Path()


def has_everything(recipe: StoryRecipe) -> bool:
    """Whether nothing is left to write, so that a story needs no reasoner and costs none."""
    is_told = bool(recipe.title) and all(scene.text and scene.caption for scene in recipe.scene_recipes)
    has_cast = recipe.kind != "story" or bool(recipe.cast)
    return is_told and has_cast and all(member.looks for member in recipe.cast)


def with_options(recipe: StoryRecipe, folder: Path, options: dict[str, Any], defaults: dict[str, Any]) -> StoryRecipe:
    """Return a recipe with what the command line gave, and with what is settled where the recipe says nothing.

    Args:
        recipe: The recipe.
        folder: Where its pictures are.
        options: By the recipe's keys; None was not given, and what is given goes before the recipe.
        defaults: By the recipe's keys; the recipe goes before them.

    Raises:
        InputError: If an option is out of its range, or a count is given for scenes that are written out.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if "scenes" in given and not isinstance(recipe.scenes, int) and given["scenes"] != len(recipe.scenes):
        raise InputError(
            f"The recipe writes out its {len(recipe.scenes)} scenes, and {given['scenes']} were asked for. Leave out "
            f"--scenes, or change the recipe."
        )
    if not isinstance(recipe.scenes, int):
        given.pop("scenes", None)
    stated = recipe.model_dump(exclude_unset=True)
    changed = _validated({**defaults, **stated, **given}, type(recipe))
    return changed.in_folder(folder)


def _validated(fields: dict[str, Any], kind: type[StoryRecipe]) -> StoryRecipe:
    from pydantic import ValidationError

    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "recipe"
        message = str(first["msg"]).removeprefix("Value error, ")
        raise InputError(f"The story cannot be told: {where}: {message}. Run: mgem story schema") from error

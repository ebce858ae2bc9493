"""Read the argument of `mgem story`: a recipe file, the name of a built-in recipe, or a premise."""

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
    """Return a recipe, and the folder that its picture paths are relative to.

    Args:
        words: A file name that ends in .yaml, .yml or .json; the name of a built-in recipe; otherwise a premise.

    Raises:
        InputError: If the file is not a valid recipe, or a single word is not the name of a recipe.
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
            f"There is no story recipe {text!r}.{guess} Built-in recipes: {', '.join(shipped)}. You can also give a "
            f"recipe file, or a premise of several words."
        )
    return _validated({"premise": text}, StoryRecipe), Path()


def has_everything(recipe: StoryRecipe) -> bool:
    """Whether the recipe contains all texts and captions, so that no reasoner is needed."""
    is_told = bool(recipe.title) and all(scene.text and scene.caption for scene in recipe.scene_recipes)
    has_cast = recipe.kind != "story" or bool(recipe.cast)
    return is_told and has_cast and all(member.looks for member in recipe.cast)


def with_options(recipe: StoryRecipe, folder: Path, options: dict[str, Any], defaults: dict[str, Any]) -> StoryRecipe:
    """Return a recipe with the options of the command line, and with defaults for keys that the recipe leaves out.

    Args:
        recipe: The recipe.
        folder: Folder that its picture paths are relative to.
        options: Values by recipe key; they override the recipe. None means that the option was not given.
        defaults: Values by recipe key; the recipe overrides them.

    Raises:
        InputError: If an option is out of range, or `scenes` differs from the number of scenes in the recipe.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if "scenes" in given and not isinstance(recipe.scenes, int) and given["scenes"] != len(recipe.scenes):
        raise InputError(
            f"The recipe lists {len(recipe.scenes)} scenes, but {given['scenes']} were requested. Leave out "
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
        raise InputError(f"The recipe is not valid: {where}: {message}. Run: mgem story schema") from error

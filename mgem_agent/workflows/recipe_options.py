"""Change a story recipe by options, and find out whether it leaves anything to the reasoner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mgem_agent.errors import InputError
from mgem_agent.workflows.story_recipe import StoryRecipe

__all__ = ["has_everything", "validated_recipe", "with_options"]


def has_everything(recipe: StoryRecipe) -> bool:
    """Whether the recipe contains all texts and captions, so that no reasoner is needed."""
    is_told = bool(recipe.title) and all(scene.text and scene.caption for scene in recipe.scene_recipes)
    has_cast = recipe.kind != "story" or bool(recipe.cast)
    return is_told and has_cast and all(member.looks for member in recipe.cast)


def with_options(recipe: StoryRecipe, folder: Path, options: dict[str, Any], defaults: dict[str, Any]) -> StoryRecipe:
    """Return a recipe with options, and with defaults for keys that the recipe leaves out.

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
    changed = validated_recipe({**defaults, **stated, **given})
    return changed.in_folder(folder)


def validated_recipe(fields: dict[str, Any]) -> StoryRecipe:
    """Return a recipe with the given fields.

    Raises:
        InputError: If they do not give a valid recipe.
    """
    try:
        return StoryRecipe.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "recipe"
        message = str(first["msg"]).removeprefix("Value error, ")
        raise InputError(f"The recipe is not valid: {where}: {message}. Run: mgem story schema") from error

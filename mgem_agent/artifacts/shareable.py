"""Recipes that are safe to share: without server addresses and without paths of this machine.

A generator's name has both: `openai:m@http://10.0.0.7/v1`, `comfyui:http://box:8188#/home/ann/flow.json`. The record in
the store keeps them; the file itself does not.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from mgem_agent.artifacts.artifact import PictureRecipe

__all__ = ["shareable_name", "shareable_recipe"]

ADDRESS = re.compile(r"@?\b[a-z][a-z0-9+.-]*://[^\s#'\"<>]+", re.IGNORECASE)
PATH = re.compile(r"(?:[/~]|\.{1,2}[/\\]|[a-z]:[/\\]|\\\\).*", re.IGNORECASE | re.DOTALL)


def shareable_recipe(recipe: PictureRecipe) -> PictureRecipe:
    """Return a recipe without addresses and paths; prompts are unchanged."""
    options = {name: _shareable(value) for name, value in recipe.request.options.items()}
    return recipe.model_copy(
        update={
            "request": recipe.request.model_copy(update={"options": options}),
            "generator": shareable_name(recipe.generator),
            "model": _without_place(recipe.model),
        }
    )


def shareable_name(name: str) -> str:
    """Return a generator's name without the address of its server and the folders of its files.

    Examples:
        >>> shareable_name("openai:m@http://10.0.0.7/v1"), shareable_name("a1111:http://127.0.0.1:7860")
        ('openai:m', 'a1111')
        >>> shareable_name("comfyui:http://box:8188#/home/ann/flow.json"), shareable_name("diffusers:a/b")
        ('comfyui:#flow.json', 'diffusers:a/b')
    """
    scheme, _, rest = name.partition(":")
    rest = "#".join(map(_without_place, rest.split("#")))
    return f"{scheme}:{rest}" if rest else scheme


def _without_place(text: str) -> str:
    """Return a text without addresses; of a path, only the file name."""
    text = ADDRESS.sub("", text).strip()
    if not PATH.fullmatch(text):
        return text
    return PureWindowsPath(PurePosixPath(text).name).name


def _shareable(value: Any) -> Any:
    if isinstance(value, str):
        return _without_place(value)
    if isinstance(value, list):
        return [_shareable(each) for each in value]
    if isinstance(value, dict):
        return {name: _shareable(each) for name, each in value.items()}
    return value

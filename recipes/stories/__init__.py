"""Shipped story recipes: YAML files that `mgem story` takes by name."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

__all__ = ["story_recipe_files"]


def story_recipe_files() -> dict[str, Path]:
    """Return the files of the shipped recipes by name, sorted."""
    folder = Path(str(resources.files(__name__)))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}

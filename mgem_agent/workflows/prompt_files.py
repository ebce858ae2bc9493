"""The prompts of the workflows: files beside this one, in which a variable that is missing is an error."""

from __future__ import annotations

import functools
import importlib.resources
from typing import Any

import jinja2

__all__ = ["render_prompt"]


@functools.cache
def _template(name: str) -> jinja2.Template:
    source = importlib.resources.files("mgem_agent.workflows").joinpath("prompts", f"{name}.jinja")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False, trim_blocks=True)
    return environment.from_string(source.read_text(encoding="utf-8"))


def render_prompt(name: str, /, **variables: Any) -> str:
    """Render a prompt.

    Args:
        name: Its file in `prompts/`, without the ending.
        **variables: What it asks for.
    """
    return _template(name).render(**variables).strip()

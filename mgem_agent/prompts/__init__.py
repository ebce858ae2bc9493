"""The prompts that models are given: Jinja files in this folder, in which an undefined variable is an error."""

from __future__ import annotations

import functools
import importlib.resources
from typing import Any

import jinja2

__all__ = ["render_prompt"]


@functools.cache
def _template(name: str) -> jinja2.Template:
    source = importlib.resources.files("mgem_agent.prompts").joinpath(f"{name}.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False, trim_blocks=True)
    return environment.from_string(source)


def render_prompt(name: str, /, **variables: Any) -> str:
    """Render a prompt.

    Args:
        name: File in this folder, without its ending.
        **variables: The variables of the prompt.
    """
    return _template(name).render(**variables).strip()

"""Checks of an agent's arguments."""

from __future__ import annotations

from typing import get_args

from mgem_agent.errors import InputError
from mgem_agent.gen.tool_calls import DrawMode

__all__ = ["above_zero", "at_least", "known_draw_mode"]


def known_draw_mode(draw: str) -> DrawMode:
    """Return the draw mode if it is a known one.

    Raises:
        InputError: If it is unknown.
    """
    for mode in get_args(DrawMode):
        if draw == mode:
            known: DrawMode = mode
            return known
    raise InputError(f"There is no draw mode {draw!r}. Allowed: {', '.join(map(repr, get_args(DrawMode)))}.")


def at_least(name: str, value: int, least: int) -> int:
    """Return the value if it is at least `least`.

    Raises:
        InputError: If it is smaller.
    """
    if value < least:
        raise InputError(f"{name}={value} is too small. Give {least} or more.")
    return value


def above_zero(name: str, value: float) -> float:
    """Return the value if it is above 0.

    Raises:
        InputError: If it is not.
    """
    if not value > 0:
        raise InputError(f"{name}={value} is not a valid time limit. Give seconds above 0, or None for no limit.")
    return value

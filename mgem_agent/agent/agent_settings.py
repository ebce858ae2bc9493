"""The settings of an agent, with their checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from mgem_agent.errors import InputError
from mgem_agent.gen.tool_calls import DrawMode
from mgem_agent.tools.budget import Budgets, Meter
from mgem_agent.tools.look import Look
from mgem_agent.tools.prices import Prices

__all__ = ["AgentSettings", "known_draw_mode"]


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """The settings of an agent; see `MgemAgent` for their meaning.

    Raises:
        InputError: If one is out of range.
    """

    draw: DrawMode = "auto"
    confirm: bool = False
    look: Look = Look()
    max_pictures: int = 8
    max_rounds: int = 4
    timeout_s: float | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    system_prompt: str | None = None
    max_context_pictures: int = 4
    max_history_turns: int = 50
    answer_tools: bool = True
    sees: bool | None = None
    max_context_tokens: int | None = None
    num_previews: int = 0
    budgets: Budgets = Budgets()
    prices: Prices = field(default_factory=Prices)
    meter: Meter | None = None

    def __post_init__(self) -> None:
        known_draw_mode(self.draw)
        for name in ("max_context_pictures", "max_history_turns", "num_previews"):
            _check_at_least(name, getattr(self, name), 0)
        for name in ("max_pictures", "max_rounds"):
            _check_at_least(name, getattr(self, name), 1)
        if self.max_context_tokens is not None:
            _check_at_least("max_context_tokens", self.max_context_tokens, 1)
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise InputError(
                f"timeout_s={self.timeout_s} is not a valid time limit. Give seconds above 0, or None for no limit."
            )


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


def _check_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise InputError(f"{name}={value} is too small. Give {least} or more.")

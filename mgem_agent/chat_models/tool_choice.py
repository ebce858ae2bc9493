"""Which tools an answer may call, and which it must."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mgem_agent.chat_models.json_calls import CALL_OPEN, describe_tools
from mgem_agent.errors import InputError
from mgem_agent.gen.tool_calls import DRAW_TOOL_NAME, DrawMode
from mgem_agent.prompts import render_prompt

__all__ = ["ToolPlan", "plan_tools", "read_tool_choice"]


@dataclass(frozen=True)
class ToolPlan:
    """What the tools that are bound mean for an answer.

    Args:
        draw: When captions become calls.
        draw_arguments: Arguments that the drawing tool takes; None means all of an image request.
        instructions: What the model is told about the other tools; empty if there are none.
        begun: What the answer begins with if it must be a call.
    """

    draw: DrawMode
    draw_arguments: frozenset[str] | None = None
    instructions: str = ""
    begun: str = ""


def read_tool_choice(choice: Any, names: Sequence[str]) -> str:
    """Return `auto`, `any`, `none` or the name of a tool.

    Args:
        choice: Any form that LangChain's chat models take: a string, a boolean, or OpenAI's dictionary.
        names: The tools that are bound.

    Raises:
        InputError: If it names no such tool.
    """
    if isinstance(choice, Mapping):
        function = choice.get("function")
        choice = function.get("name") if isinstance(function, Mapping) else choice.get("name", choice.get("type"))
    plain = {None: "auto", False: "auto", True: "any", "required": "any"}
    choice = plain.get(choice, choice)
    if choice in ("auto", "any", "none") or choice in names:
        return str(choice)
    raise InputError(
        f"tool_choice is {choice!r}. Allowed: 'auto', 'any', 'none'"
        + "".join(f", {name!r}" for name in names)
        + ". Bind the tool first, or name one that is bound."
    )


def plan_tools(tools: Sequence[Mapping[str, Any]], choice: Any, draw: DrawMode) -> ToolPlan:
    """Say what bound tools mean for an answer.

    Drawing is native: the model writes a caption. Where tools are bound and drawing is none of them, an answer is not
    drawn unless that is asked for. Other tools are described in the prompt and called in JSON; a call that must be made
    is begun for the model.

    Args:
        tools: In OpenAI's form.
        choice: As in :func:`read_tool_choice`.
        draw: When to draw.
    """
    if not tools:
        return ToolPlan(draw)
    names = [str(tool["function"]["name"]) for tool in tools]
    others = [tool for tool in tools if tool["function"]["name"] != DRAW_TOOL_NAME]
    choice = read_tool_choice(choice, names)
    arguments: frozenset[str] | None = None
    if DRAW_TOOL_NAME in names:
        schema = next(tool["function"] for tool in tools if tool["function"]["name"] == DRAW_TOOL_NAME)
        arguments = frozenset(schema.get("parameters", {}).get("properties", {})) or None
    elif draw == "auto":
        draw = "never"
    if choice == "none":
        return ToolPlan("never" if draw == "auto" else draw)
    if choice == DRAW_TOOL_NAME or (choice == "any" and not others):
        return ToolPlan("always", arguments)
    if choice == "auto":
        told = render_prompt("tools", tools=describe_tools(others), must="") if others else ""
        return ToolPlan(draw, arguments, told)
    wanted = [tool for tool in others if choice in ("any", tool["function"]["name"])]
    only = wanted[0]["function"]["name"] if len(wanted) == 1 else None
    told = render_prompt("tools", tools=describe_tools(wanted), must=only or "one of them")
    begun = f'{CALL_OPEN}\n{{"name": "' + (f'{only}", "arguments": ' if only else "")
    return ToolPlan("never", arguments, told, begun)

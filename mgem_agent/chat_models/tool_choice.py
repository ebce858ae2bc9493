"""Which tools an answer may call, and which it must call."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mgem_agent.chat_models.answer_grammar import call_grammar, json_grammar, mixed_grammar, text_grammar
from mgem_agent.chat_models.json_calls import CALL_OPEN, describe_tools
from mgem_agent.errors import InputError
from mgem_agent.gen.tool_calls import DRAW_TOOL_NAME, DrawMode
from mgem_agent.prompts import render_prompt

__all__ = ["plan_grammar", "plan_json", "plan_tools", "read_response_format", "read_tool_choice"]


@dataclass(frozen=True)
class ToolPlan:
    """How the bound tools affect an answer.

    Args:
        draw: When captions become calls.
        draw_arguments: Arguments of the drawing tool; None for all fields of an image request.
        instructions: Description of the other tools for the prompt; empty if there are none.
        prefill: Prefilled beginning of the answer, if a call is required.
        grammar: Grammar of the answer, for an engine that supports grammars.
        opening: Prefilled beginning of the answer for such an engine.
        closing: Text at the end of the last user message.
    """

    draw: DrawMode
    draw_arguments: frozenset[str] | None = None
    instructions: str = ""
    prefill: str = ""
    grammar: str | None = None
    opening: str = ""
    closing: str = ""


def read_tool_choice(choice: Any, names: Sequence[str]) -> str:
    """Return `auto`, `any`, `none` or the name of a tool.

    Args:
        choice: A choice in any format of LangChain's chat models: a string, a boolean, or OpenAI's dictionary.
        names: Names of the bound tools.

    Raises:
        InputError: If it names a tool that is not bound.
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


def read_response_format(given: Any) -> Mapping[str, Any] | None:
    """Return the JSON schema of the answer, or None for a text answer.

    Args:
        given: OpenAI's response format: an object with the `type` `text`, `json_object` or `json_schema`.

    Raises:
        InputError: If it has another format.
    """
    form = (given or {"type": "text"}).get("type") if isinstance(given or {}, Mapping) else None
    if form == "text":
        return None
    if form == "json_object":
        return {"type": "object"}
    schema = given.get("json_schema", {}).get("schema") if form == "json_schema" else None
    if isinstance(schema, Mapping):
        return schema
    raise InputError(
        f"response_format is {given!r:.200}. Allowed: an object with the type 'text', 'json_object', or 'json_schema' "
        "and its schema under 'json_schema'."
    )


def plan_json(schema: Mapping[str, Any]) -> ToolPlan:
    """Return the plan for an answer in JSON: its beginning is prefilled, and nothing is drawn.

    Args:
        schema: JSON schema of the answer; if it has only a type, the caller's prompt must describe the answer.
    """
    told = render_prompt("json", schema=json.dumps(schema, ensure_ascii=False)) if len(schema) > 1 else ""
    return ToolPlan("never", None, told, "{", json_grammar(schema))


def plan_grammar(grammar: str, *, is_supported: bool, others: Sequence[str] = ()) -> ToolPlan:
    """Return the plan for an answer that follows a grammar: nothing is drawn and no tool is called.

    Args:
        grammar: The grammar, in llguidance's Lark.
        is_supported: Whether the engine supports grammars.
        others: Names of other options that determine the form of the answer.

    Raises:
        InputError: If the engine does not support grammars, or another option determines the form.
    """
    if others:
        raise InputError(f"grammar cannot be combined with {' and '.join(others)}. Leave one of them out.")
    if not is_supported:
        raise InputError(
            "This model does not support grammars. Models that run in this process do, with a fast tokenizer and the "
            "package llguidance; leave out grammar, or use such a model."
        )
    return ToolPlan("never", grammar=grammar)


def plan_tools(
    tools: Sequence[Mapping[str, Any]], choice: Any, draw: DrawMode, *, called: Collection[str] = ()
) -> ToolPlan:
    """Say what bound tools mean for an answer.

    Drawing is native: the model writes a caption. Where tools are bound and drawing is none of them, an answer is not
    drawn unless that is asked for. Other tools are described in the prompt and called in JSON; a call that must be made
    is prefill for the model.

    An answer to a tool's result is in words, unless the caller asks for a call: a small model would make the same call
    again and again. Where any call must be made, it is one of a tool that was not called yet, if there is one.

    Args:
        tools: In OpenAI's form.
        choice: As in :func:`read_tool_choice`.
        draw: When to draw.
        called: Tools whose results the answer follows.
    """
    names = [str(tool["function"]["name"]) for tool in tools]
    choice = read_tool_choice(choice, names)
    if choice == "auto" and called and (draw != "always" or DRAW_TOOL_NAME in called):
        return ToolPlan("never", grammar=text_grammar(), closing=render_prompt("after_tools"))
    if not tools:
        return ToolPlan(draw)
    others = [tool for tool in tools if tool["function"]["name"] != DRAW_TOOL_NAME]
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
        if not others:
            return ToolPlan(draw, arguments)
        told = render_prompt("tools", tools=describe_tools(others), must="")
        return ToolPlan(draw, arguments, told, grammar=mixed_grammar(others))
    wanted = [tool for tool in tools if choice in ("any", tool["function"]["name"])]
    wanted = [tool for tool in wanted if tool["function"]["name"] not in called] or wanted
    only = wanted[0]["function"]["name"] if len(wanted) == 1 else None
    told = render_prompt("tools", tools=describe_tools(wanted), must=only or "one of them")
    prefill = f'{CALL_OPEN}\n{{"name": "' + (f'{only}", "arguments": ' if only else "")
    return ToolPlan("never", arguments, told, prefill, call_grammar(wanted), f"{CALL_OPEN}\n")

"""An example: an outer agent with any provider's model that sees and draws through `MiniGeminiTool`.

    python -m mgem_agent.langchain.outer_agent openai:gpt-5 "Draw me a fox, and say what you would add." \
        --reasoner YanweiLi/MGM-7B --generator diffusers:stabilityai/sdxl-turbo

The outer model talks, plans and decides when to call; the agent inside looks, reasons and draws. `main` is the program,
and `outer_agent` is what to copy.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import ToolMessage

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.errors import MgemError
from mgem_agent.langchain.mini_gemini_tool import MiniGeminiTool
from mgem_agent.langchain.picture_access import AllowPaths
from mgem_agent.reasoners import make_reasoner
from mgem_agent.tools.printable_text import terminal_text
from mgem_agent.tools.registry import make_generator

__all__ = ["main", "outer_agent"]

SYSTEM_PROMPT = "You help people with pictures. To see or draw, call mini_gemini, and name its pictures by their ids."


def outer_agent(outer: BaseChatModel, inner: MgemAgent, *, allow_paths: AllowPaths = False) -> Any:
    """Return a LangChain agent whose only tool is the whole agent of this package.

    Args:
        outer: The model that talks; any model with tool calling.
        inner: The agent that sees and draws.
        allow_paths: Which local files the outer model may name; see `MiniGeminiTool`.
    """
    return create_agent(outer, [MiniGeminiTool(agent=inner, allow_paths=allow_paths)], system_prompt=SYSTEM_PROMPT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask an outer agent once, and print its answer and the files of the pictures.

    Args:
        arguments: Arguments of the command line; by default those of this process.

    Returns:
        The exit status: 1 for an error, which is written to stderr.
    """
    parser = argparse.ArgumentParser(prog="python -m mgem_agent.langchain.outer_agent")
    parser.add_argument("outer", help="the model that talks, such as openai:gpt-5 or ollama:qwen3")
    parser.add_argument("request", help="what is asked of it")
    parser.add_argument("--reasoner", default="YanweiLi/MGM-7B", help="the model that sees")
    parser.add_argument("--generator", default="diffusers:stabilityai/sdxl-turbo", help="what draws; flat for a card")
    parser.add_argument("--pictures", metavar="FOLDER", help="a folder whose pictures the outer model may name")
    given = parser.parse_args(arguments)
    try:
        inner = MgemAgent(make_reasoner(given.reasoner), make_generator(given.generator))
        outer = make_reasoner(given.outer, tool_calling="native")
        agent = outer_agent(outer, inner, allow_paths=given.pictures or False)
        messages = agent.invoke({"messages": [{"role": "user", "content": given.request}]})["messages"]
    except MgemError as error:
        print(terminal_text(f"Error: {error}"), file=sys.stderr)
        return 1
    print(terminal_text(messages[-1].text))
    for message in messages:
        if isinstance(message, ToolMessage) and message.artifact:
            print(*(picture["path"] for picture in message.artifact["images"]), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

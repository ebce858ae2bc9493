"""The table of the tools: name, arguments, answer, and what a client may know of their effects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from mcp.types import Tool, ToolAnnotations
from pydantic import BaseModel

from mgem_agent.mcp.answers import ToolAnswer
from mgem_agent.mcp.book_answer import BookAnswer
from mgem_agent.mcp.drawing_tools import DrawCall, DrawnAnswer, EditCall, RedrawCall, draw, edit, redraw
from mgem_agent.mcp.parts import McpParts
from mgem_agent.mcp.record_tools import (
    GeneratorsAnswer,
    GeneratorsCall,
    LineageAnswer,
    LineageCall,
    generators,
    lineage,
)
from mgem_agent.mcp.seeing_tools import LookAnswer, LookCall, ReadAnswer, look, read_text
from mgem_agent.mcp.story_arguments import ContinueCall, StatusCall, TellCall
from mgem_agent.mcp.story_tools import story_continue, story_status, tell_story
from mgem_agent.tools.reading import can_read_text
from mgem_agent.tools.seeing_arguments import ReadArguments
from mgem_agent.tools.tool_arguments import ToolArguments

__all__ = ["McpTool", "find_tool", "offered_tools"]


@dataclass(frozen=True, slots=True)
class McpTool:
    """A tool.

    Attributes:
        name: Its name.
        title: Its name for people.
        description: What it does, for models.
        arguments: Class of its arguments.
        answer: Class of its structured content.
        run: Runs it; takes the call and the arguments.
        only_reads: Whether it changes nothing.
    """

    name: str
    title: str
    description: str
    arguments: type[ToolArguments]
    answer: type[BaseModel]
    run: Callable[[Any, Any], Awaitable[ToolAnswer]]
    only_reads: bool = False

    def described(self, parts: McpParts) -> Tool:
        """Return the tool as the protocol describes it.

        Args:
            parts: The parts of the server; its generators are the only ones that a call may name.
        """
        schema = self.arguments.model_json_schema()
        if "generator" in schema["properties"]:
            schema["properties"]["generator"] |= {"enum": list(parts.generators)}
        return Tool(
            name=self.name,
            title=self.title,
            description=self.description,
            input_schema=schema,
            output_schema=self.answer.model_json_schema(),
            annotations=ToolAnnotations(
                title=self.title,
                read_only_hint=self.only_reads,
                destructive_hint=False,
                idempotent_hint=self.only_reads,
                open_world_hint=False,
            ),
        )


TOOLS = (
    McpTool(
        "draw",
        "Draw a picture",
        "Draw a picture from a caption. Returns a small preview, a link to the whole picture, and its id for the "
        "other tools. Describe subject, setting and style in full: earlier pictures are not known.",
        DrawCall,
        DrawnAnswer,
        draw,
    ),
    McpTool(
        "edit",
        "Edit a picture",
        "Edit a picture by an instruction, or redraw the masked part of it. The earlier picture is kept.",
        EditCall,
        DrawnAnswer,
        edit,
    ),
    McpTool(
        "redraw",
        "Redraw a picture",
        "Draw a picture again from its record: with the same seed the same picture, with another seed a variation.",
        RedrawCall,
        DrawnAnswer,
        redraw,
    ),
    McpTool(
        "look",
        "Look at a picture",
        "Look at a picture with a vision model: answer a question about it, or judge whether it shows its caption.",
        LookCall,
        LookAnswer,
        look,
        only_reads=True,
    ),
    McpTool(
        "read_text",
        "Read the text in a picture",
        "Read the text in a picture: printed words, signs, labels.",
        ReadArguments,
        ReadAnswer,
        read_text,
        only_reads=True,
    ),
    McpTool(
        "tell_story",
        "Tell an illustrated story",
        "Start an illustrated book, from a premise or from pages that you write. Returns the id of the book, which "
        "stays valid, and waits for it up to wait_s seconds. With approve, it waits for a person.",
        TellCall,
        BookAnswer,
        tell_story,
    ),
    McpTool(
        "story_status",
        "See how a book is going",
        "Return the state of a book that tell_story started, and wait for it up to wait_s seconds.",
        StatusCall,
        BookAnswer,
        story_status,
        only_reads=True,
    ),
    McpTool(
        "story_continue",
        "Continue or change a book",
        "Continue a book: with a person's decision about its outline or a page, with a change of one page, or after "
        "it was stopped.",
        ContinueCall,
        BookAnswer,
        story_continue,
    ),
    McpTool(
        "lineage",
        "See what a picture was made from",
        "List a picture and all pictures that it was made from, each with prompt, seed and generator.",
        LineageCall,
        LineageAnswer,
        lineage,
        only_reads=True,
    ),
    McpTool(
        "generators",
        "List the image generators",
        "List the image generators: what each can do, its sizes, and whether it costs money.",
        GeneratorsCall,
        GeneratorsAnswer,
        generators,
        only_reads=True,
    ),
)


def offered_tools(parts: McpParts) -> list[McpTool]:
    """Return the tools that a server can offer: `look` needs a model that sees, `read_text` the extra `ocr`.

    Args:
        parts: The parts of the server.
    """
    missing = set()
    if parts.reasoner is None or not parts.sees:
        missing.add("look")
    if not can_read_text():
        missing.add("read_text")
    return [tool for tool in TOOLS if tool.name not in missing]


def find_tool(name: str, parts: McpParts) -> McpTool | None:
    """Return the tool of a name; None if it is not offered."""
    return next((tool for tool in offered_tools(parts) if tool.name == name), None)

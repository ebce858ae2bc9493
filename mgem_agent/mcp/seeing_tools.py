"""The tools `look` and `read_text`: the LangChain tools of this package, and questions about a picture."""

from __future__ import annotations

import threading
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from mgem_agent.mcp.answers import ToolAnswer
from mgem_agent.mcp.call import Call, Progress
from mgem_agent.mcp.drawing_tools import invoked
from mgem_agent.mcp.pictures import shortened
from mgem_agent.tools.seeing_arguments import LookArguments, ReadArguments

__all__ = ["LookAnswer", "LookCall", "ReadAnswer", "TextLineFacts", "look", "read_text"]

MAX_LINES = 100
MAX_TEXT_CHARS = 8_000


class LookCall(LookArguments):
    """Arguments of `look`."""

    question: Annotated[
        str | None, Field(description="A question about the picture; leave out to judge it against its caption.")
    ] = None


class LookAnswer(BaseModel):
    """What was seen in a picture."""

    model_config = ConfigDict(frozen=True)

    image: str = Field(description="Id of the picture.")
    answer: str | None = Field(default=None, description="Answer to the question.")
    follows: bool | None = Field(default=None, description="Whether it shows its caption; missing without a verdict.")
    score: float | None = Field(default=None, description="How well it shows its caption, from 0 to 1.")
    problem: str | None = Field(default=None, description="What is wrong with it.")
    better_caption: str | None = Field(default=None, description="A caption for a redraw.")


class TextLineFacts(BaseModel):
    """A line of text in a picture."""

    model_config = ConfigDict(frozen=True)

    text: str
    confidence: float = Field(description="From 0 to 1.")
    box: list[int] = Field(description="Left, top, right and bottom in pixels.")


class ReadAnswer(BaseModel):
    """The text in a picture."""

    model_config = ConfigDict(frozen=True)

    image: str = Field(description="Id of the picture.")
    text: str
    lines: list[TextLineFacts] = Field(description=f"The first {MAX_LINES} lines.")
    num_lines: int = Field(description="Number of all lines.")


async def look(call: Call, arguments: LookCall) -> ToolAnswer:
    """Answer a question about a picture, or judge it against its caption."""
    parts = call.parts
    if arguments.question is not None:
        return await call.work(
            "look", lambda cancel, progress: _asked(call, arguments, cancel, progress), title=arguments.question[:80]
        )

    def judge(cancel: threading.Event, progress: Progress) -> ToolAnswer:
        from mgem_agent.langchain.seeing_tools import look_tool

        given = {"image": arguments.image, "caption": arguments.caption}
        text, manifest = invoked(look_tool(parts.chat_model(), parts.store, access=parts.access), given)
        verdict = manifest["verdict"]
        facts = LookAnswer(
            image=manifest["images"][0]["id"],
            follows=verdict["follows"],
            score=verdict["score"],
            problem=verdict["problem"] or None,
            better_caption=verdict["caption"] or None,
        )
        return ToolAnswer(text, facts)

    return await call.work("look", judge)


def _asked(call: Call, arguments: LookCall, cancel: threading.Event, progress: Progress) -> ToolAnswer:
    """The reasoner's answer to a question about a picture."""
    from mgem_agent.agent.agent import MgemAgent
    from mgem_agent.sessions.sessions import Sessions

    parts = call.parts
    image = parts.access.store(arguments.image, parts.store)
    agent = MgemAgent(
        parts.chat_model(), parts.generator(), store=parts.store, sessions=Sessions.in_memory(), draw="never"
    )
    text = ""
    for event in agent.stream(arguments.question or "", [image], session="look"):
        if cancel.is_set():
            agent.cancel("look")
        if event.kind == "finished":
            text = event.turn.text
    return ToolAnswer(text, LookAnswer(image=image, answer=shortened(text, MAX_TEXT_CHARS)))


async def read_text(call: Call, arguments: ReadArguments) -> ToolAnswer:
    """Read the text in a picture."""
    parts = call.parts

    def read(cancel: threading.Event, progress: Progress) -> ToolAnswer:
        from mgem_agent.langchain.seeing_tools import read_tool

        given = {"image": arguments.image}
        text, manifest = invoked(read_tool(parts.store, access=parts.access), given)
        lines = manifest["lines"]
        facts = ReadAnswer(
            image=manifest["images"][0]["id"],
            text=shortened(manifest["text"], MAX_TEXT_CHARS),
            lines=[TextLineFacts.model_validate(line) for line in lines[:MAX_LINES]],
            num_lines=len(lines),
        )
        return ToolAnswer(text, facts)

    return await call.work("read", read)

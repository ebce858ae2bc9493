"""The whole agent as one LangChain tool: see, reason, draw."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from langchain_core.callbacks import AsyncCallbackManagerForToolRun, CallbackManagerForToolRun
from langchain_core.messages import ToolMessage
from langchain_core.tools import ArgsSchema, BaseTool
from pydantic import ConfigDict, Field, SkipValidation, field_validator

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.agent.events import Turn
from mgem_agent.gen.tool_calls import DrawMode
from mgem_agent.langchain.picture_access import AllowPaths, PictureAccess
from mgem_agent.langchain.picture_blocks import PictureBlocks, check_picture_blocks
from mgem_agent.langchain.tool_errors import errors_for_the_model
from mgem_agent.langchain.tool_output import ToolOutput, tool_output
from mgem_agent.tools.tool_arguments import NamedPicture, ToolArguments, explain_arguments

__all__ = ["MiniGeminiInput", "MiniGeminiTool"]


class MiniGeminiInput(ToolArguments):
    """Arguments that the calling model sets."""

    request: str = Field(description="What to look at, think about or draw, in plain words, as one would ask a person.")
    images: list[NamedPicture] = Field(
        default_factory=list,
        description="Pictures to look at: ids of earlier pictures (img-…), data URLs, blocks, or files if allowed.",
    )
    draw: DrawMode = Field(
        default="auto", description="'always' to get a picture, 'never' for text only, 'auto' to let the agent decide."
    )
    session: str | None = Field(
        default=None, description="Name of an earlier session with this tool to continue; leave out for a new one."
    )


class MiniGeminiTool(BaseTool):
    """The agent as one tool that an outer model calls with a request and optional pictures.

    It returns text that names every picture by id, and an artifact for the program:
    `{"images": [{"id", "path", "prompt", "seed", …}], "failures": […], "session", "outcome"}`. Errors are
    returned to the outer model, as tool messages with the status `error`, and do not end its run.

    Attributes:
        agent: The agent.
        picture_blocks: How pictures appear in the content, in addition to their ids in the text: `none`; `file_id`, for
            models of this package; `base64`, for models that look at them; `mcp`, for a tool on an MCP server.
        allow_paths: Which local files the outer model may name: none, those in one or more folders, or with True any
            that this process can read. Ids, data URLs and image blocks are always accepted; nothing is downloaded.

    Examples:
        >>> from langchain.agents import create_agent
        >>> from mgem_agent import MiniGeminiTool
        >>> outer = create_agent(model, [MiniGeminiTool(agent=agent)])  # doctest: +SKIP
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: str = "mini_gemini"
    description: str = (
        "Sees pictures, reasons about them and draws new ones. Use it to describe, compare or read pictures, to draw "
        "one or several from a description, or to change a picture that was drawn before. Returns an answer as text "
        "and the ids of the drawn pictures."
    )
    args_schema: Any = MiniGeminiInput
    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    handle_tool_error: Any = True
    handle_validation_error: Any = explain_arguments
    agent: MgemAgent
    picture_blocks: PictureBlocks = "none"
    allow_paths: Annotated[AllowPaths, SkipValidation] = False

    @field_validator("picture_blocks")
    @classmethod
    def _check_blocks(cls, value: PictureBlocks) -> PictureBlocks:
        check_picture_blocks(value)
        return value

    @field_validator("allow_paths")
    @classmethod
    def _check_paths(cls, value: AllowPaths) -> AllowPaths:
        PictureAccess.of(value)
        return value

    @property
    def tool_call_schema(self) -> ArgsSchema:
        """The class of the arguments; LangChain's own copy of it would lose its schema."""
        return MiniGeminiInput

    def run(self, *args: Any, **options: Any) -> Any:
        """Run the tool; a call that should draw and drew nothing has the status `error`."""
        return _with_status(super().run(*args, **options))

    async def arun(self, *args: Any, **options: Any) -> Any:
        """Run the tool as `run` does."""
        return _with_status(await super().arun(*args, **options))

    def _run(self, run_manager: CallbackManagerForToolRun | None = None, **given: Any) -> ToolOutput:
        with errors_for_the_model():
            asked = MiniGeminiInput.model_validate(given)
            shown, session = self._stored(asked.images), asked.session or _new_name()
            return self._output(self.agent.invoke(asked.request, shown, session=session, draw=asked.draw), asked)

    async def _arun(self, run_manager: AsyncCallbackManagerForToolRun | None = None, **given: Any) -> ToolOutput:
        with errors_for_the_model():
            asked = MiniGeminiInput.model_validate(given)
            shown = await asyncio.to_thread(self._stored, asked.images)
            session = asked.session or _new_name()
            turn = await self.agent.ainvoke(asked.request, shown, session=session, draw=asked.draw)
            return self._output(turn, asked)

    def _stored(self, images: Iterable[Any]) -> list[str]:
        access = PictureAccess.of(self.allow_paths)
        return [access.store(image, self.agent.store) for image in images]

    def _output(self, turn: Turn, asked: MiniGeminiInput) -> ToolOutput:
        lines = [turn.text] if turn.text else []
        lines += turn.notices
        lines += [f"Drew {picture.artifact_id}: {picture.prompt}" for picture in turn.pictures]
        lines += [f"Not drawn: {failure.prompt}. {failure.message}" for failure in turn.failures]
        lines += [f"Waits for a person to approve: {caption.prompt}" for caption in turn.captions]
        lines += [*asked.notices, f"(session {turn.session})"]
        return tool_output(
            "\n".join(lines),
            [picture.artifact_id for picture in turn.pictures],
            self.agent.store,
            blocks=self.picture_blocks,
            failures=[{"prompt": failure.prompt, "message": failure.message} for failure in turn.failures],
            session=turn.session,
            outcome=turn.outcome,
            finish_reason=turn.finish_reason,
            notices=list(turn.notices),
        )


def _with_status(answer: Any) -> Any:
    if isinstance(answer, ToolMessage) and answer.artifact:
        if answer.artifact["failures"] and not answer.artifact["images"]:
            answer.status = "error"
    return answer


def _new_name() -> str:
    return f"tool-{uuid.uuid4().hex[:12]}"

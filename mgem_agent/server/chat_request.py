"""The body of `POST /v1/chat/completions`: OpenAI's fields, and a few of ours.

Fields that change nothing here, such as `user` or `store`, are ignored. A field whose effect is not supported is an
error, so that no client believes it was followed.
"""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from starlette.requests import ClientDisconnect, Request

from mgem_agent.errors import GenerationCancelledError
from mgem_agent.gen.tool_calls import DrawMode
from mgem_agent.server.http_errors import InvalidRequestError

__all__ = ["ChatMessage", "ChatRequest", "read_body", "read_request"]

MAX_MESSAGES = 2_000
MAX_STOPS = 16
MAX_TOOLS = 128
LARGE_BODY_BYTES = 200_000
"""Size from which a body is read in a thread, so that other clients do not wait for it."""


class StreamOptions(BaseModel):
    """Options of a streamed answer.

    Attributes:
        include_usage: Whether the last event has the token usage.
    """

    model_config = ConfigDict(extra="ignore")

    include_usage: bool = False


class ChatMessage(BaseModel):
    """A message of the dialogue.

    Attributes:
        role: Who wrote it.
        content: Text, or parts with text and pictures.
        images: Pictures of an assistant's message, as OpenRouter has them.
        tool_calls: Calls of an assistant's message.
        tool_call_id: The call that a tool's message answers.
        name: Name of the author, or of the tool.
    """

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None
    images: list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    name: str | None = None


class ChatRequest(BaseModel):
    """A request for an answer.

    Attributes:
        model: `mgem` for the agent, or the reasoner's name for words only.
        messages: The dialogue; the last message is a user's or a tool's.
        stream: Whether the answer is streamed.
        stream_options: Options of a streamed answer.
        stop: Strings that end the answer.
        max_tokens: Maximum number of tokens in an answer of the reasoner.
        max_completion_tokens: The newer name of `max_tokens`.
        seed: Seed of the reasoner and of the pictures.
        temperature: Sampling temperature of the reasoner.
        top_p: Probability mass for nucleus sampling.
        n: Number of answers; only 1 is supported.
        tools: The client's own tools. The server returns their calls and does not run them.
        tool_choice: Which of the tools must be called; `none` also turns drawing off.
        response_format: Format of the answer; JSON turns drawing off.
        modalities: What the answer may contain; without `image` nothing is drawn.
        draw: When to draw: `auto`, `always` or `never`.
        generator: Name of the image generator.
        budget: Limits of what the request may spend, such as `5pictures,1min`; the server's own limits hold, too.
        look: What follows if a picture does not match its caption, as in the setting `look`.
    """

    model_config = ConfigDict(extra="ignore")

    model: str = ""
    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    stream: bool = False
    stream_options: StreamOptions | None = None
    stop: str | Annotated[list[str], Field(max_length=MAX_STOPS)] | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    n: Literal[1] | None = None
    tools: list[dict[str, Any]] | None = Field(default=None, max_length=MAX_TOOLS)
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    modalities: list[Literal["text", "image"]] | None = None
    logprobs: Literal[False] | None = None
    audio: None = None
    draw: DrawMode | None = None
    generator: str | None = None
    budget: str | None = Field(default=None, max_length=200)
    look: int | str | None = None

    @field_validator("tools")
    @classmethod
    def _are_functions(cls, tools: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
        for tool in tools or ():
            function = tool.get("function")
            if tool.get("type") != "function" or not isinstance(function, dict) or not function.get("name"):
                raise ValueError("each tool must have the type 'function' and a function with a name")
        return tools

    @property
    def draw_mode(self) -> DrawMode | None:
        """When to draw; None for the server's setting."""
        if self.draw is not None:
            return self.draw
        if self.modalities is not None and "image" not in self.modalities:
            return "never"
        if self.modalities == ["image"]:
            return "always"
        if (self.tool_choice == "none") or (self.response_format or {}).get("type", "text") != "text":
            return "never"
        return None

    @property
    def reasoner_options(self) -> dict[str, Any]:
        """Fields of the reasoner that the request sets."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop
        most = self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens
        given = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": most,
            "seed": self.seed,
            "stop": [each for each in stop if each] if stop else None,
        }
        return {name: value for name, value in given.items() if value is not None}

    @property
    def include_usage(self) -> bool:
        """Whether the last event of a stream has the usage."""
        return self.stream_options is not None and self.stream_options.include_usage


async def read_body(request: Request) -> Any:
    """Return the JSON of a request's body.

    Raises:
        InvalidRequestError: If it is not JSON.
        GenerationCancelledError: If the client has disconnected.
    """
    try:
        data = await request.body()
    except ClientDisconnect as error:
        raise GenerationCancelledError("The client disconnected before the request was complete.") from error
    try:
        return json.loads(data) if len(data) < LARGE_BODY_BYTES else await asyncio.to_thread(json.loads, data)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"The body is not valid JSON: {str(error)[:200]}. Send a JSON object.") from error


def read_request(body: Any) -> ChatRequest:
    """Return a checked request.

    Args:
        body: JSON of the body.

    Raises:
        InvalidRequestError: If a field is missing or not valid; the error names it.
    """
    try:
        return ChatRequest.model_validate(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[0]
        param = ".".join(str(part) for part in found["loc"]) or None
        message = f"{param or 'The body'} is not valid: {found['msg'].removeprefix('Value error, ').rstrip('.')}."
        raise InvalidRequestError(message, param=param) from error

"""The body of `POST /v1/responses`: OpenAI's fields, and what they mean for a turn.

The agent draws if the request has the tool `image_generation`. Functions are the client's: their calls are returned and
not run. As in chat completions, fields that change nothing here are ignored, and a field whose effect is not supported
is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from mgem_agent.gen.tool_calls import DrawMode
from mgem_agent.server.http_errors import InvalidRequestError
from mgem_agent.server.picture_wishes import PictureWishes, read_fields

__all__ = ["ImageTool", "ResponsesBody", "read_responses_body"]

MAX_ITEMS = 2_000
MAX_TOOLS = 128
IMAGE_TOOL = "image_generation"
FORMATS = ("text", "json_object", "json_schema")


class ImageTool(PictureWishes):
    """The tool `image_generation`.

    Attributes:
        type: `image_generation`.
        action: Whether to draw a new picture or to edit one; `auto` leaves it to the reasoner.
        input_image_mask: The mask of an edit, with `image_url` or `file_id`.
    """

    type: Literal["image_generation"] = "image_generation"
    action: Literal["generate", "edit", "auto"] = "auto"
    input_image_mask: dict[str, Any] | None = None

    @property
    def is_edit(self) -> bool:
        """Whether a picture is edited without asking the reasoner.

        Raises:
            InvalidRequestError: If there is a mask for a new picture.
        """
        if self.action == "generate" and self.input_image_mask is not None:
            raise InvalidRequestError(
                "input_image_mask is for editing a picture, and action is 'generate'. Leave out one of them.",
                param="tools.input_image_mask",
            )
        return self.action == "edit" or self.input_image_mask is not None


class ResponsesBody(BaseModel):
    """A request for a response.

    Attributes:
        model: `mgem` for the agent, or the reasoner's name.
        input: A text, or items: messages, pictures drawn before, calls of functions and their results.
        instructions: System prompt of this turn only.
        tools: The tool `image_generation`, and the client's functions.
        tool_choice: Which tool must be used.
        previous_response_id: The response that this one continues.
        store: Whether the response is saved, so that another one can continue it.
        stream: Whether events are sent.
        temperature: Sampling temperature of the reasoner.
        top_p: Probability mass for nucleus sampling.
        max_output_tokens: Maximum number of tokens in an answer of the reasoner.
        max_tool_calls: Maximum number of pictures.
        metadata: Returned unchanged. Its entries `budget` and `look` limit what the request may spend, and say what
            follows if a picture does not match its caption.
        text: Format of the answer.
        parallel_tool_calls: Returned unchanged.
        truncation: Returned unchanged: a dialogue that is too long always loses its earliest turns.
        reasoning: Returned unchanged.
        user: Returned unchanged.
        background: Whether the turn runs on while the client does other things, and asks for the response later.
        conversation: The conversation that this response continues, instead of `previous_response_id`.
    """

    model_config = ConfigDict(extra="ignore")

    model: str = ""
    input: str | list[dict[str, Any]] = Field(default="", max_length=MAX_ITEMS * 1000)
    instructions: str | None = None
    tools: list[dict[str, Any]] = Field(default_factory=list, max_length=MAX_TOOLS)
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any] = "auto"
    previous_response_id: str | None = None
    store: bool = True
    stream: bool = False
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_output_tokens: int | None = Field(default=None, ge=1)
    max_tool_calls: int | None = Field(default=None, ge=1)
    metadata: dict[str, str] | None = Field(default=None, max_length=16)
    text: dict[str, Any] | None = None
    parallel_tool_calls: bool = True
    truncation: Literal["auto", "disabled"] | None = None
    reasoning: dict[str, Any] | None = None
    user: str | None = None
    background: bool | None = None
    conversation: str | dict[str, Any] | None = None
    prompt: None = None
    top_logprobs: Literal[0] | None = None

    _image_tool: ImageTool | None = PrivateAttr(default=None)

    @property
    def budget(self) -> str | None:
        """Limits of what the request may spend, as for a chat completion."""
        return (self.metadata or {}).get("budget")

    @property
    def look(self) -> str | None:
        """What follows if a picture does not match its caption, as for a chat completion."""
        return (self.metadata or {}).get("look")

    def read_tools(self) -> None:
        """Check the tools, and whether `tool_choice` names one of them.

        Raises:
            InvalidRequestError: If a tool is not valid, or `tool_choice` names another one.
            UnsupportedRequestError: If pictures are not drawn in the format that is asked for.
        """
        for place, tool in enumerate(self.tools):
            kind, where = tool.get("type"), f"tools.{place}"
            if kind == IMAGE_TOOL:
                self._image_tool = read_fields(ImageTool, tool, where=where)
                self._image_tool.format  # noqa: B018  # raises before anything is done
            elif kind != "function":
                raise InvalidRequestError(
                    f"A tool of the type {str(kind)[:80]!r} is not supported. Supported: 'image_generation', "
                    "'function'.",
                    param=f"{where}.type",
                )
            elif not isinstance(tool.get("name"), str) or not tool["name"]:
                raise InvalidRequestError("A function must have a name.", param=f"{where}.name")
        known = {_name(tool) for tool in self.tools}
        unknown = sorted((self._allowed or set()) - known)
        if unknown:
            raise InvalidRequestError(
                f"tool_choice names {unknown[0][:80]!r}, which is not among the tools: "
                f"{', '.join(sorted(known)) or 'none'}.",
                param="tool_choice",
            )
        if self.tool_choice == "required" and not self.tools:
            raise InvalidRequestError(
                "tool_choice is 'required', and there are no tools. Add one.", param="tool_choice"
            )

    def check_place(self) -> None:
        """Check which dialogue the response continues, and whether it is saved where that is needed.

        Raises:
            InvalidRequestError: If the fields do not fit together.
        """
        if self.conversation is not None and not self.conversation_id:
            raise InvalidRequestError("conversation must be an id, or an object with an 'id'.", param="conversation")
        if self.conversation is not None and self.previous_response_id is not None:
            raise InvalidRequestError(
                "conversation and previous_response_id exclude each other. Give one of them.", param="conversation"
            )
        if self.background and not self.store:
            raise InvalidRequestError(
                "background=true needs store=true, because the response is asked for later. Leave out store.",
                param="background",
            )

    @property
    def conversation_id(self) -> str | None:
        """Id of the conversation; None if the response is in none."""
        given = self.conversation
        found = given.get("id") if isinstance(given, dict) else given
        return None if found is None else str(found)

    @property
    def image_tool(self) -> ImageTool | None:
        """The tool `image_generation`, unless `tool_choice` rules it out."""
        allowed = self._allowed
        return self._image_tool if allowed is None or IMAGE_TOOL in allowed else None

    @property
    def functions(self) -> list[dict[str, Any]]:
        """The client's functions that may be called, in the form of chat completions."""
        allowed = self._allowed
        if allowed is not None and allowed == {IMAGE_TOOL}:
            return []
        given = [tool for tool in self.tools if tool.get("type") == "function"]
        names = ("name", "description", "parameters", "strict")
        return [
            {"type": "function", "function": {name: tool[name] for name in names if tool.get(name) is not None}}
            for tool in given
            if allowed is None or tool["name"] in allowed
        ]

    @property
    def draw_mode(self) -> DrawMode:
        """When to draw."""
        if self.image_tool is None:
            return "never"
        return "always" if self._is_required and not self.functions else "auto"

    @property
    def chat_tool_choice(self) -> Any:
        """The choice among the functions, in the form of chat completions; None to leave it to the reasoner."""
        choice = self.tool_choice
        if isinstance(choice, dict) and choice.get("type") == "function":
            return {"type": "function", "function": {"name": choice.get("name")}}
        return "required" if self._is_required and self.functions else None

    @property
    def response_format(self) -> dict[str, Any] | None:
        """The format of the answer, in the form of chat completions; None for plain text."""
        form = (self.text or {}).get("format") or {}
        kind = form.get("type", "text")
        if kind == "text":
            return None
        if kind == "json_object":
            return {"type": "json_object"}
        return {"type": "json_schema", "json_schema": {name: value for name, value in form.items() if name != "type"}}

    @property
    def _is_required(self) -> bool:
        choice = self.tool_choice
        if isinstance(choice, str):
            return choice == "required"
        return choice.get("mode", "required") == "required"

    @property
    def _allowed(self) -> set[str] | None:
        """Names of the tools that `tool_choice` allows; None for all."""
        choice = self.tool_choice
        if isinstance(choice, str):
            return set() if choice == "none" else None
        kind = choice.get("type")
        if kind == "allowed_tools":
            return {_name(tool) for tool in choice.get("tools") or () if isinstance(tool, dict)}
        return {_name(choice)}


def read_responses_body(given: Any) -> ResponsesBody:
    """Return a checked request.

    Args:
        given: JSON of the body.

    Raises:
        InvalidRequestError: If a field is missing or not valid; the error names it.
        UnsupportedRequestError: If pictures are not drawn in the format that is asked for.
    """
    if not isinstance(given, Mapping):
        raise InvalidRequestError(f"The body is a {type(given).__name__!r}. Send a JSON object.")
    body = read_fields(ResponsesBody, given)
    body.read_tools()
    body.check_place()
    kind = ((body.text or {}).get("format") or {}).get("type", "text")
    if kind not in FORMATS:
        raise InvalidRequestError(
            f"The format {str(kind)[:80]!r} is not supported. Supported: {', '.join(map(repr, FORMATS))}.",
            param="text.format.type",
        )
    return body


def _name(tool: Mapping[str, Any]) -> str:
    return str(tool.get("name") if tool.get("type") == "function" else tool.get("type"))

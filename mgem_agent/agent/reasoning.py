"""One answer of the reasoner, whatever chat model it is: asked, streamed, and its calls read.

A model that speaks the `<GEN>` protocol is told when to draw by an option of its own; any other is given the drawing
tool. Calls are read strictly, and what is wrong with one is told to the model as the result of that call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    BaseMessageChunk,
    HumanMessage,
    message_chunk_to_message,
)
from langchain_core.runnables import Runnable, RunnableConfig

from mgem_agent.errors import InputError
from mgem_agent.gen.tool_calls import DRAW_TOOL_NAME, DrawMode, new_call_id, to_tool_call
from mgem_agent.tools.drawing_arguments import DrawArguments, read_draw_arguments
from mgem_agent.tools.tool_arguments import decode_json

__all__ = ["Answer", "AnswerCall", "Reasoning", "speaks_protocol"]


def speaks_protocol(reasoner: BaseChatModel) -> bool:
    """Whether a chat model makes calls of its captions by itself and takes the draw mode as an option."""
    return "draw" in type(reasoner).model_fields


@dataclass(frozen=True, slots=True)
class AnswerCall:
    """A call that the reasoner makes.

    Attributes:
        id: Of the call, unlike any other of the answer.
        request: The image request as JSON, or None if it is none.
        error: What is wrong with it, or None.
        notices: What of it was left out, in sentences.
    """

    id: str
    request: dict[str, Any] | None
    error: str | None
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the reasoner says.

    Attributes:
        message: As it is kept.
        calls: The pictures it asks for.
        notices: What a person should know.
    """

    message: AIMessage
    calls: tuple[AnswerCall, ...]
    notices: tuple[str, ...]


class Reasoning:
    """Asks a reasoner.

    Args:
        reasoner: Any chat model.
        defaults: Fields of every image request where a call leaves them open.
        sees: Whether it takes pictures.
    """

    def __init__(self, reasoner: BaseChatModel, defaults: Mapping[str, Any], *, sees: bool) -> None:
        self.sees = sees
        self._reasoner = reasoner
        self._defaults = defaults
        self._speaks_protocol = speaks_protocol(reasoner)

    def ask(
        self,
        messages: Sequence[BaseMessage],
        *,
        draw: DrawMode,
        session: str,
        is_first: bool,
        cancel: threading.Event,
        emit: Callable[[str], None],
    ) -> Answer:
        """Ask for one answer.

        Args:
            messages: The dialogue, with pixels.
            draw: When to draw.
            session: Whose dialogue it is.
            is_first: Whether this is the first answer of a turn, which `always` holds for.
            cancel: Set to break off; what was said by then is the answer, without calls.
            emit: Takes the text as it comes.
        """
        must_draw = draw == "always" and is_first
        message = self._streamed(self._chunks(messages, draw, session, must_draw, cancel), cancel, emit)
        notices = [str(note["message"]) for note in message.response_metadata.get("notices", ()) if "message" in note]
        if cancel.is_set():
            return Answer(AIMessage(content=message.content, id=message.id), (), tuple(notices))
        if must_draw and not message.tool_calls and not message.invalid_tool_calls:
            message, added = self._with_users_caption(message, messages)
            notices += added
        message = _with_own_ids(_with_decoded_calls(message))
        calls = [self._read(call["id"] or "", call["name"], call["args"], draw) for call in message.tool_calls]
        calls += [
            AnswerCall(
                call["id"] or "", None, f"The arguments of the call are no JSON: {call['error'] or call['args']}"
            )
            for call in message.invalid_tool_calls
        ]
        notices += [notice for call in calls for notice in call.notices]
        return Answer(message, tuple(calls), tuple(notices))

    def _chunks(
        self, messages: Sequence[BaseMessage], draw: DrawMode, session: str, must_draw: bool, cancel: threading.Event
    ) -> Iterator[BaseMessage]:
        config: RunnableConfig = {"configurable": {"thread_id": session}}
        if self._speaks_protocol:
            return self._reasoner.stream(list(messages), config, draw=draw, cancel=cancel)
        model: Runnable[Any, Any] = self._reasoner
        if draw != "never":
            try:
                options = {"tool_choice": "any"} if must_draw else {}
                model = self._reasoner.bind_tools([_tool_schema()], **options)
            except NotImplementedError:
                model = self._reasoner
        return model.stream(list(messages), config)

    @staticmethod
    def _streamed(chunks: Iterator[BaseMessage], cancel: threading.Event, emit: Callable[[str], None]) -> AIMessage:
        whole: BaseMessageChunk | None = None
        message: BaseMessage | None = None
        try:
            for chunk in chunks:
                if text := str(chunk.text):
                    emit(text)
                if isinstance(chunk, BaseMessageChunk):
                    whole = chunk if whole is None else whole + chunk
                else:
                    message = chunk
                if cancel.is_set():
                    break
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
        if isinstance(whole, AIMessageChunk):
            message = message_chunk_to_message(whole)
        return message if isinstance(message, AIMessage) else AIMessage(content="")

    def _read(self, call_id: str, name: str, args: Mapping[str, Any], draw: DrawMode) -> AnswerCall:
        if name != DRAW_TOOL_NAME:
            return AnswerCall(call_id, None, f"There is no tool {name!r}. The only one is {DRAW_TOOL_NAME!r}.")
        if draw == "never":
            return AnswerCall(call_id, None, "Drawing is off in this turn. Answer in words.")
        try:
            request, notices = read_draw_arguments(args, self._defaults)
            return AnswerCall(call_id, request.model_dump(mode="json"), None, notices)
        except InputError as error:
            return AnswerCall(call_id, None, str(error))

    def _with_users_caption(self, message: AIMessage, messages: Sequence[BaseMessage]) -> tuple[AIMessage, list[str]]:
        """The answer with a call for the user's own words, for a model that was told to draw and does not."""
        asked = next((str(each.text) for each in reversed(messages) if isinstance(each, HumanMessage)), "")
        try:
            call = to_tool_call(asked)
        except InputError:
            return message, ["A picture was asked for, and there are no words to draw."]
        note = "The reasoner wrote no caption; the words of the user are drawn."
        return message.model_copy(update={"tool_calls": [call]}), [note]


def _with_decoded_calls(message: AIMessage) -> AIMessage:
    """Make invalid calls valid where their arguments hold an object after all, as JSON text in JSON text does."""
    calls, invalid = list(message.tool_calls), []
    for call in message.invalid_tool_calls:
        arguments = decode_json(call["args"])
        if call["name"] and isinstance(arguments, dict):
            calls.append({"name": call["name"], "args": arguments, "id": call["id"], "type": "tool_call"})
        else:
            invalid.append(call)
    return message.model_copy(update={"tool_calls": calls, "invalid_tool_calls": invalid})


def _with_own_ids(message: AIMessage) -> AIMessage:
    """Give every call an id that no other call of the answer has."""
    seen: set[str] = set()

    def own(call: Any) -> Any:
        name = call["id"] if call["id"] and call["id"] not in seen else new_call_id()
        seen.add(name)
        return {**call, "id": name}

    changes = {
        "tool_calls": [own(call) for call in message.tool_calls],
        "invalid_tool_calls": [own(call) for call in message.invalid_tool_calls],
    }
    return message.model_copy(update=changes)


def _tool_schema() -> dict[str, Any]:
    """The drawing tool as models are told of it: what a caption's writer can decide."""
    return {
        "type": "function",
        "function": {
            "name": DRAW_TOOL_NAME,
            "description": (
                "Draw a picture and show it to the user. Write the prompt as a full caption: subject, setting, style. "
                "For several pictures call it several times in one answer. To change a picture, give its id as `image` "
                "with task 'edit' or 'image_to_image'."
            ),
            "parameters": DrawArguments.model_json_schema(),
        },
    }

"""Read a chat model's streamed answer: its text without thinking, and notices about how it ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    BaseMessageChunk,
    message_chunk_to_message,
)

from mgem_agent.chat_models.finish_reasons import finish_notice, read_finish_reason, refusal_text
from mgem_agent.chat_models.langchain_messages import DRAW_METADATA
from mgem_agent.chat_models.reasoner_errors import own_error
from mgem_agent.chat_models.thought_tags import holds_answer, learn_tag
from mgem_agent.chat_models.thoughts import ThoughtReader, without_thoughts
from mgem_agent.text_decoding import SurrogateJoiner, clean_text

__all__ = ["read_answer"]

_REASONING_FIELDS = ("reasoning", "reasoning_content", "reasoning_details")
_REASONING_BLOCKS = ("reasoning", "reasoning_content", "thinking")
_THOUGHT_ALOUD = "The beginning of the answer was the model's thinking. It is not saved."


def read_answer(
    chunks: Iterable[BaseMessage],
    reasoner: BaseChatModel,
    *,
    cancel: threading.Event,
    emit: Callable[[str], None],
    shows_pictures: bool,
) -> tuple[AIMessage, list[str]]:
    """Read an answer to its end.

    Args:
        chunks: The chat model's stream, or one complete message.
        reasoner: The chat model.
        cancel: Set to stop reading.
        emit: Receives the text as it arrives.
        shows_pictures: Whether the request contained pictures.

    Returns:
        The answer, and notices for the user.

    Raises:
        ContextOverflowError: If the request is too long for the model.
        ReasonerError: If the model's server fails.
    """
    shown = _Shown(emit)
    reader = ThoughtReader(holds=holds_answer(reasoner))
    joiner = SurrogateJoiner()
    whole: BaseMessageChunk | None = None
    message: BaseMessage | None = None
    try:
        for chunk in chunks:
            if _has_reasoning(chunk):
                reader.release()  # the server separates the thinking itself
            shown.add(reader.feed(joiner.feed(str(chunk.text))), reader.num_bare)
            if isinstance(chunk, BaseMessageChunk):
                whole = chunk if whole is None else whole + chunk
            else:
                message = chunk
            if cancel.is_set():
                break
        shown.add(reader.feed(joiner.finish()) + reader.close(), reader.num_bare)
    except Exception as error:
        own = own_error(error, reasoner, shows_pictures=shows_pictures)
        if own is None or own is error:
            raise
        raise own from error
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
    if isinstance(whole, AIMessageChunk):
        message = message_chunk_to_message(whole)
    answer = _cleaned(message) if isinstance(message, AIMessage) else AIMessage(content="")
    if reader.has_thought:
        answer = answer.model_copy(update={"content": without_thoughts(answer.content)})
    learn_tag(reasoner, is_bare=reader.num_bare > 0)
    return answer, _notices(answer, thought_aloud=shown.was_thought)


def _cleaned(message: AIMessage) -> AIMessage:
    """Return an answer without surrogates, which the next request could not encode."""
    names = ("content", "tool_calls", "invalid_tool_calls", "additional_kwargs", "response_metadata")
    return message.model_copy(update={name: _cleaned_value(getattr(message, name)) for name in names})


def _cleaned_value(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Mapping):
        return {key: _cleaned_value(each) for key, each in value.items()}
    return [_cleaned_value(each) for each in value] if isinstance(value, list) else value


class _Shown:
    """Passes text on, and records whether some of it turned out to be thinking."""

    def __init__(self, emit: Callable[[str], None]) -> None:
        self.was_thought = False
        self._emit = emit
        self._has_shown = False
        self._num_bare = 0

    def add(self, text: str, num_bare: int) -> None:
        if num_bare > self._num_bare:
            self.was_thought, self._num_bare = self.was_thought or self._has_shown, num_bare
        if text:
            self._has_shown = True
            self._emit(text)


def _notices(answer: AIMessage, *, thought_aloud: bool) -> list[str]:
    notes = answer.response_metadata.get("notices", ())
    notices = [str(note["message"]) for note in notes if "message" in note]
    if thought_aloud:
        notices.append(_THOUGHT_ALOUD)
    if DRAW_METADATA in answer.response_metadata:  # this package's chat models add all notices themselves
        return notices
    is_empty = not (str(answer.text).strip() or answer.tool_calls or answer.invalid_tool_calls)
    ending = finish_notice(read_finish_reason(answer), refusal=refusal_text(answer), is_empty=is_empty)
    return notices if ending is None or ending in notices else [*notices, ending]


def _has_reasoning(message: BaseMessage) -> bool:
    """Return whether a message has reasoning in a field or a block of its own."""
    if any(message.additional_kwargs.get(name) for name in _REASONING_FIELDS):
        return True
    blocks = message.content if isinstance(message.content, list) else []
    return any(isinstance(block, dict) and block.get("type") in _REASONING_BLOCKS for block in blocks)

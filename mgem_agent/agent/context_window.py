"""Choose the part of a dialogue for a request: the latest turns and pictures that fit the context.

The current turn is always included. Earlier turns are added from the latest on, each with its pictures, until one does
not fit. If only a turn's pictures do not fit, its text is included and its pictures are named by id. Sizes are
estimated from the lengths of the texts. The model's token count or a server's error message corrects the estimate, so
that the second request fits.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from mgem_agent.chat_models.reasoner_facts import ReasonerFacts

__all__ = ["DialogueTurns", "Limits", "Window"]

_BYTES_A_TOKEN = 3.5
"""UTF-8 bytes per token: about 4 in English, and 3 (one character) in Chinese."""
_MESSAGE_TOKENS = 8
_PICTURE_WORDS = 25
_MAX_NAMED = 12


@dataclass(frozen=True, slots=True)
class Limits:
    """The configured limits of a request.

    Attributes:
        max_pictures: Maximum number of pictures.
        max_tokens: Maximum number of tokens; None for the whole context.
        reserve: Tokens reserved for the answer; None for an eighth of the context, at most 512.
    """

    max_pictures: int
    max_tokens: int | None = None
    reserve: int | None = None

    def context(self, facts: ReasonerFacts) -> int | None:
        """Return the smaller of `max_tokens` and the reasoner's context; None if neither is known."""
        known = [limit for limit in (self.max_tokens, facts.max_context) if limit is not None]
        return min(known, default=None)

    def room(self, facts: ReasonerFacts) -> float:
        """Return the number of tokens that a request may take."""
        context = self.context(facts)
        if context is None:
            return float("inf")
        return context - (min(512, context // 8) if self.reserve is None else self.reserve)


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a dialogue: its latest turns, with the latest pictures.

    Attributes:
        first_turn: Index of the earliest turn that is included.
        num_pictures: Number of pictures that are included; the others are named by id.
    """

    first_turn: int
    num_pictures: int


class DialogueTurns:
    """The turns of a dialogue with their estimated sizes.

    Args:
        history: Messages of earlier turns.
        own: Messages of the current turn.
        fixed: Number of characters that every request adds: the system prompt and the tools.
    """

    def __init__(self, history: Sequence[BaseMessage], own: Sequence[BaseMessage], *, fixed: int = 0) -> None:
        self._turns: list[list[BaseMessage]] = []
        for message in history:
            if isinstance(message, HumanMessage) or not self._turns:
                self._turns.append([])
            self._turns[-1].append(message)
        self._turns.append(list(own))
        self._fixed = fixed / _BYTES_A_TOKEN
        self._texts = [sum(map(_text_tokens, turn)) for turn in self._turns]
        self._pictures = [sum(map(_num_pictures, turn)) for turn in self._turns]
        # Pictures that come with the question must be shown; pictures drawn in this turn may be named only.
        self._num_wanted = self._pictures[-1] if len(own) == 1 else 0

    def everything(self, limits: Limits) -> Window:
        """Return the window of all turns, with the maximum number of pictures."""
        return Window(0, min(sum(self._pictures), limits.max_pictures))

    def fitting(self, limits: Limits, facts: ReasonerFacts) -> Window:
        """Return the window that fits by estimate.

        Args:
            limits: The limits.
            facts: Known facts about the reasoner.
        """
        last = len(self._turns) - 1
        left = limits.room(facts) - (self._fixed + self._texts[last]) * facts.text_scale
        shown = min(self._num_wanted, limits.max_pictures)
        left -= shown * facts.picture_tokens
        first, is_open = last, True
        for turn in range(last, -1, -1):
            if turn < last:
                left -= self._texts[turn] * facts.text_scale
                if left < 0:
                    break
                first = turn
            for _ in range(self._pictures[turn] - (shown if turn == last else 0)):
                is_open = is_open and shown < limits.max_pictures and facts.picture_tokens <= left
                if is_open:
                    shown, left = shown + 1, left - facts.picture_tokens
        return Window(first, shown)

    def smaller(self, window: Window, limits: Limits, facts: ReasonerFacts) -> Window | None:
        """Return a smaller window than one that did not fit; None if it is already the smallest.

        Args:
            window: The window that did not fit.
            limits: The limits.
            facts: Known facts about the reasoner.
        """
        found = self.fitting(limits, facts)
        if found.first_turn > window.first_turn and found.num_pictures <= window.num_pictures:
            return found
        if found.first_turn == window.first_turn and found.num_pictures < window.num_pictures:
            return found
        least = min(self._num_wanted, limits.max_pictures)
        if window.num_pictures > least:
            return Window(window.first_turn, max(least, window.num_pictures // 2))
        last = len(self._turns) - 1
        if window.first_turn < last:
            return Window((window.first_turn + last + 1) // 2, window.num_pictures)
        return None

    def estimate(self, window: Window, facts: ReasonerFacts) -> float:
        """Return the estimated number of tokens of a window."""
        return self.text_tokens(window) * facts.text_scale + window.num_pictures * facts.picture_tokens

    def text_tokens(self, window: Window) -> float:
        """Return the uncorrected estimate of the text tokens of a window."""
        return self._fixed + sum(self._texts[window.first_turn :])

    def left_out(self, window: Window) -> tuple[int, int]:
        """Return the number of turns and of pictures that a window leaves out."""
        return window.first_turn, sum(self._pictures) - window.num_pictures

    def num_unseen(self, window: Window) -> int:
        """Return how many pictures of the current question a window leaves out."""
        return max(0, self._num_wanted - window.num_pictures)

    def messages(self, window: Window) -> list[BaseMessage]:
        """Return the messages of a window; its first earlier turn begins with a note of what was left out."""
        told = [message for turn in self._turns[window.first_turn :] for message in turn]
        if not window.first_turn or window.first_turn == len(self._turns) - 1:
            return told
        names = [name for turn in self._turns[: window.first_turn] for message in turn for name in _names(message)]
        note = f"[{window.first_turn} earlier turn(s) are left out"
        if names := list(dict.fromkeys(names))[-_MAX_NAMED:]:
            note += f"; their latest pictures: {', '.join(names)}"
        first = told[0]
        content: Any = f"{note}]\n\n{first.content}"
        if not isinstance(first.content, str):
            content = [{"type": "text", "text": f"{note}]\n\n"}, *first.content]
        return [first.model_copy(update={"content": content}), *told[1:]]


def _text_tokens(message: BaseMessage) -> float:
    text = str(message.text)
    if isinstance(message, AIMessage):
        text += "".join(json.dumps(call["args"], default=str) for call in message.tool_calls)
    return (
        len(text.encode(errors="replace")) / _BYTES_A_TOKEN + _MESSAGE_TOKENS + _PICTURE_WORDS * _num_pictures(message)
    )


def _num_pictures(message: BaseMessage) -> int:
    return len(_names(message))


def _names(message: BaseMessage) -> list[str]:
    """Return the ids of a message's pictures."""
    if isinstance(message.content, str):
        return []
    blocks = [block for block in message.content if isinstance(block, dict)]
    return [str(block.get("file_id")) for block in blocks if block.get("type") in ("image", "image_url")]

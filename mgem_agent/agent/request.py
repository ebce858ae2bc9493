"""What of a dialogue goes into a request: the newest turns and pictures that fit the context.

The turn under way is always told. Before it, turns are taken from the newest on, each with its pictures, until the next
one does not fit; of a turn whose pictures do not fit, the words are told and the pictures named by id. Sizes are
estimated from the length of the texts. What a model's own count or a server's refusal says corrects the estimate, so
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
"""Of UTF-8: about 4 in English, and 3, one letter, in Chinese."""
_MESSAGE_TOKENS = 8
_PICTURE_WORDS = 25
_MAX_NAMED = 12


@dataclass(frozen=True, slots=True)
class Limits:
    """What a person allows a request to hold.

    Attributes:
        max_pictures: Pictures at most.
        max_tokens: Tokens at most, where the context is to be filled no further; None for all of it.
        reserve: Tokens that are left for the answer; None for an eighth of the context, at most 512.
    """

    max_pictures: int
    max_tokens: int | None = None
    reserve: int | None = None

    def context(self, facts: ReasonerFacts) -> int | None:
        """Return the smaller of what is allowed and what the reasoner holds; None if neither is known."""
        known = [limit for limit in (self.max_tokens, facts.max_context) if limit is not None]
        return min(known, default=None)

    def room(self, facts: ReasonerFacts) -> float:
        """Return the tokens that a request may take."""
        context = self.context(facts)
        if context is None:
            return float("inf")
        return context - (min(512, context // 8) if self.reserve is None else self.reserve)


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a dialogue: its latest turns, and its latest pictures among them.

    Attributes:
        first_turn: The earliest turn that is told.
        num_pictures: How many pictures are shown; the others are named.
    """

    first_turn: int
    num_pictures: int


class DialogueTurns:
    """A dialogue, turn by turn, with what each turn takes.

    Args:
        history: Messages of earlier turns.
        own: Messages of the turn under way.
        fixed: Characters that every request has besides: the system prompt, the tools.
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
        # A person wants the pictures seen that come with the question; those drawn in this turn are named if need be.
        self._num_wanted = self._pictures[-1] if len(own) == 1 else 0

    def everything(self, limits: Limits) -> Window:
        """Return the window of all turns, with as many pictures as are allowed."""
        return Window(0, min(sum(self._pictures), limits.max_pictures))

    def fitting(self, limits: Limits, facts: ReasonerFacts) -> Window:
        """Return the window that fits by estimate.

        Args:
            limits: What is allowed.
            facts: What is known of the reasoner.
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
        """Return a window that is smaller than one that did not fit; None if that is the smallest.

        Args:
            window: What did not fit.
            limits: What is allowed.
            facts: What is known of the reasoner by now.
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
        """Return the tokens that a window takes, by estimate."""
        return self.text_tokens(window) * facts.text_scale + window.num_pictures * facts.picture_tokens

    def text_tokens(self, window: Window) -> float:
        """Return the tokens of a window's texts as they are estimated without correction."""
        return self._fixed + sum(self._texts[window.first_turn :])

    def left_out(self, window: Window) -> tuple[int, int]:
        """Return how many turns and how many pictures a window leaves out."""
        return window.first_turn, sum(self._pictures) - window.num_pictures

    def num_unseen(self, window: Window) -> int:
        """Return how many of the pictures that come with the question a window does not show."""
        return max(0, self._num_wanted - window.num_pictures)

    def messages(self, window: Window) -> list[BaseMessage]:
        """Return the messages of a window; an earlier turn among them begins with what was left out."""
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

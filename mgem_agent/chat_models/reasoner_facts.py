"""Facts that are learned about a reasoner while it is used, and kept for its lifetime.

A provider's profile rarely says whether a model takes pictures or how long its context is, but its first error does. A
chat creates a new agent when a setting changes, so the facts belong to the reasoner and not to the agent.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass, field

from langchain_core.language_models import BaseChatModel

__all__ = ["ReasonerFacts", "facts_of"]

TYPICAL_PICTURE_TOKENS = 1_000.0
MAX_SESSIONS = 1_000


@dataclass(slots=True)
class ReasonerFacts:
    """Known facts about a reasoner.

    Attributes:
        sees: Whether it accepts pictures; None if unknown.
        max_pictures: Maximum number of pictures in a request; None if unknown.
        max_context: Size of its context in tokens; None if unknown.
        picture_tokens: Number of tokens per picture.
        text_scale: Ratio of its real token count to the estimated one.
        omits_thought_tag: Whether its thinking arrives without an opening tag; None before its first answer.
        left_out: By session, the number of turns and pictures that the last request left out.
    """

    sees: bool | None = None
    max_pictures: int | None = None
    max_context: int | None = None
    picture_tokens: float = TYPICAL_PICTURE_TOKENS
    text_scale: float = 1.0
    omits_thought_tag: bool | None = None
    left_out: dict[str, tuple[int, int]] = field(default_factory=dict)

    def note_left_out(self, session: str, counts: tuple[int, int]) -> None:
        """Note what a request left out; only the sessions that were used last are kept.

        Args:
            session: Name of the session.
            counts: Number of turns and of pictures.
        """
        with _lock:
            self.left_out.pop(session, None)
            self.left_out[session] = counts
            while len(self.left_out) > MAX_SESSIONS:
                del self.left_out[next(iter(self.left_out))]


_facts: dict[int, ReasonerFacts] = {}
_lock = threading.Lock()


def facts_of(reasoner: BaseChatModel) -> ReasonerFacts:
    """Return the facts about a reasoner; callers update them."""
    key = id(reasoner)  # chat models are compared by their fields and cannot be hashed
    with _lock:
        if key not in _facts:
            profile = reasoner.profile or getattr(getattr(reasoner, "chat_model", None), "profile", None) or {}
            sees = profile.get("image_inputs")
            _facts[key] = ReasonerFacts(sees=sees, max_context=profile.get("max_input_tokens"))
            weakref.finalize(reasoner, _facts.pop, key, None)
        return _facts[key]

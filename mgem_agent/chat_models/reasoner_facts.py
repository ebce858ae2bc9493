"""What is found out about a reasoner while it is asked, and kept for as long as it lives.

A provider's profile rarely says whether a model takes pictures or how long its context is; its first refusal does. A
chat makes its agent anew when a setting changes, so the facts belong to the reasoner, not to the agent.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass, field

from langchain_core.language_models import BaseChatModel

__all__ = ["ReasonerFacts", "facts_of"]

TYPICAL_PICTURE_TOKENS = 1_000.0


@dataclass(slots=True)
class ReasonerFacts:
    """What is known of a reasoner.

    Attributes:
        sees: Whether it takes pictures; None while nobody knows.
        max_pictures: Pictures that it takes in a request; None while nobody knows.
        max_context: Tokens that its context holds; None while nobody knows.
        picture_tokens: Tokens that a picture takes.
        text_scale: Tokens that its tokenizer makes of one token as it is estimated here.
        thinks_bare: Whether its thinking arrives without an opening tag.
        left_out: For each session, how many turns and pictures the last request left out.
    """

    sees: bool | None = None
    max_pictures: int | None = None
    max_context: int | None = None
    picture_tokens: float = TYPICAL_PICTURE_TOKENS
    text_scale: float = 1.0
    thinks_bare: bool = False
    left_out: dict[str, tuple[int, int]] = field(default_factory=dict)


_facts: dict[int, ReasonerFacts] = {}
_lock = threading.Lock()


def facts_of(reasoner: BaseChatModel) -> ReasonerFacts:
    """Return what is known of a reasoner, to be added to."""
    key = id(reasoner)  # chat models are compared by their fields and cannot be hashed
    with _lock:
        if key not in _facts:
            profile = reasoner.profile or getattr(getattr(reasoner, "chat_model", None), "profile", None) or {}
            sees = profile.get("image_inputs")
            _facts[key] = ReasonerFacts(sees=sees, max_context=profile.get("max_input_tokens"))
            weakref.finalize(reasoner, _facts.pop, key, None)
        return _facts[key]

"""Asking a person about captions that wait: draw them, change them first, or leave them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mgem_agent.agent.decision import Decision
    from mgem_agent.agent.events import ConfirmationNeeded

__all__ = ["ask_decision"]

QUESTION = "Draw it? [y]es, [e]dit, [n]o and why: "
QUESTION_MANY = "Draw them? [y]es, [e]dit, [n]o and why: "


def ask_decision(
    waiting: ConfirmationNeeded, edit: Callable[[str, str], str | None], tell: Callable[[str], None]
) -> Decision | None:
    """Ask until there is a decision.

    Args:
        waiting: What waits; its captions have been shown.
        edit: Asks a question with an answer that is begun; None for no answer.
        tell: Says a sentence.

    Returns:
        The decision; None where the person leaves the captions waiting.
    """
    from mgem_agent.agent.decision import Decision

    question = QUESTION if len(waiting.captions) == 1 else QUESTION_MANY
    while True:
        answer = edit(question, "")
        if answer is None:
            tell("The caption waits. /resume asks again, /undo drops the turn.")
            return None
        word, _, rest = answer.strip().partition(" ")
        if word.lower() in ("y", "yes"):
            return Decision(kind="approve")
        if word.lower() in ("n", "no"):
            return Decision(kind="refuse", reason=rest)
        if word.lower() in ("e", "edit"):
            decision = _edited(waiting, edit)
            if decision is not None:
                return decision
        else:
            tell("Say y, e or n; with n, a reason may follow.")


def _edited(waiting: ConfirmationNeeded, edit: Callable[[str, str], str | None]) -> Decision | None:
    """Let each caption be edited; an empty one is not drawn. None where the person thinks better of it."""
    from mgem_agent.agent.decision import Decision

    edits: dict[str, dict[str, object]] = {}
    refused: list[str] = []
    for number, caption in enumerate(waiting.captions, 1):
        text = edit(f"Caption {number} of {len(waiting.captions)}, empty for none: ", caption.prompt)
        if text is None:
            return None
        if not text.strip():
            refused.append(caption.call_id)
        elif text.strip() != caption.prompt:
            edits[caption.call_id] = {"prompt": text.strip()}
    return Decision.model_validate({"kind": "edit", "edits": edits, "refused": refused})

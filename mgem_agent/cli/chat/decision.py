"""Ask the user to approve, edit or refuse captions before drawing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mgem_agent.agent.decision import Decision
    from mgem_agent.agent.events import ConfirmationNeeded

__all__ = ["ask_decision"]

QUESTION = "Draw it? [y]es, [e]dit, [n]o (you may add a reason): "
QUESTION_MANY = "Draw them? [y]es, [e]dit, [n]o (you may add a reason): "


def ask_decision(
    waiting: ConfirmationNeeded, edit: Callable[[str, str], str | None], tell: Callable[[str], None]
) -> Decision | None:
    """Ask until the user has decided.

    Args:
        waiting: The captions, which have already been shown.
        edit: Asks a question, with a default answer to edit; returns None without an answer.
        tell: Prints a message.

    Returns:
        The decision; None if the user leaves it for later.
    """
    from mgem_agent.agent.decision import Decision

    question = QUESTION if len(waiting.captions) == 1 else QUESTION_MANY
    while True:
        answer = edit(question, "")
        if answer is None:
            tell("The caption still waits for confirmation. /resume asks again, /undo drops the turn.")
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
            tell("Answer y, e or n. After n you may give a reason.")


def _edited(waiting: ConfirmationNeeded, edit: Callable[[str, str], str | None]) -> Decision | None:
    """Let the user edit each caption; an empty one is not drawn. Returns None if the user cancels."""
    from mgem_agent.agent.decision import Decision

    edits: dict[str, dict[str, object]] = {}
    refused: list[str] = []
    for number, caption in enumerate(waiting.captions, 1):
        text = edit(f"Caption {number} of {len(waiting.captions)} (empty: do not draw it): ", caption.prompt)
        if text is None:
            return None
        if not text.strip():
            refused.append(caption.call_id)
        elif text.strip() != caption.prompt:
            edits[caption.call_id] = {"prompt": text.strip()}
    return Decision.model_validate({"kind": "edit", "edits": edits, "refused": refused})

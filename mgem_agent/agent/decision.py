"""What a person says to captions that wait: draw them, draw them otherwise, or leave them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from mgem_agent.agent.drawing import read_request
from mgem_agent.errors import InputError

__all__ = ["Decision", "apply_decision", "read_decision"]


class Decision(BaseModel):
    """A decision on all captions that wait.

    Attributes:
        kind: `approve`, `edit` or `refuse`.
        edits: For `edit`: what changes in the request of each call id; calls that are not named stay as they are.
        refused: For `edit`: call ids that are not drawn.
        reason: For `refuse`, and for calls refused by an edit: what the reasoner is told.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["approve", "edit", "refuse"]
    edits: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
    refused: tuple[str, ...] = ()
    reason: str = ""


def read_decision(decision: Decision | str) -> Decision:
    """Take a decision, or the word for one.

    Raises:
        InputError: If the word is none of `approve` and `refuse`.
    """
    if isinstance(decision, Decision):
        return decision
    if decision not in ("approve", "refuse"):
        raise InputError(
            f"There is no decision {decision!r}. Give 'approve', 'refuse', or a Decision with edits to change captions."
        )
    return Decision(kind="approve" if decision == "approve" else "refuse")


def apply_decision(
    calls: Sequence[Mapping[str, Any]], decision: Decision
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Say what is drawn.

    Args:
        calls: What waits: each with `call_id` and `request`.
        decision: What the person says.

    Returns:
        The calls to be drawn, and the reason for each call id that is not.

    Raises:
        InputError: If the decision names a call that does not wait, or an edit makes no image request.
    """
    known = [call["call_id"] for call in calls]
    strangers = [name for name in (*decision.edits, *decision.refused) if name not in known]
    if strangers:
        raise InputError(f"No call {strangers[0]!r} waits for a decision. Waiting: {', '.join(map(repr, known))}.")
    reason = "The person refused this picture." + (f" {decision.reason.strip()}" if decision.reason.strip() else "")
    refused = set(known) if decision.kind == "refuse" else set(decision.refused)
    drawn = []
    for call in calls:
        if call["call_id"] in refused:
            continue
        edits = decision.edits.get(call["call_id"], {})
        request = read_request({**call["request"], **edits}, {}).model_dump(mode="json")
        drawn.append({**call, "request": request})
    return drawn, {name: reason for name in known if name in refused}

"""The user's decision on captions that wait for confirmation: approve, edit or refuse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from mgem_agent.agent.drawing import read_request
from mgem_agent.errors import InputError

__all__ = ["Decision", "apply_decision", "read_decision"]


class Decision(BaseModel):
    """A decision on all captions that wait for confirmation.

    Attributes:
        kind: `approve`, `edit` or `refuse`.
        edits: For `edit`: changed request fields by call id. Calls that are not listed do not change.
        refused: For `edit`: ids of the calls that are not drawn.
        reason: For refused calls: the reason that is sent to the reasoner.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["approve", "edit", "refuse"]
    edits: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
    refused: tuple[str, ...] = ()
    reason: str = ""


def read_decision(decision: Decision | str) -> Decision:
    """Convert `approve` or `refuse` to a decision.

    Raises:
        InputError: If it is another word.
    """
    if isinstance(decision, Decision):
        return decision
    if decision not in ("approve", "refuse"):
        raise InputError(f"There is no decision {decision!r}. Give 'approve', 'refuse', or a Decision with edits.")
    return Decision(kind="approve" if decision == "approve" else "refuse")


def apply_decision(
    calls: Sequence[Mapping[str, Any]], decision: Decision
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return what to draw after a decision.

    Args:
        calls: The waiting calls, each with `call_id` and `request`.
        decision: The user's decision.

    Returns:
        The calls to draw, and the reason for each call id that is not drawn.

    Raises:
        InputError: If the decision names an unknown call, or an edit does not give a valid image request.
    """
    known = [call["call_id"] for call in calls]
    strangers = [name for name in (*decision.edits, *decision.refused) if name not in known]
    if strangers:
        raise InputError(
            f"No call {strangers[0]!r} is waiting for a decision. Waiting calls: {', '.join(map(repr, known))}."
        )
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

"""The record of a session: a name for its last turn, with counts and times, as stored and as shown in a list."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

__all__ = ["SessionSummary", "new_record", "now", "summary_of", "with_cost", "with_turn"]


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """Summary of a session.

    Attributes:
        name: Name of the session.
        num_turns: Number of finished turns.
        num_pictures: Number of pictures drawn in them.
        title: Beginning of the first message.
        updated: Time of the last change (UTC).
        unfinished: Whether a turn was interrupted, or waits for a decision.
        cost: What all its turns have cost, also those that were undone: amounts by name.
    """

    name: str
    num_turns: int
    num_pictures: int
    title: str
    updated: datetime
    unfinished: bool
    cost: dict[str, float] = field(default_factory=dict)


def summary_of(record: dict[str, Any]) -> SessionSummary:
    """Return the summary of a session's record."""
    return SessionSummary(
        name=record["name"],
        num_turns=record["num_turns"],
        num_pictures=record["num_pictures"],
        title=record["title"],
        updated=datetime.fromisoformat(record["updated"]),
        unfinished=record["open"] is not None,
        cost=record.get("cost", {}),
    )


def with_turn(record: dict[str, Any], turn: dict[str, Any], by: int) -> dict[str, Any]:
    """Return a session's record with the counts of a turn added or subtracted.

    Args:
        record: The record of the session.
        turn: The record of the turn.
        by: 1 to add, -1 to subtract.
    """
    num_pictures = record["num_pictures"] + by * len(turn.get("pictures", ()))
    return record | {"num_turns": record["num_turns"] + by, "num_pictures": num_pictures}


def with_cost(record: dict[str, Any], cost: Mapping[str, float]) -> dict[str, float]:
    """Return the cost of a session with another cost added."""
    known = record.get("cost", {})
    return {
        name: known.get(name, 0) + cost.get(name, 0) for name in (*known, *(each for each in cost if each not in known))
    }


def new_record(session: str) -> dict[str, Any]:
    """Return the record of a session without turns."""
    return {
        "format": 1,
        "name": session,
        "lineage": uuid.uuid4().hex,
        "head": None,
        "open": None,
        "num_turns": 0,
        "num_pictures": 0,
        "title": "",
        "created": now(),
    }


def now() -> str:
    """Return the time (UTC), as records have it."""
    return datetime.now(UTC).isoformat()

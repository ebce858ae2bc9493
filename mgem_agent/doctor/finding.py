"""The result of a check."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["Check", "Finding", "FindingStatus"]

FindingStatus = Literal["ok", "note", "problem"]
"""`problem`: the configuration does not work; `note`: something is missing that the configuration does not need."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        topic: The topic, in one or two words.
        status: Whether it is ok, a note or a problem.
        text: What was found.
        fix: The command that fixes it, or None.
    """

    topic: str
    status: FindingStatus
    text: str
    fix: str | None = None


Check = tuple[str, Callable[[], Sequence[Finding]]]
"""A topic, and the function that checks it."""

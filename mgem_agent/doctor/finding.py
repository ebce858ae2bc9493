"""What a check finds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["Check", "Finding", "FindingStatus"]

FindingStatus = Literal["ok", "note", "problem"]
"""`problem`: what is settled cannot run; `note`: something is missing that it does not need."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: What it is about, in a word or two.
        status: How it stands.
        text: What was found.
        mend: The command that mends it, or None.
    """

    topic: str
    status: FindingStatus
    text: str
    mend: str | None = None


Check = tuple[str, Callable[[], Sequence[Finding]]]
"""A topic, for what goes wrong, and what looks at it."""

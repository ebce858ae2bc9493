"""What this machine can run with what is settled, what is missing, and the command that mends it.

Each check looks at one thing, in a thread that nobody waits for longer than its time: a dead server or a folder of a
network that is gone cannot hold the others up. A check that fails in a way that nobody thought of is a finding too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Literal

from mgem_agent.errors import MgemError
from mgem_agent.settings import Settings
from mgem_agent.tools.background_call import call_in_background

__all__ = ["Check", "Finding", "FindingStatus", "diagnose", "run_checks"]

FindingStatus = Literal["ok", "note", "problem"]
"""`problem`: what is settled cannot run; `note`: something is missing that it does not need."""

TIME_LIMIT_S = 60.0


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


def diagnose(settings: Settings) -> Iterator[Finding]:
    """Look at the machine and at what is settled, and yield each finding as it is made.

    Args:
        settings: What is settled.
    """
    from mgem_agent.diagnosis_machine import machine_checks
    from mgem_agent.diagnosis_setup import setup_checks

    yield from run_checks([*machine_checks(), *setup_checks(settings)])


def run_checks(checks: Sequence[Check], *, time_limit_s: float = TIME_LIMIT_S) -> Iterator[Finding]:
    """Run checks, one after another.

    Args:
        checks: What to look at.
        time_limit_s: Seconds that each may take.
    """
    for topic, check in checks:
        try:
            yield from call_in_background(check).result(time_limit_s)
        except FutureTimeoutError:
            yield Finding(topic, "problem", f"The check did not end within {time_limit_s:g} s.")
        except MgemError as error:
            yield Finding(topic, "problem", str(error))
        except Exception as error:  # whatever a package or a server does wrong belongs in the report
            yield Finding(topic, "problem", f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")

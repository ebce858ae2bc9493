"""Check whether the configuration works on this machine, what is missing, and which command fixes it.

Each check runs in a thread with a time limit, so that a dead server or a lost network folder does not block the others.
An unexpected error in a check becomes a finding too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError

from mgem_agent.doctor.finding import Check, Finding
from mgem_agent.doctor.machine import machine_checks
from mgem_agent.doctor.setup import setup_checks
from mgem_agent.errors import MgemError
from mgem_agent.settings import Settings
from mgem_agent.tools.background_call import call_in_background

__all__ = ["diagnose", "run_checks"]

TIME_LIMIT_S = 60.0


def diagnose(settings: Settings) -> Iterator[Finding]:
    """Check the machine and the configuration, and yield each finding as soon as it is known.

    Args:
        settings: The settings to check.
    """
    yield from run_checks([*machine_checks(), *setup_checks(settings)])


def run_checks(checks: Sequence[Check], *, time_limit_s: float = TIME_LIMIT_S) -> Iterator[Finding]:
    """Run checks one after another.

    Args:
        checks: The checks.
        time_limit_s: Time limit of each check in seconds.
    """
    for topic, check in checks:
        try:
            yield from call_in_background(check).result(time_limit_s)
        except FutureTimeoutError:
            yield Finding(topic, "problem", f"The check did not finish within {time_limit_s:g} s.")
        except MgemError as error:
            yield Finding(topic, "problem", str(error))
        except Exception as error:  # any failure of a package or a server belongs in the report
            yield Finding(topic, "problem", f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")

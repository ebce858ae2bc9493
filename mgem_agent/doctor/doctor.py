"""What this machine can run with what is settled, what is missing, and the command that mends it.

Each check looks at one thing, in a thread that nobody waits for longer than its time: a dead server or a folder of a
network that is gone cannot hold the others up. A check that fails in a way that nobody thought of is a finding too.
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
    """Look at the machine and at what is settled, and yield each finding as it is made.

    Args:
        settings: What is settled.
    """
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

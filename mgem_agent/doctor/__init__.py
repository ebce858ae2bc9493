"""The checks of `mgem doctor`: whether the configuration works, what is missing, and which command fixes it."""

from typing import TYPE_CHECKING

from mgem_agent._lazy import attach

if TYPE_CHECKING:
    from mgem_agent.doctor.doctor import diagnose, run_checks
    from mgem_agent.doctor.finding import Check, Finding, FindingStatus

__all__ = [
    "Check",
    "Finding",
    "FindingStatus",
    "diagnose",
    "run_checks",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "Check": "mgem_agent.doctor.finding",
        "Finding": "mgem_agent.doctor.finding",
        "FindingStatus": "mgem_agent.doctor.finding",
        "diagnose": "mgem_agent.doctor.doctor",
        "run_checks": "mgem_agent.doctor.doctor",
    },
)

"""Saved dialogues: LangGraph checkpoints in memory, SQLite or PostgreSQL, and their locks."""

from typing import TYPE_CHECKING

from mgem_agent._lazy import attach

if TYPE_CHECKING:
    from mgem_agent.sessions.session_record import SessionSummary
    from mgem_agent.sessions.sessions import Sessions, default_session_folder

__all__ = [
    "SessionSummary",
    "Sessions",
    "default_session_folder",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "SessionSummary": "mgem_agent.sessions.session_record",
        "Sessions": "mgem_agent.sessions.sessions",
        "default_session_folder": "mgem_agent.sessions.sessions",
    },
)

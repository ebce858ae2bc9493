"""Which session a dialogue is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgem_agent.errors import InputError

if TYPE_CHECKING:
    from mgem_agent.sessions.sessions import Sessions

__all__ = ["find_session", "match_session", "new_session_name"]


def new_session_name() -> str:
    """Return a name for a new session of a chat."""
    from mgem_agent.sessions.sessions import new_session_name

    return new_session_name("chat")


def match_session(sessions: Sessions, word: str) -> str:
    """Find a session by its name, or by the beginning of it if that of no other begins so.

    Raises:
        InputError: If there is none, or more than one.
    """
    known = [each.name for each in sessions.list()]
    found = [name for name in known if name == word] or [name for name in known if name.startswith(word)]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"{word!r} is the beginning of {len(found)} sessions: {', '.join(map(repr, found[:5]))}. Give more of it."
        )
    latest = ", ".join(map(repr, known[:5])) or "none"
    raise InputError(f"There is no session {word!r}. The latest: {latest}. Run: mgem sessions")


def find_session(
    sessions: Sessions, *, resume: str | None = None, session: str | None = None, go_on: bool = False
) -> str:
    """Say which session is meant.

    Args:
        sessions: All of them.
        resume: One that there is, by its name or the beginning of it.
        session: One that may be new.
        go_on: Whether the one that changed last is meant.

    Returns:
        Its name; a new one if none is meant.

    Raises:
        InputError: If there is none to go on with.
    """
    if resume is not None:
        return match_session(sessions, resume)
    if go_on:
        latest = sessions.list()
        if not latest:
            raise InputError("There is no session to go on with yet. Begin one: mgem chat")
        return latest[0].name
    return session if session is not None else new_session_name()

"""Choose the session of a chat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgem_agent.errors import InputError

if TYPE_CHECKING:
    from mgem_agent.sessions.sessions import Sessions

__all__ = ["find_session", "match_session", "new_session_name"]


def new_session_name() -> str:
    """Return a name for a new chat session."""
    from mgem_agent.sessions.sessions import new_session_name

    return new_session_name("chat")


def match_session(sessions: Sessions, word: str) -> str:
    """Find a session by its name or by a unique beginning of its name.

    Raises:
        InputError: If no session matches, or several do.
    """
    known = [each.name for each in sessions.list()]
    found = [name for name in known if name == word] or [name for name in known if name.startswith(word)]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"{word!r} matches {len(found)} sessions: {', '.join(map(repr, found[:5]))}. Give more of the name."
        )
    latest = ", ".join(map(repr, known[:5])) or "none"
    raise InputError(f"There is no session {word!r}. The latest sessions: {latest}. List all: mgem sessions")


def find_session(
    sessions: Sessions, *, resume: str | None = None, session: str | None = None, is_continued: bool = False
) -> str:
    """Return the name of the session to use.

    Args:
        sessions: The session storage.
        resume: Name of an existing session, or the beginning of it.
        session: Name of an existing or new session.
        is_continued: Whether to continue the most recent session.

    Returns:
        The session's name; a new name if no session is given.

    Raises:
        InputError: If there is no session to continue.
    """
    if resume is not None:
        return match_session(sessions, resume)
    if is_continued:
        latest = sessions.list()
        if not latest:
            raise InputError("There is no session to continue yet. Start one: mgem chat")
        return latest[0].name
    return session if session is not None else new_session_name()

"""What servers that share their sessions tell each other about responses in the background.

The server that runs a response holds a lock of the sessions meanwhile. It ends with the server, so another server knows
whether the response still runs or was lost. A note asks the server to cancel it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from mgem_agent.sessions.sessions import Sessions

__all__ = ["SharedRuns"]

CANCELS = "response_cancels"


class SharedRuns:
    """The responses of one user that run in the background, on any server.

    Args:
        sessions: The user's sessions.
    """

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def hold(self, response_id: str) -> AbstractContextManager[None]:
        """Note that this server runs a response, while the result is open."""
        return self._sessions.hold(_lock_of(response_id))

    def is_running(self, response_id: str) -> bool:
        """Return whether any server runs a response."""
        return self._sessions.is_held(_lock_of(response_id))

    def ask_to_cancel(self, response_id: str) -> None:
        """Ask the server that runs a response to cancel it."""
        self._sessions.put_note(CANCELS, response_id, {})

    def is_asked_to_cancel(self, response_id: str) -> bool:
        """Return whether a server was asked to cancel a response."""
        return self._sessions.note(CANCELS, response_id) is not None

    def forget(self, response_id: str) -> None:
        """Delete the note that asks to cancel a response, if there is one."""
        self._sessions.delete_note(CANCELS, response_id)


def _lock_of(response_id: str) -> str:
    return f"a run of {response_id}"  # not the name of a session: those of responses begin otherwise

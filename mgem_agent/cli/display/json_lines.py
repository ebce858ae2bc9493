"""Write events as JSON Lines, for programs.

`kind` is the type of an object; the other fields are those of the classes in `mgem_agent.agent.events`:

=============== =====================================================================================
`text`          `text`: a piece of the answer; all pieces joined are the answer
`caption`       `call_id`, `request`: the reasoner requests a picture
`progress`      `call_id`, `step`, `num_steps`, `preview`: progress of a drawing
`picture`       `call_id`, `artifact_id`, `path`, `prompt`, `notices`, `stored_before`: a picture was drawn
`failed`        `call_id`, `message`, `error`, `retryable`: a drawing failed
`looked`        `call_id`, `artifact_id`, `follows`, `score`, `problem`: the reasoner judged a picture
`confirm`       `session`, `captions`: the user must decide before anything is drawn
`notice`        `message`: a message for the user
`finished`      `turn`: the session, messages, pictures, failures, notices, and how the turn ended (`outcome`,
                `finish_reason`)
`error`         `message`: the command failed
=============== =====================================================================================
"""

from __future__ import annotations

import dataclasses
from typing import IO, TYPE_CHECKING, Any

from mgem_agent.cli.printing import write_json

if TYPE_CHECKING:
    from mgem_agent.agent.events import AgentEvent

__all__ = ["JsonTurnDisplay"]


class JsonTurnDisplay:
    """Writes events as JSON Lines.

    Args:
        file: The output file.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def start(self) -> None:
        """Do nothing: the start is not an event."""

    def show(self, event: AgentEvent) -> None:
        """Write an event, `kind` first."""
        data = dataclasses.asdict(event)
        self._write({"kind": data.pop("kind"), **data})

    def tell(self, message: str) -> None:
        """Write a notice."""
        self._write({"kind": "notice", "message": message})

    def fail(self, message: str) -> None:
        """Write an error."""
        self._write({"kind": "error", "message": message})

    def hint_at(self, message: str) -> None:
        """Write a notice."""
        self.tell(message)

    def close(self) -> None:
        """Do nothing: every line has been written."""

    def _write(self, data: dict[str, Any]) -> None:
        write_json(self._file, data)

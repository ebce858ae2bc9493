"""Events as JSON, one object a line, for programs.

`kind` says what an object is; the other fields are those of the classes of `mgem_agent.agent.events`:

=============== =====================================================================================
`text`          `text`: a piece of what the reasoner says; the pieces in their order are the answer
`caption`       `call_id`, `request`: a picture is asked for
`progress`      `call_id`, `step`, `num_steps` of its drawing
`picture`       `call_id`, `artifact_id`, `path`, `prompt`, `notices`, `stored_before`
`failed`        `call_id`, `message`, `error`, `retryable`: there is no picture
`looked`        `call_id`, `artifact_id`, `follows`, `score`, `problem`: the reasoner judged a picture
`confirm`       `session`, `captions`: a person has to decide before anything is drawn
`notice`        `message`: something that a person should know
`finished`      `turn`: the session, all that was said, pictures, failures, notices, and how it ended (`outcome`,
                `finish_reason`)
`error`         `message`: what was asked for cannot be done
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
    """Writes events as JSON lines.

    Args:
        file: Where to.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def start(self) -> None:
        """Do nothing: it is no event."""

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
        """Do nothing: every line is out already."""

    def _write(self, data: dict[str, Any]) -> None:
        write_json(self._file, data)

"""What happens in a turn of the agent, as it happens, and what is left of the turn when it is over.

Events are plain frozen values that turn into JSON and back by pydantic, told apart by `kind`. None holds a picture:
pictures are named by id and path. A stream ends with :class:`TurnFinished`, or with :class:`ConfirmationNeeded` where
a person has to decide before anything is drawn.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import JsonValue

from mgem_agent.chat_models.text_engine import FinishReason
from mgem_agent.gen.events import TextPiece

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "AgentEvent",
    "AgentNotice",
    "CaptionReady",
    "ConfirmationNeeded",
    "DrawingFailed",
    "DrawingProgress",
    "DrawnPicture",
    "FailedDrawing",
    "LookedAt",
    "PictureDrawn",
    "TextPiece",
    "Turn",
    "TurnFinished",
    "TurnOutcome",
]

TurnOutcome = Literal[
    "answered", "refused", "confirmation_needed", "cancelled", "max_rounds", "max_pictures", "timeout"
]
"""How a turn ended: `answered`; `refused` by the model or withheld by its provider; waiting for a person; stopped by
one; or at one of the agent's limits."""


@dataclass(frozen=True, slots=True)
class CaptionReady:
    """The reasoner asks for a picture.

    Attributes:
        call_id: Id of the tool call.
        request: Every field of the image request, as JSON.
        kind: What this event is.
    """

    call_id: str
    request: dict[str, JsonValue]
    kind: Literal["caption"] = "caption"

    @property
    def prompt(self) -> str:
        """What is to be drawn."""
        return str(self.request["prompt"])


@dataclass(frozen=True, slots=True)
class DrawingProgress:
    """A step of a drawing.

    Attributes:
        call_id: Id of the tool call.
        step: Steps done, from 1.
        num_steps: Steps in all; 0 where the generator does not know.
        kind: What this event is.
    """

    call_id: str
    step: int
    num_steps: int
    kind: Literal["progress"] = "progress"


@dataclass(frozen=True, slots=True)
class PictureDrawn:
    """A picture is drawn and stored.

    Attributes:
        call_id: Id of the tool call.
        artifact_id: Id in the artifact store.
        path: Its PNG file.
        prompt: What was drawn.
        notices: What was not honoured as asked, in sentences.
        stored_before: Whether it was drawn before the turn was cut off, and is not drawn again.
        kind: What this event is.
    """

    call_id: str
    artifact_id: str
    path: str
    prompt: str
    notices: tuple[str, ...] = ()
    stored_before: bool = False
    kind: Literal["picture"] = "picture"


@dataclass(frozen=True, slots=True)
class DrawingFailed:
    """A picture could not be drawn; the turn goes on.

    Attributes:
        call_id: Id of the tool call.
        message: Why, and what to do next.
        error: Name of the error's class.
        retryable: Whether the same call may succeed later.
        kind: What this event is.
    """

    call_id: str
    message: str
    error: str
    retryable: bool = False
    kind: Literal["failed"] = "failed"


@dataclass(frozen=True, slots=True)
class LookedAt:
    """The reasoner has judged a picture against its caption.

    Attributes:
        call_id: Id of the tool call.
        artifact_id: The picture.
        follows: Whether it follows the caption; None where the reasoner gave no verdict that could be read.
        score: How well, from 0 to 1, or None.
        problem: What is wrong with it.
        kind: What this event is.
    """

    call_id: str
    artifact_id: str
    follows: bool | None
    score: float | None = None
    problem: str = ""
    kind: Literal["looked"] = "looked"


@dataclass(frozen=True, slots=True)
class ConfirmationNeeded:
    """A person has to approve, edit or refuse before anything is drawn; `MgemAgent.resume` takes the decision.

    Attributes:
        session: The session that waits.
        captions: What would be drawn.
        kind: What this event is.
    """

    session: str
    captions: tuple[CaptionReady, ...]
    kind: Literal["confirm"] = "confirm"


@dataclass(frozen=True, slots=True)
class AgentNotice:
    """Something that a person should know.

    Attributes:
        message: A sentence.
        kind: What this event is.
    """

    message: str
    kind: Literal["notice"] = "notice"


@dataclass(frozen=True, slots=True)
class DrawnPicture:
    """A picture that belongs to a turn's answer.

    Attributes:
        call_id: Id of the tool call that it answers.
        artifact_id: Id in the artifact store.
        path: Its PNG file.
        prompt: What was drawn.
    """

    call_id: str
    artifact_id: str
    path: str
    prompt: str

    @property
    def image(self) -> Image.Image:
        """The picture itself, read from its file.

        Raises:
            FileNotFoundError: If the file was removed from the store.
        """
        from PIL import Image

        with Image.open(self.path) as picture:
            return picture.copy()

    def _repr_png_(self) -> bytes:
        """Show the picture in a notebook."""
        return Path(self.path).read_bytes()


@dataclass(frozen=True, slots=True)
class FailedDrawing:
    """A picture that was asked for and is not there.

    Attributes:
        call_id: Id of the tool call.
        prompt: What was to be drawn; empty where the call could not be read.
        message: Why it was not.
    """

    call_id: str
    prompt: str
    message: str


@dataclass(frozen=True, slots=True)
class Turn:
    """What came of a turn.

    Attributes:
        session: Name of the session.
        id: Of this turn.
        text: What the reasoner said, without captions.
        pictures: What was drawn, in the order of the captions.
        failures: What was not.
        outcome: How it ended.
        captions: What awaits a decision; empty unless the outcome is `confirmation_needed`.
        finish_reason: Why the reasoner's last answer ended: `stop`, `length`, `refusal`, `content_filter`, `cancelled`
            or `other`; None where it was not asked.
        notices: What a person should know, in sentences.
    """

    session: str
    id: str
    text: str
    pictures: tuple[DrawnPicture, ...] = ()
    failures: tuple[FailedDrawing, ...] = ()
    outcome: TurnOutcome = "answered"
    captions: tuple[CaptionReady, ...] = field(default=())
    finish_reason: FinishReason | None = None
    notices: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        """Show the text, the pictures and the failures in a notebook."""
        parts = [f"<p>{escape(self.text)}</p>"] if self.text else []
        for picture in self.pictures:
            data = base64.b64encode(Path(picture.path).read_bytes()).decode("ascii")
            title = escape(picture.prompt, quote=True)
            parts.append(f'<img src="data:image/png;base64,{data}" alt="{title}" title="{title}">')
        parts += [f"<p>Not drawn: {escape(each.message)}</p>" for each in self.failures]
        return "\n".join(parts)


@dataclass(frozen=True, slots=True)
class TurnFinished:
    """The turn is over and stored.

    Attributes:
        turn: What came of it.
        kind: What this event is.
    """

    turn: Turn
    kind: Literal["finished"] = "finished"


AgentEvent = (
    TextPiece
    | CaptionReady
    | DrawingProgress
    | PictureDrawn
    | DrawingFailed
    | LookedAt
    | ConfirmationNeeded
    | AgentNotice
    | TurnFinished
)

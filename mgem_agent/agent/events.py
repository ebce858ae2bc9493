"""The events of a turn, and the finished turn.

Events are frozen dataclasses, distinguished by `kind`, that pydantic converts to JSON and back. They name pictures by
id and path; only a preview, which is not stored, is a data URL. A stream ends with `TurnFinished`, or with
`ConfirmationNeeded` if the user must decide before anything is drawn.
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
from mgem_agent.tools.budget import Cost

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
    "PictureAttempt",
    "PictureDrawn",
    "TextPiece",
    "Turn",
    "TurnFinished",
    "TurnOutcome",
]

TurnOutcome = Literal[
    "answered", "refused", "confirmation_needed", "cancelled", "max_rounds", "max_pictures", "timeout", "budget"
]
"""How a turn ended: `answered`; `refused` by the model or its provider; `confirmation_needed` from the user;
`cancelled`; or at one of the agent's limits."""


@dataclass(frozen=True, slots=True)
class CaptionReady:
    """The reasoner requests a picture.

    Attributes:
        call_id: Id of the tool call.
        request: All fields of the image request, as JSON.
        kind: Type of the event.
    """

    call_id: str
    request: dict[str, JsonValue]
    kind: Literal["caption"] = "caption"

    @property
    def prompt(self) -> str:
        """The caption of the picture."""
        return str(self.request["prompt"])


@dataclass(frozen=True, slots=True)
class DrawingProgress:
    """Progress of a drawing.

    Attributes:
        call_id: Id of the tool call.
        step: Number of finished steps.
        num_steps: Total number of steps; 0 if unknown.
        preview: The unfinished picture as a PNG data URL, if the agent was asked for previews; else None.
        kind: Type of the event.
    """

    call_id: str
    step: int
    num_steps: int
    preview: str | None = field(default=None, repr=False)
    kind: Literal["progress"] = "progress"


@dataclass(frozen=True, slots=True)
class PictureDrawn:
    """A picture was drawn and stored.

    Attributes:
        call_id: Id of the tool call.
        artifact_id: Id in the artifact store.
        path: Path of the PNG file.
        prompt: The caption that was drawn.
        notices: Notices about parts of the request that were changed or ignored.
        stored_before: Whether it was drawn before the turn was interrupted, and not again.
        kind: Type of the event.
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
    """A picture could not be drawn; the turn continues.

    Attributes:
        call_id: Id of the tool call.
        message: Why, and what to do next.
        error: Name of the error's class.
        retryable: Whether the same call may succeed later.
        kind: Type of the event.
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
        artifact_id: Id of the picture.
        follows: Whether it matches the caption; None if the verdict could not be read.
        score: How well it matches, from 0 to 1, or None.
        problem: What is wrong with the picture.
        answers: The questions, each with the probability of yes.
        kind: Type of the event.
    """

    call_id: str
    artifact_id: str
    follows: bool | None
    score: float | None = None
    problem: str = ""
    answers: tuple[tuple[str, float | None], ...] = ()
    kind: Literal["looked"] = "looked"


@dataclass(frozen=True, slots=True)
class ConfirmationNeeded:
    """The user must approve, edit or refuse captions before drawing; pass the decision to `MgemAgent.resume`.

    Attributes:
        session: Name of the session.
        captions: The captions to decide on.
        kind: Type of the event.
    """

    session: str
    captions: tuple[CaptionReady, ...]
    kind: Literal["confirm"] = "confirm"


@dataclass(frozen=True, slots=True)
class AgentNotice:
    """A message for the user.

    Attributes:
        message: The text.
        kind: Type of the event.
    """

    message: str
    kind: Literal["notice"] = "notice"


@dataclass(frozen=True, slots=True)
class PictureAttempt:
    """One drawing of a picture that was looked at.

    Attributes:
        artifact_id: Id in the artifact store.
        prompt: The caption that was drawn.
        follows: Whether it matches the original caption; None if it was not judged.
        score: How well, from 0 to 1, or None.
        problem: What is wrong with it.
        answers: The questions, each with the probability of yes.
    """

    artifact_id: str
    prompt: str
    follows: bool | None = None
    score: float | None = None
    problem: str = ""
    answers: tuple[tuple[str, float | None], ...] = ()


@dataclass(frozen=True, slots=True)
class DrawnPicture:
    """A picture that belongs to a turn's answer.

    Attributes:
        call_id: Id of the tool call.
        artifact_id: Id in the artifact store.
        path: Path of the PNG file.
        prompt: The caption that was drawn.
        attempts: All drawings of it, if it was looked at; the picture is the best of them.
    """

    call_id: str
    artifact_id: str
    path: str
    prompt: str
    attempts: tuple[PictureAttempt, ...] = ()

    @property
    def score(self) -> float | None:
        """How well the picture matches its caption, from 0 to 1; None if it was not judged."""
        return next((each.score for each in self.attempts if each.artifact_id == self.artifact_id), None)

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
    """A requested picture that was not drawn.

    Attributes:
        call_id: Id of the tool call.
        prompt: The caption; empty if the call could not be read.
        message: Why it was not drawn.
    """

    call_id: str
    prompt: str
    message: str


@dataclass(frozen=True, slots=True)
class Turn:
    """The result of a turn.

    Attributes:
        session: Name of the session.
        id: Id of the turn.
        text: The reasoner's answer, without captions.
        pictures: The pictures, in the order of their captions.
        failures: The requested pictures that were not drawn.
        outcome: How the turn ended.
        captions: Captions to decide on; empty unless the outcome is `confirmation_needed`.
        finish_reason: Why the reasoner's last answer ended: `stop`, `length`, `refusal`, `content_filter`, `cancelled`
            or `other`; None if the reasoner was not called.
        notices: Messages for the user.
        cost: What the turn has cost: pictures, seconds, tokens, US dollars.
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
    cost: Cost = field(default_factory=Cost)

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
    """The turn has finished and is saved.

    Attributes:
        turn: The result.
        kind: Type of the event.
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

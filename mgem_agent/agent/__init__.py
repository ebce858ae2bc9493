"""The agent: a reasoner that can draw, as a LangGraph graph, with its turns, events and decisions."""

from typing import TYPE_CHECKING

from mgem_agent._lazy import attach

if TYPE_CHECKING:
    from mgem_agent.agent.agent import MgemAgent
    from mgem_agent.agent.decision import Decision
    from mgem_agent.agent.events import (
        AgentEvent,
        AgentNotice,
        CaptionReady,
        ConfirmationNeeded,
        DrawingFailed,
        DrawingProgress,
        DrawnPicture,
        FailedDrawing,
        LookedAt,
        PictureAttempt,
        PictureDrawn,
        TextPiece,
        Turn,
        TurnFinished,
        TurnOutcome,
    )
    from mgem_agent.agent.image_judge import Verdict, look_at_image

__all__ = [
    "AgentEvent",
    "AgentNotice",
    "CaptionReady",
    "ConfirmationNeeded",
    "Decision",
    "DrawingFailed",
    "DrawingProgress",
    "DrawnPicture",
    "FailedDrawing",
    "LookedAt",
    "MgemAgent",
    "PictureAttempt",
    "PictureDrawn",
    "TextPiece",
    "Turn",
    "TurnFinished",
    "TurnOutcome",
    "Verdict",
    "look_at_image",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "AgentEvent": "mgem_agent.agent.events",
        "AgentNotice": "mgem_agent.agent.events",
        "CaptionReady": "mgem_agent.agent.events",
        "ConfirmationNeeded": "mgem_agent.agent.events",
        "Decision": "mgem_agent.agent.decision",
        "DrawingFailed": "mgem_agent.agent.events",
        "DrawingProgress": "mgem_agent.agent.events",
        "DrawnPicture": "mgem_agent.agent.events",
        "FailedDrawing": "mgem_agent.agent.events",
        "LookedAt": "mgem_agent.agent.events",
        "MgemAgent": "mgem_agent.agent.agent",
        "PictureAttempt": "mgem_agent.agent.events",
        "PictureDrawn": "mgem_agent.agent.events",
        "TextPiece": "mgem_agent.agent.events",
        "Turn": "mgem_agent.agent.events",
        "TurnFinished": "mgem_agent.agent.events",
        "TurnOutcome": "mgem_agent.agent.events",
        "Verdict": "mgem_agent.agent.image_judge",
        "look_at_image": "mgem_agent.agent.image_judge",
    },
)

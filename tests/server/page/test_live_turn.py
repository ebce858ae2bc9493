"""The events of a turn as the parts of a page."""

from __future__ import annotations

from typing import Any

from mgem_agent.agent.events import (
    AgentNotice,
    CaptionReady,
    DrawingFailed,
    DrawingProgress,
    LookedAt,
    PictureDrawn,
    TextPiece,
)
from mgem_agent.server.page.live_turn import LiveTurn
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner


def turn(**options: Any) -> LiveTurn:
    from mgem_agent.agent.agent import MgemAgent
    from mgem_agent.sessions.sessions import Sessions

    agent = MgemAgent(ScriptedReasoner(script=["x"]), FlatColourGenerator(), sessions=Sessions.in_memory())
    return LiveTurn(agent, "s", **options)


def shown(live: LiveTurn) -> list[tuple[str, Any]]:
    return [
        (part.kind, part.data.get("text") or part.data.get("message") or part.data.get("state")) for part in live.parts
    ]


def test_text_and_drawings_stay_in_order() -> None:
    live = turn()
    for event in (
        TextPiece("He"),
        TextPiece("re."),
        CaptionReady("call:1", {"prompt": "a fox"}),
        DrawingProgress("call:1", 1, 4, "data:image/png;base64,AA"),
        DrawingProgress("call:1", 2, 4),
    ):
        live.apply(event)
    assert shown(live) == [("text", "Here."), ("drawing", "drawing")] and live.status == "Drawing"
    drawing = live.parts[1]
    assert drawing.key == "draw-1" and drawing.data["prompt"] == "a fox"
    assert (drawing.data["step"], drawing.data["preview"]) == (2, "data:image/png;base64,AA")
    live.apply(PictureDrawn("call:1", "img-0123", "/x", "a fox", ("It is small.",)))
    live.apply(LookedAt("call:1", "img-0123", False, problem="It is a dog."))
    live.apply(AgentNotice("The context was cut."))
    live.apply(TextPiece("Done."))
    assert [kind for kind, _ in shown(live)] == ["text", "drawing", "notice", "text"]
    assert live.parts[1].data["notices"] == ("Looked at: It is a dog.",)
    assert live.num_drawing == 0 and live.announcement == "Picture drawn: a fox"


def test_a_failure_names_its_reason() -> None:
    live = turn()
    live.apply(CaptionReady("a", {"prompt": "a fox"}))
    live.apply(DrawingFailed("a", "The disk is full.", "ToolError"))
    assert live.parts[0].data["message"] == "The disk is full." and live.parts[0].data["state"] == "failed"


def test_a_drawing_without_a_caption_has_the_words_of_the_user() -> None:
    live = turn(prompt="my words")
    live.apply(DrawingProgress("a", 1, 0))
    assert live.parts[0].data["prompt"] == "my words"

"""The stored state of a running turn, its initial state, and the conversion to a finished `Turn`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, BaseMessage

from mgem_agent.agent.events import DrawnPicture, FailedDrawing, PictureAttempt, Turn, TurnOutcome
from mgem_agent.agent.messages import from_records, to_record
from mgem_agent.chat_models.text_engine import FinishReason
from mgem_agent.gen.tool_calls import DRAW_TOOL_NAME, DrawMode, new_call_id
from mgem_agent.tools.budget import Cost, added_costs

__all__ = ["TurnState", "begin_drawing", "begin_turn", "read_turn"]


class TurnState(TypedDict):
    """The state of a running turn that LangGraph stores, as plain JSON."""

    session: str
    turn: str
    draw: DrawMode
    messages: Annotated[list[dict[str, Any]], operator.add]
    calls: list[dict[str, Any]]
    results: list[dict[str, Any]]
    pictures: Annotated[list[dict[str, Any]], operator.add]
    failures: Annotated[list[dict[str, Any]], operator.add]
    num_rounds: int
    num_drawn: int
    seconds: Annotated[float, operator.add]
    cost: Annotated[dict[str, Any], added_costs]
    outcome: TurnOutcome | None
    finish_reason: FinishReason | None
    notices: Annotated[list[str], operator.add]


def begin_turn(session: str, turn: str, message: BaseMessage, draw: DrawMode) -> dict[str, Any]:
    """Return the initial state of a turn: the user's message only.

    Args:
        session: Name of the session.
        turn: Id of the turn.
        message: The user's message.
        draw: When to draw.
    """
    return {
        "session": session,
        "turn": turn,
        "draw": draw,
        "messages": [to_record(message)],
        "calls": [],
        "results": [],
        "pictures": [],
        "failures": [],
        "num_rounds": 0,
        "num_drawn": 0,
        "seconds": 0.0,
        "cost": {},
        "outcome": None,
        "finish_reason": None,
        "notices": [],
    }


def begin_drawing(session: str, turn: str, message: BaseMessage, requests: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the initial state of a turn that draws the user's requests as if the reasoner had made the calls.

    Args:
        session: Name of the session.
        turn: Id of the turn.
        message: The user's message.
        requests: Image requests as JSON.
    """
    calls = [
        {"call_id": new_call_id(), "key": f"0.{place}", "request": request} for place, request in enumerate(requests)
    ]
    asked = AIMessage(
        content="",
        id=f"asked-{turn}",
        tool_calls=[
            {"name": DRAW_TOOL_NAME, "args": call["request"], "id": call["call_id"], "type": "tool_call"}
            for call in calls
        ],
    )
    state = begin_turn(session, turn, message, "auto")
    return state | {
        "messages": [*state["messages"], to_record(asked)],
        "calls": calls,
        "results": [{**call, "attempts": [], "error": None} for call in calls],
    }


def read_turn(session: str, state: Mapping[str, Any], path_of: Callable[[str], str]) -> Turn:
    """Convert a turn's state to a `Turn`.

    Args:
        session: Name of the session.
        state: State of the turn, at any time.
        path_of: Returns the file of a picture by its id.
    """
    said = [str(message.text) for message in from_records(state["messages"]) if isinstance(message, AIMessage)]
    return Turn(
        session=session,
        id=state["turn"],
        text="\n\n".join(text.strip() for text in said if text.strip()),
        pictures=tuple(
            DrawnPicture(
                each["call_id"],
                each["artifact"],
                path_of(each["artifact"]),
                each["prompt"],
                tuple(map(_attempt, each.get("attempts", ()))),
            )
            for each in state["pictures"]
        ),
        failures=tuple(FailedDrawing(**each) for each in state["failures"]),
        outcome=state["outcome"] or "answered",
        finish_reason=state.get("finish_reason"),
        notices=tuple(state.get("notices", ())),
        cost=Cost.read(state.get("cost")),
    )


def _attempt(record: Mapping[str, Any]) -> PictureAttempt:
    answers = tuple((question, yes) for question, yes in record.get("answers", ()))
    return PictureAttempt(
        record["artifact"], record["prompt"], record["follows"], record["score"], record["problem"], answers
    )

"""The reasoner of a turn as the model of a judge: it is asked in a dialogue of its own, and can be cancelled."""

from __future__ import annotations

import threading

from langchain_core.messages import HumanMessage

from mgem_agent.agent.reasoning import Reasoning
from mgem_agent.scoring.picture_judge import JudgeModel
from mgem_agent.tools.budget import Meter

__all__ = ["TurnJudge"]


class TurnJudge(JudgeModel):
    """Asks the reasoner of a turn.

    Args:
        reasoning: Calls the reasoner.
        session: Name of the turn's session.
        cancel: Set to stop.
        meter: Counts what the judge's calls cost.
    """

    def __init__(self, reasoning: Reasoning, session: str, cancel: threading.Event, meter: Meter) -> None:
        self._reasoning = reasoning
        self._session = session
        self._cancel = cancel
        self._meter = meter

    @property
    def can_write(self) -> bool:
        """Whether the reasoner writes JSON and captions well enough."""
        return self._reasoning.can_write

    def ask(self, message: HumanMessage) -> str:
        """Return the reasoner's answer; pictures in the message are given by id."""
        answer = self._reasoning.ask(
            [message],
            draw="never",
            session=f"{self._session} (looking)",
            is_first=False,
            cancel=self._cancel,
            emit=lambda text: None,
            meter=self._meter,
        )
        return str(answer.message.text)

    def probability_of_yes(self, message: HumanMessage) -> float | None:
        """Return how likely the reasoner answers yes; pictures in the message are given by id."""
        return self._reasoning.probability_of_yes(message, cancel=self._cancel, meter=self._meter)

"""Look at the pictures of a turn: score each against its caption, and plan which are drawn again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from mgem_agent.agent.agent_settings import AgentSettings
from mgem_agent.agent.events import AgentEvent, AgentNotice, LookedAt
from mgem_agent.agent.reasoning import Reasoning
from mgem_agent.agent.redraw import best_attempt, next_request, useless_redraw
from mgem_agent.agent.turn_context import TurnContext
from mgem_agent.agent.turn_judge import TurnJudge
from mgem_agent.agent.turn_state import TurnState
from mgem_agent.errors import BudgetExceededError, ContextOverflowError, GenerationCancelledError
from mgem_agent.scoring.caption_atoms import CaptionAtom
from mgem_agent.scoring.picture_judge import PictureJudge
from mgem_agent.scoring.picture_score import PictureScore
from mgem_agent.tools.budget import Cost
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_request import ImageRequest

__all__ = ["TurnLooking", "is_judged", "judged_record"]


def is_judged(attempt: Mapping[str, Any]) -> bool:
    """Whether an attempt was looked at, with or without a verdict."""
    return "follows" in attempt


def judged_record(score: PictureScore | None) -> dict[str, Any]:
    """Return the fields of an attempt that was looked at, as JSON; None for one without a verdict."""
    if score is None or score.score is None:
        return {"follows": None, "score": None, "problem": "", "answers": []}
    answers = [[answer.question, answer.yes] for answer in score.answers]
    return {"follows": score.follows, "score": score.score, "problem": score.what_is_wrong, "answers": answers}


class TurnLooking:
    """Looks at the pictures of one step of a turn.

    Args:
        reasoning: Calls the reasoner.
        generator: The image generator.
        settings: The agent's settings.
        state: The state of the turn.
        run: The context of the run.
        emit: Receives events.
    """

    def __init__(
        self,
        reasoning: Reasoning,
        generator: ImageGenerator,
        settings: AgentSettings,
        state: TurnState,
        run: TurnContext,
        emit: Callable[[AgentEvent], None],
    ) -> None:
        self.notices: list[str] = []
        self.calls: list[dict[str, Any]] = []
        self._reasoning = reasoning
        self._generator = generator
        self._look = settings.look
        self._left = settings.max_pictures - state["num_drawn"]
        self._run = run
        self._emit = emit
        self._capabilities = generator.capabilities
        model = TurnJudge(reasoning, state["session"], run.cancel, run.meter)
        self._judge = PictureJudge(model, vocabulary=self._capabilities.vocabulary)

    def result(self, result: dict[str, Any]) -> dict[str, Any]:
        """Look at the new attempts of a call, and plan the next one.

        Args:
            result: Result entry of the call.

        Returns:
            The entry with the scores. A planned drawing is added to `calls`.
        """
        if all(map(is_judged, result["attempts"])):
            return result
        attempts, last = [], PictureScore()
        for attempt in result["attempts"]:
            if not is_judged(attempt):
                result, score = self._scored(result, attempt)
                attempt = {**attempt, **judged_record(score)}
                last = score or PictureScore()
            attempts.append(attempt)
        result = {**result, "attempts": attempts}
        if self._wants_more(result):
            self._plan(result, last)
        return result

    def _wants_more(self, result: Mapping[str, Any]) -> bool:
        attempts, look = result["attempts"], self._look
        best = attempts[best_attempt([attempt["score"] for attempt in attempts])]
        if best["score"] is None or self._run.cancel.is_set() or look.strategy == "best_of_n":
            return False
        is_enough = best["follows"] if look.threshold is None else best["score"] >= look.threshold
        return not is_enough and len(attempts) <= look.max_redraws and len(self.calls) < self._left

    def _scored(self, result: dict[str, Any], attempt: Mapping[str, Any]) -> tuple[dict[str, Any], PictureScore | None]:
        """Return the score of an attempt, and the result with its questions."""
        cancel, caption = self._run.cancel, result["request"]["prompt"]
        score: PictureScore | None = None
        try:
            if not self._reasoning.sees:
                self._tell("The picture was not judged, because the reasoner takes no pictures.")
                return result, None
            if "atoms" not in result:
                result = {**result, "atoms": [asdict(atom) for atom in self._judge.atoms(caption)]}
            atoms = [CaptionAtom(**{**each, "needs": tuple(each["needs"])}) for each in result["atoms"]]
            score = self._judge.score({"type": "image", "file_id": attempt["artifact"]}, caption, atoms)
            score = score if self._reasoning.sees else None
        except GenerationCancelledError:
            pass  # the turn ends without a verdict, and says that it was cancelled
        except (BudgetExceededError, ContextOverflowError) as error:
            self._tell(f"The picture could not be judged. {error}")
        if score is not None and score.score is None and not cancel.is_set():
            self._tell(f"The reasoner's verdict on the picture could not be read: {score.said.strip()[:80]!r}.")
        record = judged_record(score)
        answers = tuple((question, yes) for question, yes in record["answers"])
        self._emit(
            LookedAt(
                result["call_id"], attempt["artifact"], record["follows"], record["score"], record["problem"], answers
            )
        )
        return result, score

    def _plan(self, result: Mapping[str, Any], score: PictureScore) -> None:
        """Plan the next drawing of a picture, unless it is useless or passes the budget."""
        attempts, meter = result["attempts"], self._run.meter
        first = ImageRequest.model_validate(result["request"])
        tried = [ImageRequest.model_validate(attempt.get("asked", result["request"])) for attempt in attempts]
        best = attempts[best_attempt([attempt["score"] for attempt in attempts])]
        try:
            price = meter.prices.of_picture(self._generator, first)
            num = len(self.calls) + 1
            usd = None if price is None else price * num
            asked = Cost.priced(usd, pictures=num, seconds=meter.seconds_a_picture)
            meter.check(asked, f"another picture by {self._generator.name!r}")
            request = next_request(
                tried, best["artifact"], score, self._look, self._capabilities, self._judge.better_caption
            )
        except (BudgetExceededError, ContextOverflowError) as error:
            self._tell(f"The picture was not drawn again. {error}")
            return
        except GenerationCancelledError:
            return
        if request is None:
            self._tell(useless_redraw(self._generator.name))
            return
        self.calls.append(
            {
                "call_id": result["call_id"],
                "key": f"{result['key']}.{len(attempts)}",
                "request": request.model_dump(mode="json"),
            }
        )

    def _tell(self, notice: str) -> None:
        if notice not in self.notices:
            self.notices.append(notice)
            self._emit(AgentNotice(notice))

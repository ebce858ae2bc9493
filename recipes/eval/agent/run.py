"""Run the agent on prompts under several conditions, and score what it drew.

The conditions differ only in how the agent looks at its pictures. Every turn is a session of its own. Turns and scores
are stored as they come (`turns.jsonl`, `scores-JUDGE.jsonl`, `pictures/`), so that a run can resume.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.agent.events import PictureDrawn, TurnFinished
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError
from mgem_agent.recipes.eval.agent.figure_judge import FigureJudge
from mgem_agent.recipes.eval.agent.prompts import EvalPrompt
from mgem_agent.recipes.eval.answer_log import AnswerLog
from mgem_agent.sessions.sessions import Sessions

__all__ = ["CONDITIONS", "Condition", "ScoredTurn", "TurnAgent", "conditions", "make_agent", "run_turns", "score_turns"]

Progress = Callable[[str, int, int], None]

CONDITIONS = ("no look", "retry", "revise", "best of n")
"""Names of the conditions."""


class TurnAgent(Protocol):
    """The part of `MgemAgent` that is measured."""

    def stream(self, text: str) -> Any:
        """Run a turn and yield its events."""
        ...


@dataclass(frozen=True)
class Condition:
    """A way of looking.

    Attributes:
        name: One of `CONDITIONS`.
        look: Value of the agent's `look`.
    """

    name: str
    look: int | str


@dataclass(frozen=True)
class ScoredTurn:
    """What came of a prompt.

    Attributes:
        scores: Score of each question; zeros without a picture.
        drawings: Number of pictures drawn.
        seconds: Seconds of the turn.
        usd: US dollars of the calls whose price is known.
        unpriced: Number of calls whose price is not known.
        has_picture: Whether there is a picture.
    """

    scores: tuple[float, ...]
    drawings: int
    seconds: float
    usd: float
    unpriced: int
    has_picture: bool


def conditions(num_drawings: int, names: Sequence[str] = ()) -> tuple[Condition, ...]:
    """Return the conditions, with at most `num_drawings` drawings each; "no look" draws once.

    Args:
        num_drawings: Maximum number of drawings of a prompt.
        names: Some of `CONDITIONS`; empty for all.

    Raises:
        InputError: If a name is unknown, or the number is less than two.

    Examples:
        >>> [condition.look for condition in conditions(4)]
        [0, 'retry-3', 'revise-3', 'best-of-4']
    """
    if num_drawings < 2:
        raise InputError(f"{num_drawings} drawings leave none for a second attempt. Give 2 or more.")
    if unknown := sorted(set(names) - set(CONDITIONS)):
        raise InputError(f"There is no condition {unknown[0]!r}. Allowed: {', '.join(map(repr, CONDITIONS))}.")
    looks: tuple[int | str, ...] = (
        0,
        f"retry-{num_drawings - 1}",
        f"revise-{num_drawings - 1}",
        f"best-of-{num_drawings}",
    )
    made = [Condition(name, look) for name, look in zip(CONDITIONS, looks, strict=True)]
    return tuple(each for each in made if not names or each.name in names)


def make_agent(reasoner: Any, generator: Any, store: ArtifactStore, condition: Condition, seed: int) -> MgemAgent:
    """Return the agent of a condition.

    Args:
        reasoner: The reasoner, which writes the captions and judges in the loop.
        generator: The generator.
        store: Where pictures are stored.
        condition: The condition.
        seed: Seed of the first drawing of each prompt.
    """
    num_drawings = int(re.sub(r"\D", "", str(condition.look)) or 0) + 1
    return MgemAgent(
        reasoner,
        generator,
        store=store,
        sessions=Sessions.in_memory(),
        draw="always",
        look=condition.look,
        max_pictures=num_drawings + 1,
        defaults={"seed": seed},
    )


def run_turns(
    prompts: Sequence[EvalPrompt],
    agents: Mapping[str, TurnAgent],
    folder: Path,
    settings: Mapping[str, Any],
    report: Progress = lambda what, done, total: None,
) -> None:
    """Let each agent draw each prompt; turns that are already stored are not repeated.

    Args:
        prompts: The prompts.
        agents: The agent of each condition.
        folder: Folder of the evaluation.
        settings: What the turns depend on.
        report: Called with the condition, the number done and the total.

    Raises:
        InputError: If the folder has turns of other settings.
        MgemError: If the reasoner or the generator fails. What is stored is kept.
    """
    with AnswerLog.open(folder / "turns.jsonl", settings) as log:
        for name, agent in agents.items():
            for number, prompt in enumerate(prompts):
                report(name, number, len(prompts))
                key = _key(name, prompt)
                if key not in log.answers:
                    log.add({"id": key, **_turn(agent, prompt)})
            report(name, len(prompts), len(prompts))


def _turn(agent: TurnAgent, prompt: EvalPrompt) -> dict[str, Any]:
    drawings = 0
    turn: Any = None
    start = time.perf_counter()
    for event in agent.stream(prompt.prompt):
        drawings += isinstance(event, PictureDrawn)
        if isinstance(event, TurnFinished):
            turn = event.turn
    seconds = time.perf_counter() - start
    if turn is None:
        raise InputError(f"The turn for {prompt.prompt!r} did not finish. Run the command again.")
    picture = str(turn.pictures[0].path) if turn.pictures else None
    cost = turn.cost
    return {
        "picture": picture,
        "caption": turn.pictures[0].prompt if turn.pictures else None,
        "drawings": drawings,
        "seconds": round(seconds, 3),
        "usd": round(cost.usd, 8),
        "unpriced": cost.unpriced,
    }


def score_turns(
    prompts: Sequence[EvalPrompt],
    names: Sequence[str],
    judge: FigureJudge,
    folder: Path,
    *,
    judge_name: str,
    settings: Mapping[str, Any],
    report: Progress = lambda what, done, total: None,
) -> dict[str, list[ScoredTurn]]:
    """Score the stored turns of each condition.

    Args:
        prompts: The prompts.
        names: The conditions.
        judge: The judge of the figure.
        folder: Folder of the evaluation.
        judge_name: Its name; each judge has a file of its own.
        settings: What the turns depend on.
        report: Called with the condition, the number done and the total.

    Raises:
        InputError: If a turn or its picture is missing.
        MgemError: If the judge fails. What is stored is kept.
    """
    plain = re.sub(r"[^\w.-]+", "_", judge_name).strip("_")
    found: dict[str, list[ScoredTurn]] = {}
    with (
        AnswerLog.open(folder / "turns.jsonl", settings) as turns,
        AnswerLog.open(folder / f"scores-{plain}.jsonl", {"judge": judge_name, "turns": settings}) as scores,
    ):
        for name in names:
            found[name] = []
            for number, prompt in enumerate(prompts):
                report(f"{name}, judged", number, len(prompts))
                found[name].append(_scored(_key(name, prompt), prompt, judge, turns, scores))
            report(f"{name}, judged", len(prompts), len(prompts))
    return found


def _scored(key: str, prompt: EvalPrompt, judge: FigureJudge, turns: AnswerLog, scores: AnswerLog) -> ScoredTurn:
    turn = turns.answers.get(key)
    if turn is None:
        raise InputError(f"There is no turn {key!r} yet. Run the command again without --no-draw.")
    if key not in scores.answers:
        num = 1 if judge.kind == "vqascore" else len(prompt.vqa_list)
        file = None if turn["picture"] is None else Path(turn["picture"])
        if file is not None and not file.is_file():
            raise InputError(f"The picture {str(file)!r} is missing. Delete turns.jsonl to draw all pictures again.")
        row = [0.0] * num if file is None else judge.score(file, prompt)
        scores.add({"id": key, "scores": row, "kind": judge.kind})
    judge.kind = "hard" if scores.answers[key]["kind"] == "hard" else judge.kind
    return ScoredTurn(
        tuple(scores.answers[key]["scores"]),
        turn["drawings"],
        turn["seconds"],
        turn["usd"],
        turn["unpriced"],
        turn["picture"] is not None,
    )


def _key(condition: str, prompt: EvalPrompt) -> str:
    return f"{condition}/{prompt.prompt}"

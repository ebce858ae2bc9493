"""Ask the reasoner for the text of a story: one simple prompt for each step, repeated if the answer is not usable.

Each step is a turn in its own session, so that a model with a short context gets only what the step needs. No step
needs a format that only large models can follow.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.agent.events import AgentNotice, TextPiece, TurnFinished
from mgem_agent.chat_models.finish_reasons import EMPTY_NOTICE
from mgem_agent.errors import GenerationCancelledError
from mgem_agent.prompts import render_prompt
from mgem_agent.workflows.premise import Premise
from mgem_agent.workflows.story_events import StoryEvent, StoryPart, StoryText
from mgem_agent.workflows.story_folder import StoryDraft

__all__ = ["MAX_ASKS", "StorySteps", "StoryWriter"]

Found = TypeVar("Found")
StorySteps = Generator[StoryEvent, None, Found]
"""Events of a step; the return value is its result."""

MAX_ASKS = 3
"""Maximum number of attempts for an outline, because small models write only a part of it."""


class StoryWriter:
    """Asks the reasoner, reads the answer, and repeats if it is not usable.

    Args:
        make_agent: Returns an agent whose reasoner follows a grammar, or writes freely for None. Without one (None),
            every answer is empty.
        draft: The story.
        cancel: Set this to stop.
        premise: What the answers must keep, for a reasoner that needs grammars for it; None for any other.
    """

    def __init__(
        self,
        make_agent: Callable[[str | None], MgemAgent] | None,
        draft: StoryDraft,
        cancel: threading.Event,
        *,
        premise: Premise | None = None,
    ) -> None:
        self.draft = draft
        self.premise = premise
        self._make_agent = make_agent
        self._cancel = cancel
        self._running: MgemAgent | None = None

    @property
    def session(self) -> str:
        """The session of the current step."""
        return f"story {self.draft.story.session}"

    def cancel(self) -> None:
        """Stop the current answer, from another thread."""
        if self._running is not None:
            self._running.cancel(self.session)

    def ask(
        self,
        part: StoryPart,
        prompt: str,
        read: Callable[[str], Found],
        /,
        *,
        index: int = 0,
        is_enough: Callable[[Found], bool] = bool,
        max_asks: int = 2,
        grammar: str | None = None,
        **variables: Any,
    ) -> StorySteps[Found]:
        """Ask until the answer is usable.

        Args:
            part: The part of the story.
            prompt: Name of the prompt's file.
            read: Parses an answer.
            index: Number of the scene.
            is_enough: Returns whether a parsed answer is usable.
            max_asks: Maximum number of attempts.
            grammar: A grammar that the answer follows; only for a story with a `premise`.
            **variables: Variables of the prompt.

        Returns:
            The parsed answer; the longest of several.

        Raises:
            GenerationCancelledError: If it is cancelled; an unfinished answer is discarded.
        """
        question = render_prompt(prompt, **variables)
        best = read("")
        for attempt in range(max_asks if self._make_agent is not None else 0):
            # With greedy decoding, the same prompt gives the same answer.
            asked = question if not attempt else render_prompt("again", question=question)
            found = read((yield from self._answer(asked, part, index, grammar)))
            best = max(best, found, key=_size)
            if is_enough(found):
                return found
        return best

    def _answer(self, question: str, part: StoryPart, index: int, grammar: str | None) -> StorySteps[str]:
        if self._make_agent is None:
            return ""
        said = ""
        images = self.draft.story.given_ids if part in ("outline", "cast") else ()
        self._check()
        agent = self._running = self._make_agent(grammar)
        events = agent.stream(question, images, session=self.session, draw="never")
        try:
            for event in events:
                if isinstance(event, TextPiece):
                    yield StoryText(event.text, part, index)
                elif isinstance(event, AgentNotice):
                    if event.message != EMPTY_NOTICE:  # it is asked again here, and the story says what it went without
                        yield event
                elif isinstance(event, TurnFinished):
                    said = event.turn.text
        finally:
            events.close()
            self._running = None
            agent.sessions.delete(self.session)
        self._check()
        return said

    def _check(self) -> None:
        if self._cancel.is_set():
            raise GenerationCancelledError("The story was stopped. Resume it to continue.")


def _size(found: object) -> int:
    return len(found) if isinstance(found, (str, list)) else 0

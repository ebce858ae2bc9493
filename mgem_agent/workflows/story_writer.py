"""Asking the reasoner for the words of a story: one plain question a step, asked again where the answer is no use.

Each step is a turn of the agent in a session of its own, so that a model with a short context is told just what the
step needs. No step needs a form that only large models keep.
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
from mgem_agent.workflows.story_events import StoryEvent, StoryPart, StoryText
from mgem_agent.workflows.story_folder import StoryDraft

__all__ = ["MAX_ASKS", "StorySteps", "StoryWriter"]

Found = TypeVar("Found")
StorySteps = Generator[StoryEvent, None, Found]
"""Events of a step, and what it comes to."""

MAX_ASKS = 3
"""How often a reasoner is asked for an outline, of which small models write a part."""


class StoryWriter:
    """Asks, reads the answer, and asks again.

    Args:
        agent: Whose reasoner writes; None where there is none, and every answer is empty.
        draft: The story.
        cancel: Set to stop.
    """

    def __init__(self, agent: MgemAgent | None, draft: StoryDraft, cancel: threading.Event) -> None:
        self.draft = draft
        self._agent = agent
        self._cancel = cancel

    @property
    def session(self) -> str:
        """The session of the step under way."""
        return f"story {self.draft.story.session}"

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
        **variables: Any,
    ) -> StorySteps[Found]:
        """Ask until what is read of an answer is enough.

        Args:
            part: What is asked for.
            prompt: Name of the prompt's file.
            read: Reads an answer.
            index: The scene that it is for.
            is_enough: Says whether what was read will do.
            max_asks: How often to ask at most.
            **variables: What the prompt asks for.

        Returns:
            What was read; of several, the longest.

        Raises:
            GenerationCancelledError: If it is cancelled; nothing half-written is kept.
        """
        question = render_prompt(prompt, **variables)
        best = read("")
        for attempt in range(max_asks if self._agent is not None else 0):
            # A model that takes the likeliest word each time answers the same question the same way.
            asked = question if not attempt else render_prompt("again", question=question)
            found = read((yield from self._answer(asked, part, index)))
            best = max(best, found, key=_size)
            if is_enough(found):
                return found
        return best

    def _answer(self, question: str, part: StoryPart, index: int) -> StorySteps[str]:
        if self._agent is None:
            return ""
        said = ""
        images = self.draft.story.given_ids if part in ("outline", "cast") else ()
        self._check()
        events = self._agent.stream(question, images, session=self.session, draw="never")
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
            self._agent.sessions.delete(self.session)
        self._check()
        return said

    def _check(self) -> None:
        if self._cancel.is_set():
            raise GenerationCancelledError("The story was stopped. Resume it to go on.")


def _size(found: object) -> int:
    return len(found) if isinstance(found, (str, list)) else 0

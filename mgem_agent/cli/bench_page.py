"""Tell the story of `mgem bench page` and count what it takes; recipes do not import workflows."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import LLMResult

from mgem_agent.chat_models.answer_usage import answer_usage

if TYPE_CHECKING:
    from uuid import UUID

    from mgem_agent.recipes.bench.page import StoryCounts, TellCounted
    from mgem_agent.settings import Settings

__all__ = ["counted_story"]

PREMISE = "A mouse finds a golden key in the forest and looks for its door."


class _Answers(BaseCallbackHandler):
    """Counts the answers of a reasoner, their tokens and their seconds."""

    def __init__(self) -> None:
        self.num = self.input_tokens = self.output_tokens = 0
        self.seconds = 0.0
        self._begun: dict[UUID, float] = {}

    def on_chat_model_start(self, serialized: Any, messages: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Note when an answer began."""
        self._begun[run_id] = time.perf_counter()

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Count an answer."""
        self.num += 1
        self.seconds += time.perf_counter() - self._begun.pop(run_id)
        usage = answer_usage(response)
        self.input_tokens += usage["input_tokens"]
        self.output_tokens += usage["output_tokens"]


def counted_story(settings: Settings) -> TellCounted:
    """Return what tells a story with the reasoner and the generator of the settings.

    Args:
        settings: All settings. Neither the store nor the sessions of the user are touched.
    """
    return partial(_tell, settings)


def _tell(settings: Settings, folder: Path, num_scenes: int) -> StoryCounts:
    from mgem_agent.artifacts.store import ArtifactStore
    from mgem_agent.cli.factories import open_generator, open_reasoner, prepare_reasoner
    from mgem_agent.recipes.bench.page import StoryCounts
    from mgem_agent.workflows.story_recipe import StoryRecipe
    from mgem_agent.workflows.storytelling import Storyteller

    answers = _Answers()
    reasoner = open_reasoner(settings)
    prepare_reasoner(settings, reasoner)
    reasoner.callbacks = [answers]
    store = ArtifactStore(folder / "images")
    teller = Storyteller(reasoner, open_generator(settings), store, folder=folder / "story", overlap=False)
    story = teller.run(StoryRecipe.from_premise(PREMISE, scenes=num_scenes))
    pages = [scene for scene in story.scenes if scene.status == "drawn"]
    pictures = [store.get(scene.artifact_id) for scene in pages if scene.artifact_id]
    return StoryCounts(
        answers=answers.num,
        input_tokens=answers.input_tokens,
        output_tokens=answers.output_tokens,
        writing_s=answers.seconds,
        drawings=len(pictures),
        steps=sum(each.recipe.request.num_inference_steps or 0 for each in pictures if each.recipe is not None),
        drawing_s=sum(each.seconds or 0.0 for each in pictures),
        num_scenes=len(pages),
    )

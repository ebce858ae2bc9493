"""Draw pictures of a story as one batch; a reference picture is drawn before it.

With `reference` and `ip_adapter`, the first picture is drawn alone, unless the recipe has one, and is the reference for
all others. If a picture fails, only its own scene is affected.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any

from PIL import Image

from mgem_agent.agent.events import AgentNotice, DrawingFailed, DrawingProgress, PictureDrawn
from mgem_agent.artifacts.artifact import Artifact
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import (
    BudgetExceededError,
    GenerationCancelledError,
    GeneratorRefusalError,
    InputError,
    MgemError,
    ToolError,
)
from mgem_agent.tools.drawing import draw
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_result import GenerationProgress, ImageResult
from mgem_agent.workflows.story import StoryScene
from mgem_agent.workflows.story_captions import scene_request
from mgem_agent.workflows.story_events import StoryEvent, scene_call_id
from mgem_agent.workflows.story_folder import StoryDraft, find_drawn, scene_key

__all__ = ["StoryPictures"]


class StoryPictures:
    """Draws the pictures of a story.

    Args:
        draft: The story.
        generator: The generator.
        store: The store of the pictures.
        cancel: Set this to stop.

    Attributes:
        num_drawn: Number of pictures drawn and stored so far.
        drawn_s: Seconds that the generator reports for them.
    """

    def __init__(
        self, draft: StoryDraft, generator: ImageGenerator, store: ArtifactStore, cancel: threading.Event
    ) -> None:
        self._draft = draft
        self._generator = generator
        self._store = store
        self._cancel = cancel
        self._last_error: MgemError | None = None
        self._failed_reference: StoryScene | None = None
        self.num_drawn = 0
        self.drawn_s = 0.0

    def run(self, pages: Collection[int] = ()) -> Iterator[StoryEvent]:
        """Draw every scene that has no picture.

        Args:
            pages: Numbers of the only scenes to draw, from 1; all if empty.

        Yields:
            Progress, pictures, failures and notices.

        Raises:
            GenerationCancelledError: If it is cancelled; finished pictures are kept.
            BudgetExceededError: If a picture would pass the budget; finished pictures are kept.
        """
        yield from self.prepare()
        yield from self.draw([index for index in self.waiting() if not pages or index in pages])

    def prepare(self) -> Iterator[StoryEvent]:
        """Find out what is still in the store; before anything is drawn."""
        yield from self._forget_lost()
        self._mend_references()

    def waiting(self) -> list[int]:
        """Return the numbers of the scenes that are written and have no picture."""
        return [scene.index for scene in self._draft.story.scenes if scene.status in ("written", "failed")]

    def draw(self, pages: Sequence[int]) -> Generator[StoryEvent, None, None]:
        """Draw scenes as one batch, after the reference picture if there is none yet.

        Args:
            pages: Numbers of the scenes.

        Yields:
            Progress, pictures, failures and notices; errors as for `run`.
        """
        waiting = [self._draft.story.scenes[index - 1] for index in pages]
        is_shown_first = self._draft.story.consistency in ("reference", "ip_adapter")
        while waiting and is_shown_first and not self._draft.story.reference_ids:
            if self._failed_reference is not None:
                yield from self._give_up(waiting, self._failed_reference)
                return
            first, *waiting = waiting
            yield from self._draw([first])
            drawn = self._draft.story.scenes[first.index - 1].artifact_id
            if drawn is not None:
                self._draft.change(reference_ids=(drawn,))
            elif not isinstance(self._last_error, GeneratorRefusalError):
                self._failed_reference = first
        if waiting:
            yield from self._draw(waiting)

    def _forget_lost(self) -> Iterator[StoryEvent]:
        """Mark pictures that are no longer in the store, so that they are drawn again."""
        lost = {
            scene.index: {"status": "written", "artifact_id": None}
            for scene in self._draft.story.scenes
            if scene.artifact_id is not None and not self._is_stored(scene.artifact_id)
        }
        if lost:
            self._draft.change_scenes(lost)
            places = ", ".join(map(str, lost))
            yield AgentNotice(f"The picture(s) of scene(s) {places} are no longer in the store and are drawn again.")

    def _mend_references(self) -> None:
        """Use the first picture as reference if there is none, or if the store no longer has it."""
        story = self._draft.story
        if story.consistency not in ("reference", "ip_adapter"):
            return
        if not story.reference_ids or not all(map(self._is_stored, story.reference_ids)):
            drawn = tuple(scene.artifact_id for scene in story.scenes if scene.artifact_id is not None)
            if drawn[:1] != story.reference_ids:
                self._draft.change(reference_ids=drawn[:1])

    def _is_stored(self, artifact_id: str) -> bool:
        try:
            self._store.path(artifact_id)
        except InputError:
            return False
        return True

    def _draw(self, scenes: Sequence[StoryScene]) -> Iterator[StoryEvent]:
        """Draw scenes as one batch, and note each picture as it comes."""
        story = self._draft.story
        requests = {scene.index: scene_request(story, scene) for scene in scenes}
        # An earlier process may have stored a picture without recording it.
        asked_before = {
            scene.index: requests[scene.index] for scene in scenes if scene.request == requests[scene.index]
        }
        self._draft.change_scenes({index: {"request": request} for index, request in requests.items()})
        known = find_drawn(self._store, story, asked_before)
        for index in sorted(known):
            yield self._keep(index, known[index], stored_before=True)
        missing = [index for index in requests if index not in known]
        pictures: dict[str, Image.Image] = {name: self._store.open(name) for name in story.reference_ids}
        wanted = [requests[index] for index in missing]
        options: dict[str, Any] = {"pictures": pictures, "cancel": self._cancel, "meter": self._draft.meter}
        refusal: BudgetExceededError | None = None
        for event in draw(self._generator, wanted, **options) if wanted else ():
            index = missing[event.index]
            if isinstance(event, GenerationProgress):
                yield DrawingProgress(scene_call_id(index), event.step, event.num_steps)
            elif isinstance(event.error, BudgetExceededError):
                refusal = refusal or event.error  # the scene waits for a larger budget
            else:
                yield from self._take(index, event)
        if refusal is not None:
            raise refusal
        if self._cancel.is_set() and any(self._draft.story.scenes[index - 1].artifact_id is None for index in missing):
            raise GenerationCancelledError("The story was stopped. Resume it to continue.")

    def _take(self, index: int, result: ImageResult) -> Iterator[StoryEvent]:
        """Store a picture, or record why there is none."""
        error = result.error
        if result.image is not None:
            try:
                key = scene_key(self._draft.story, index, result.request)
                artifact = self._store.put(replace(result, call=key))
                self.num_drawn += 1
                self.drawn_s += result.seconds
                yield self._keep(index, artifact, stored_before=False)
                return
            except MgemError as problem:
                error = problem
        if not isinstance(error, GenerationCancelledError):
            yield self._fail(index, error or ToolError("There is no picture."))

    def keep(self, index: int, artifact: Artifact) -> PictureDrawn:
        """Record a better picture of a page, and return its event."""
        return self._keep(index, artifact, stored_before=False)

    def _keep(self, index: int, artifact: Artifact, *, stored_before: bool) -> PictureDrawn:
        notices = tuple(notice.message for notice in artifact.notices)
        fields: dict[str, Any] = {"status": "drawn", "artifact_id": artifact.id, "notices": notices, "message": ""}
        fields["cost_usd"] = artifact.cost_usd
        if artifact.recipe is not None:
            recipe = artifact.recipe
            fields |= {"executed": recipe.request, "generator": recipe.generator, "model": recipe.model}
        scene = self._draft.change_scene(index, **fields)
        prompt = scene.executed.prompt if scene.executed else ""
        path = str(self._store.path(artifact.id))
        return PictureDrawn(scene_call_id(index), artifact.id, path, prompt, notices, stored_before)

    def _fail(self, index: int, error: MgemError) -> DrawingFailed:
        self._last_error = error
        self._draft.change_scene(index, status="failed", message=str(error))
        retryable = isinstance(error, ToolError) and error.retryable
        return DrawingFailed(scene_call_id(index), str(error), type(error).__name__, retryable)

    def _give_up(self, scenes: Sequence[StoryScene], first: StoryScene) -> Iterator[StoryEvent]:
        """Mark scenes as failed whose reference picture is missing."""
        for scene in scenes:
            yield self._fail(
                scene.index,
                ToolError(
                    f"Not drawn: the picture of scene {first.index}, its reference, failed. Resume the story to try "
                    f"both again.",
                    retryable=True,
                ),
            )

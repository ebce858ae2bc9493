"""Score the pictures of a story, and draw the pages that fail again; the best picture of each page is kept.

- **The caption and the cast** are judged by questions (`mgem_agent.scoring`): each expected member must be seen.
- **Likeness and style** are cosine similarities by a picture encoder, if there is one. They compare whole pictures:
  with the recipe's reference, or with the first page that shows the same member; the style with the first picture.
- **All pages that fail are drawn again as one batch**, by the strategy of the look, within the budget.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from langchain_core.language_models import BaseChatModel
from PIL import Image

from mgem_agent.agent.context_window import Limits
from mgem_agent.agent.events import AgentNotice, DrawingProgress
from mgem_agent.agent.image_judge import check_sees
from mgem_agent.agent.reasoning import Reasoning
from mgem_agent.agent.redraw import next_request, other_seeds, useless_redraw
from mgem_agent.agent.turn_judge import TurnJudge
from mgem_agent.artifacts.artifact import PictureAttempt
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import BudgetExceededError, GenerationCancelledError, InputError, MgemError
from mgem_agent.scoring.caption_atoms import CaptionAtom, read_atoms
from mgem_agent.scoring.picture_judge import PictureJudge
from mgem_agent.scoring.picture_score import PictureScore
from mgem_agent.tools.drawing import draw
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import GenerationProgress
from mgem_agent.tools.look import Look
from mgem_agent.workflows.page_score import PageScore
from mgem_agent.workflows.story import StoryScene
from mgem_agent.workflows.story_captions import compose_caption
from mgem_agent.workflows.story_events import PageScored, StoryEvent, scene_call_id
from mgem_agent.workflows.story_folder import StoryDraft, scene_key
from mgem_agent.workflows.story_pictures import StoryPictures

__all__ = ["PageEncoder", "PageScoring"]

NO_JUDGE = "The pages are not scored, because there is no model that sees pictures."


class PageEncoder(Protocol):
    """Encodes pictures: what they show and their style, each (b, d) with rows of length 1."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    def contents(self, pictures: Sequence[Image.Image]) -> Any:
        """Return what the pictures show."""
        ...

    def styles(self, pictures: Sequence[Image.Image]) -> Any:
        """Return the styles of the pictures."""
        ...


class PageScoring:
    """Scores the pages of a story.

    Args:
        draft: The story.
        generator: The generator.
        store: The store of the pictures.
        cancel: Set this to stop.
        look: How pages that fail are drawn again; a look without redraws only scores.
        judge: The chat model that sees; None if there is none.
        encoder: The picture encoder; None to leave out likeness and style.
    """

    def __init__(
        self,
        draft: StoryDraft,
        generator: ImageGenerator,
        store: ArtifactStore,
        cancel: threading.Event,
        look: Look,
        judge: BaseChatModel | None,
        encoder: PageEncoder | None,
    ) -> None:
        self._draft = draft
        self._generator = generator
        self._store = store
        self._cancel = cancel
        self._look = look
        self._encoder = encoder
        self._capabilities = generator.capabilities
        self._atoms: dict[int, tuple[CaptionAtom, ...]] = {}
        self._judge: PictureJudge | None = None
        if judge is not None and _sees(judge):
            reasoning = Reasoning(judge, store, {}, limits=Limits(1))
            model = TurnJudge(reasoning, f"story {draft.story.session}", cancel, draft.meter)
            self._judge = PictureJudge(model, vocabulary=self._capabilities.vocabulary)

    def run(self, pictures: StoryPictures) -> Iterator[StoryEvent]:
        """Score every drawn page that has no score, and draw those that fail again.

        Args:
            pictures: Keeps a better picture.

        Raises:
            BudgetExceededError: If a question or a picture would pass the budget; finished scores are kept.
            GenerationCancelledError: If it is cancelled.
        """
        if self._judge is None:
            yield self._draft.notice(NO_JUDGE)
            return
        tried: dict[int, list[ImageRequest]] = {}
        try:
            yield from self._run(tried, pictures)
        finally:
            for index in tried:
                self._note_attempts(self._draft.story.scenes[index - 1])

    def _run(self, tried: dict[int, list[ImageRequest]], pictures: StoryPictures) -> Iterator[StoryEvent]:
        for scene in self._draft.story.scenes:
            if scene.artifact_id is None:
                continue
            if scene.picture_score is None:
                score = self._scored(scene, scene.artifact_id)
                self._draft.change_scene(scene.index, score=score, attempts=(score,))
                tried[scene.index] = [scene.request] if scene.request is not None else []
                yield PageScored(scene.index, score)
            else:  # scored before the story was stopped
                known = [self._store.get(each.artifact_id) for each in scene.attempts]
                tried[scene.index] = [each.asked for each in known if each.asked is not None]
        for _ in range(1 if self._look.strategy == "best_of_n" else self._look.max_redraws):
            wanted, notices = self._plan(tried)
            for notice in notices:
                yield self._draft.notice(notice)
            if not wanted:
                return
            yield from self._draw(wanted, tried, pictures)

    def _note_attempts(self, scene: StoryScene) -> None:
        """Write what was tried for a page into the record of its picture."""
        score = scene.picture_score
        if score is None or not scene.attempts:
            return
        with suppress(MgemError):  # such as a full disk; the story's record has them, too
            self._store.note_attempts(
                score.artifact_id,
                [
                    PictureAttempt(
                        picture=each.artifact_id,
                        prompt=self._store.get(each.artifact_id).title,
                        score=each.score,
                        problem=each.caption.what_is_wrong,
                    )
                    for each in scene.attempts
                ],
            )

    def _plan(self, tried: Mapping[int, list[ImageRequest]]) -> tuple[list[tuple[int, ImageRequest]], list[str]]:
        """Return the pages to draw again with their requests, and notices about those that cannot be improved."""
        wanted: list[tuple[int, ImageRequest]] = []
        useless = False
        for index, requests in tried.items():
            scene = self._draft.story.scenes[index - 1]
            if scene.score is None or not requests or scene.score.passes(self._look.threshold):
                continue
            is_best_of_n = self._look.strategy == "best_of_n"
            if len(requests) > (1 if is_best_of_n else self._look.max_redraws):
                continue
            if is_best_of_n:
                found: list[ImageRequest] = other_seeds(requests[0], self._look.max_redraws, self._capabilities)
            else:
                request = next_request(
                    requests,
                    scene.score.artifact_id,
                    scene.score.caption,
                    self._look,
                    self._capabilities,
                    partial(self._better_caption, scene),
                )
                found = [] if request is None else [request]
            useless = useless or not found
            wanted += [(index, each) for each in found]
        return wanted, [useless_redraw(self._generator.name)] if useless else []

    def _better_caption(self, scene: StoryScene, _: str, score: PictureScore) -> str:
        """Return the whole caption of a page with its scene rewritten; looks and style do not change."""
        story = self._draft.story
        members = [each for each in story.cast if each.name in scene.characters]
        caption = scene.caption if self._judge is None else self._judge.better_caption(scene.caption, score)
        return compose_caption(caption, members, story.style)

    def _draw(
        self, wanted: Sequence[tuple[int, ImageRequest]], tried: dict[int, list[ImageRequest]], pictures: StoryPictures
    ) -> Iterator[StoryEvent]:
        """Draw pages again as one batch, and keep those that score higher."""
        names = {name for _, request in wanted for name in request.picture_ids}
        shown = {name: self._store.open(name) for name in names}
        requests = [request for _, request in wanted]
        refusal: BudgetExceededError | None = None
        events = draw(self._generator, requests, pictures=shown, cancel=self._cancel, meter=self._draft.meter)
        for event in events:
            index, request = wanted[event.index]
            if isinstance(event, GenerationProgress):
                yield DrawingProgress(scene_call_id(index), event.step, event.num_steps)
                continue
            tried[index].append(request)
            if isinstance(event.error, BudgetExceededError):
                refusal = event.error
            elif event.image is None:
                yield AgentNotice(f"Page {index} was not drawn again, and keeps its picture. {event.error}")
            else:
                key = scene_key(self._draft.story, index, request)
                artifact = self._store.put(replace(event, call=key))
                scene = self._draft.story.scenes[index - 1]
                score = self._scored(scene, artifact.id)
                is_better = scene.score is not None and (score.score or 0.0) > (scene.score.score or 0.0)
                self._draft.change_scene(index, attempts=(*scene.attempts, score))
                yield PageScored(index, score)
                if is_better:
                    self._draft.change_scene(index, score=score, request=request)
                    yield pictures.keep(index, artifact)
        if refusal is not None:
            raise refusal
        if self._cancel.is_set():
            raise GenerationCancelledError("The story was stopped. Resume it to continue.")

    def _scored(self, scene: StoryScene, artifact_id: str) -> PageScore:
        """Return the score of a picture of a page."""
        judge, story = self._judge, self._draft.story
        if judge is None:
            raise InputError(NO_JUDGE)
        members = [each for each in story.cast if each.name in scene.characters]
        caption = compose_caption(scene.caption, members, "")
        if scene.index not in self._atoms:
            self._atoms[scene.index] = judge.atoms(caption)
        atoms = self._atoms[scene.index]
        cast = {each.name: self._presence(each.name, each.looks) for each in members}
        asked = {atom.question: atom for atom in (*atoms, *cast.values())}
        found = judge.score({"type": "image", "file_id": artifact_id}, caption, tuple(asked.values()))
        yes = {answer.question: answer.yes for answer in found.answers}
        own = {atom.question for atom in atoms}
        answers = tuple(answer for answer in found.answers if answer.question in own)
        present = {name: value for name, atom in cast.items() if (value := yes.get(atom.question)) is not None}
        likeness, style = self._similarities(scene, artifact_id)
        return PageScore(
            artifact_id=artifact_id,
            caption=found.model_copy(update={"answers": answers, "said": ""}),
            cast=present,
            likeness=likeness,
            style=style,
            encoder=self._encoder.name if self._encoder is not None else "",
        )

    def _presence(self, name: str, looks: str) -> CaptionAtom:
        """Return the question whether a member of the cast is in the picture: by what it is, or by its name."""
        things = [atom for atom in read_atoms(looks, self._capabilities.vocabulary).atoms if atom.kind == "thing"]
        question = things[0].question if things else f"Is there {looks or name} in the picture?"
        return CaptionAtom(question, "thing", name)

    def _similarities(self, scene: StoryScene, artifact_id: str) -> tuple[dict[str, float], float | None]:
        """Return the likeness of each member of the cast, and of the style."""
        encoder, story = self._encoder, self._draft.story
        if encoder is None:
            return {}, None
        drawn = [each for each in story.scenes if each.artifact_id is not None]
        firsts: dict[str, str] = {}
        for name in scene.characters:
            shown = [each for each in drawn if name in each.characters]
            given = story.given_ids[0] if story.given_ids else None
            first = given or (shown[0].artifact_id if shown and shown[0].index != scene.index else None)
            if first is not None:
                firsts[name] = first
        style_of = drawn[0].artifact_id if drawn and drawn[0].index != scene.index else None
        picture = self._store.open(artifact_id)
        likeness = {
            name: _cosine(encoder.contents([picture, self._store.open(first)])) for name, first in firsts.items()
        }
        style = None if style_of is None else _cosine(encoder.styles([picture, self._store.open(style_of)]))
        return likeness, style


def _cosine(rows: Any) -> float:
    return round(float(sum(a * b for a, b in zip(rows[0].tolist(), rows[1].tolist(), strict=True))), 4)


def _sees(judge: BaseChatModel) -> bool:
    try:
        check_sees(judge)
    except InputError:
        return False
    return True

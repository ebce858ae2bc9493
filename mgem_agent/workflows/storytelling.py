"""An illustrated story from a premise or a full recipe, such as the dragon's story of Figure 6.

The steps are title, outline, cast, pages and pictures, in this order. Decisions that matter:

- **Every step is saved in the story's folder before the next one starts.** A killed story can be resumed at any point,
  and nothing is written or drawn twice. Only one process at a time can work on a story.
- **Any reasoner works.** Prompts ask for plain lines; missing parts are completed from the recipe, with a notice.
  Without a reasoner, a full recipe is drawn unchanged.
- **Looks are written once** and repeated in every caption, in the same words.
- **Pages are drawn while later ones are written**, in batches where they pay; see `write_and_draw`. If the generator
  does not support what the recipe asks for, an error is raised before anything is written.
- **One seed for all pictures**; see `scene_request`.
"""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel

from mgem_agent import __version__
from mgem_agent.agent.agent import MgemAgent
from mgem_agent.agent.async_bridge import in_thread
from mgem_agent.agent.events import AgentNotice
from mgem_agent.agent.messages import store_picture
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import BudgetExceededError, GenerationCancelledError, InputError, MgemError
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.tools.budget import Budget, Budgets, Cost, Meter
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.look import Look
from mgem_agent.tools.prices import Prices
from mgem_agent.workflows.consistency import choose_consistency
from mgem_agent.workflows.drawing_pace import DrawingPace
from mgem_agent.workflows.kept_premise import kept_premise
from mgem_agent.workflows.outline_decision import OutlineDecision, apply_outline_decision, read_outline_decision
from mgem_agent.workflows.page_scoring import PageEncoder, PageScoring
from mgem_agent.workflows.story import STORY_FILE, Story, read_story
from mgem_agent.workflows.story_captions import DEFAULT_STYLES
from mgem_agent.workflows.story_events import ApprovalNeeded, StoryEvent, StoryFinished, StoryStopped
from mgem_agent.workflows.story_folder import StoryDraft, hold_folder
from mgem_agent.workflows.story_outline import plan_story
from mgem_agent.workflows.story_overlap import DrawingThread, write_and_draw
from mgem_agent.workflows.story_pages import write_pages
from mgem_agent.workflows.story_pictures import StoryPictures
from mgem_agent.workflows.story_recipe import StoryRecipe
from mgem_agent.workflows.story_revision import PageRevision, check_revision, revise_page
from mgem_agent.workflows.story_writer import StoryWriter

__all__ = ["Storyteller", "tell_story"]

Events = Generator[StoryEvent, None, None]


class Storyteller:
    """Writes and draws one story, in one folder.

    Args:
        reasoner: The chat model that writes, from any LangChain package; None for a complete recipe.
        generator: The generator that draws.
        store: The store of the pictures; `ArtifactStore()` by default.
        folder: Folder of the story's record, `story.json`; created if missing.
        approve_outline: Whether a person approves the outline and cast before anything is drawn; see `resume`.
        keep_premise: Whether grammars keep the hero and the place of an English premise in every step; None if the
            reasoner needs it, as nano does. A reasoner that cannot follow a grammar writes freely.
        budget: Limits of the book, such as `1usd,30pictures,20min`; by default those of the recipe. A story stops at a
            limit, and continues with a larger one.
        prices: Prices of generators and reasoners by name; see `Prices`.
        meter: A meter that counts the same calls for a larger scope, such as a session.
        look: How pages that fail are drawn again: as for `MgemAgent`. Pages are scored then, too.
        scores: Whether pages are scored even without a look.
        judge: The chat model that scores; the reasoner if None.
        encoder: Picture encoder for likeness and style; without one, only the caption and the cast are scored.
        overlap: Whether pages are drawn while later ones are written; otherwise all are written first.

    Examples:
        >>> import tempfile
        >>> from mgem_agent.artifacts import ArtifactStore
        >>> from mgem_agent.testing import FlatColourGenerator
        >>> from mgem_agent.workflows import StoryRecipe, Storyteller
        >>> folder = tempfile.TemporaryDirectory()
        >>> scenes = [{"text": "A mouse finds a key.", "caption": "a mouse with a golden key"}]
        >>> recipe = StoryRecipe(title="The key", scenes=scenes, cast=[{"name": "Mouse", "looks": "a grey mouse"}])
        >>> teller = Storyteller(None, FlatColourGenerator(), ArtifactStore(folder.name), folder=folder.name)
        >>> story = teller.run(recipe)
        >>> story.scenes[0].executed.prompt
        "a mouse with a golden key. Mouse: a grey mouse. children's book illustration, soft watercolour, warm light"
        >>> folder.cleanup()
    """

    def __init__(
        self,
        reasoner: BaseChatModel | None,
        generator: ImageGenerator,
        store: ArtifactStore | None = None,
        *,
        folder: str | os.PathLike[str],
        approve_outline: bool = False,
        keep_premise: bool | None = None,
        budget: Budgets | Budget | str | None = None,
        prices: Prices | Mapping[str, Any] | None = None,
        meter: Meter | None = None,
        look: Look | int | str = 0,
        scores: bool = False,
        judge: BaseChatModel | None = None,
        encoder: PageEncoder | None = None,
        overlap: bool = True,
    ) -> None:
        self._overlap = overlap
        self._look = Look.parse(look)
        self._scores = scores
        self._judge = judge if judge is not None else reasoner
        self._encoder = encoder
        self._budget = Budgets.parse(budget, "book").book
        self._prices = prices if isinstance(prices, Prices) else Prices(prices)
        self._meter = meter
        self.folder = Path(folder)
        self.store = store if store is not None else ArtifactStore()
        self._reasoner = reasoner
        self._generator = generator
        self._approve_outline = approve_outline
        self._keep_premise = keep_premise
        self._cancel = threading.Event()
        self._writer: StoryWriter | None = None

    def story(self) -> Story:
        """Return the story in the folder.

        Raises:
            InputError: If there is no story, or it cannot be read.
        """
        return read_story(self.folder)

    def stream(self, recipe: StoryRecipe) -> Events:
        """Write and draw a story, and yield events as they come.

        If the stream is closed early, the story can be resumed.

        Args:
            recipe: The recipe.

        Yields:
            Events; the last one is a `StoryFinished`, `ApprovalNeeded` or `StoryStopped`.

        Raises:
            InputError: If the folder already has a story or is in use, or a picture of the recipe cannot be read.
            UnsupportedRequestError: If the generator does not support what the recipe asks for.
            MgemError: If the reasoner fails; finished parts are kept.
        """
        self._cancel.clear()
        with hold_folder(self.folder):
            if (self.folder / STORY_FILE).exists():
                raise InputError(f"There is already a story in {str(self.folder)!r}. Resume it, or use another folder.")
            draft = self._draft(self._begin(recipe))
            draft.change()
            yield from self._tell(draft, lambda: self._steps(draft))

    def stream_resume(self, decision: OutlineDecision | str | None = None) -> Events:
        """Resume the story in the folder, and yield events as they come.

        Failed pictures are tried again; stored pictures are not drawn again.

        Args:
            decision: If an outline waits for approval: `approve`, `refuse`, or an `OutlineDecision` with edits. None
                for a story that was interrupted.

        Yields:
            As `stream`.

        Raises:
            InputError: If there is no story, it is in use, or the decision is missing, not expected or not valid.
        """
        self._cancel.clear()
        read_story(self.folder)  # if this fails, no folder should have been created
        with hold_folder(self.folder):
            draft = self._draft(read_story(self.folder))
            if draft.story.state == "waiting":
                if decision is None:
                    raise InputError(
                        f"The story in {str(self.folder)!r} waits for a decision about its outline. Resume it with "
                        f"'approve', 'refuse' or an OutlineDecision with edits."
                    )
                draft.change(**apply_outline_decision(draft.story, read_outline_decision(decision)))
            elif decision is not None:
                raise InputError(f"No outline in {str(self.folder)!r} waits for a decision. Resume without one.")
            elif draft.story.state == "refused":
                raise InputError(
                    f"The outline in {str(self.folder)!r} was refused. Start a new story in another folder."
                )
            yield from self._go_on(draft)

    def stream_revision(self, revision: PageRevision) -> Events:
        """Change one page of the story in the folder: its words, its picture or both; yield events as they come.

        The page's earlier picture stays in the store. If the new one fails or is cancelled, the page keeps the old one.

        Args:
            revision: The change.

        Yields:
            As `stream`.

        Raises:
            InputError: If there is no story, it is in use, the page is not written yet, or the change is not possible.
        """
        self._cancel.clear()
        read_story(self.folder)
        with hold_folder(self.folder):
            draft = self._draft(read_story(self.folder))
            check_revision(draft.story, revision, self.store)
            writer = self._make_writer(draft)
            pictures = StoryPictures(draft, self._generator, self.store, self._cancel)
            yield from self._tell(draft, lambda: revise_page(writer, pictures, self.store, revision))

    def run(self, recipe: StoryRecipe) -> Story:
        """Write and draw a story; arguments and errors as for `stream`."""
        return self._last(self.stream(recipe))

    def revise(self, revision: PageRevision) -> Story:
        """Change one page of the story in the folder; arguments and errors as for `stream_revision`."""
        return self._last(self.stream_revision(revision))

    def resume(self, decision: OutlineDecision | str | None = None) -> Story:
        """Resume the story in the folder; arguments and errors as for `stream_resume`."""
        return self._last(self.stream_resume(decision))

    def astream(self, recipe: StoryRecipe) -> AsyncIterator[StoryEvent]:
        """Write and draw a story without blocking the event loop; otherwise as `stream`."""
        return in_thread(lambda: self.stream(recipe), self.cancel)

    def astream_resume(self, decision: OutlineDecision | str | None = None) -> AsyncIterator[StoryEvent]:
        """Resume without blocking the event loop; otherwise as `stream_resume`."""
        return in_thread(lambda: self.stream_resume(decision), self.cancel)

    def cancel(self) -> None:
        """Stop, from another thread or a signal handler. Finished parts are kept, and `resume` continues."""
        self._cancel.set()
        if self._writer is not None:
            self._writer.cancel()

    def _last(self, events: Events) -> Story:
        for _ in events:
            pass
        return self.story()

    def _draft(self, story: Story) -> StoryDraft:
        """Return the draft of a story, with a meter for the book's budget."""
        own = Budget.parse(story.recipe.budget) if story.recipe.budget else Budget()
        budgets = Budgets(book=self._budget or own)
        spent = {"book": Cost.read(story.cost)}
        return StoryDraft(self.folder, story, Meter(budgets, self._prices, spent=spent, outer=self._meter))

    def _begin(self, recipe: StoryRecipe) -> Story:
        """Return the story before its first step, or raise an error if it is not possible."""
        capabilities = self._generator.capabilities
        consistency = choose_consistency(recipe, capabilities, generator=self._generator.name)
        now = datetime.now(UTC)
        given = tuple(store_picture(path, self.store) for path in recipe.reference_paths)
        return Story(
            version=__version__,
            session=uuid.uuid4().hex,
            created=now,
            updated=now,
            needs_approval=self._approve_outline,
            recipe=recipe,
            language=recipe.language,
            style=recipe.style or DEFAULT_STYLES[recipe.kind],
            consistency=consistency,
            seed=_seed(recipe) if capabilities.seed else None,
            given_ids=given,
            reference_ids=given,
            reasoner=_name(self._reasoner),
            generator=self._generator.name,
        )

    def _go_on(self, draft: StoryDraft) -> Events:
        """Resume, with the current reasoner, generator and decision."""
        story = draft.story
        if self._generator.name != story.generator:
            capabilities = self._generator.capabilities
            draft.change(
                consistency=choose_consistency(story.recipe, capabilities, generator=self._generator.name),
                seed=_seed(story.recipe) if capabilities.seed else None,
                generator=self._generator.name,
            )
            yield draft.notice(
                f"The story was started with generator {story.generator!r} and continues with "
                f"{self._generator.name!r}: later pictures may look different."
            )
        yield from self._tell(draft, lambda: self._steps(draft))

    def _tell(self, draft: StoryDraft, steps: Callable[[], Iterator[StoryEvent]]) -> Events:
        left = draft.meter.seconds_left()
        timer = threading.Timer(max(left or 0.0, 0.0), self.cancel)
        timer.daemon = True
        if left is not None:
            timer.start()
        try:
            yield from steps()
        except GenerationCancelledError:
            if not self._cancel.is_set():
                raise
            if (draft.meter.seconds_left() or 1.0) <= 0:
                yield AgentNotice("The story has used the seconds of its budget. Raise the budget to go on: --budget")
            draft.change()
            yield StoryStopped(draft.story)
        except BudgetExceededError as refusal:
            yield AgentNotice(str(refusal))
            draft.change()
            yield StoryStopped(draft.story)
        finally:
            timer.cancel()
            self._writer = None

    def _steps(self, draft: StoryDraft) -> Events:
        story = draft.story
        is_seed_wanted = story.recipe.seed is not None or story.recipe.consistency == "seed+card"
        if story.seed is None and is_seed_wanted and story.state == "outlining":
            yield draft.notice(
                f"Generator {story.generator!r} takes no seeds; only the looks are repeated in every caption."
            )
        writer = self._make_writer(draft)
        if story.state == "outlining":
            yield from plan_story(writer)
            draft.change(state="waiting" if draft.story.needs_approval else "telling")
        if draft.story.state == "waiting":
            yield ApprovalNeeded(draft.story)
            return
        if draft.story.state != "refused":
            pictures = StoryPictures(draft, self._generator, self.store, self._cancel)
            yield from self._tell_pages(writer, pictures)
            if self._look or self._scores:
                scoring = PageScoring(
                    draft, self._generator, self.store, self._cancel, self._look, self._judge, self._encoder
                )
                yield from scoring.run(pictures)
            draft.change(state="finished")
        yield StoryFinished(draft.story)

    def _agent_maker(self, reasoner: BaseChatModel, meter: Meter) -> Callable[[str | None], MgemAgent]:
        sessions = Sessions.in_memory()

        @lru_cache(maxsize=4)  # compiling a graph takes as long as everything else of an answer
        def make_agent(grammar: str | None) -> MgemAgent:
            writes = reasoner if grammar is None else reasoner.model_copy(update={"grammar": grammar})
            return MgemAgent(writes, self._generator, store=self.store, sessions=sessions, draw="never", meter=meter)

        return make_agent

    def _tell_pages(self, writer: StoryWriter, pictures: StoryPictures) -> Events:
        """Write and draw what is missing."""
        planned = [scene for scene in writer.draft.story.scenes if scene.status == "planned"]
        is_given = self._reasoner is None or all(scene.text and scene.caption for scene in planned)
        if is_given or not self._overlap:
            yield from write_pages(writer)
            yield from pictures.run()
            return
        yield from pictures.prepare()
        try:
            max_batch_size = self._generator.capabilities.max_batch_size
        except MgemError:  # drawing reports it for each page
            max_batch_size = None
        drawing = DrawingThread(pictures, DrawingPace(max_batch_size), len(planned), self._cancel)
        drawing.start(pictures.waiting())
        yield from write_and_draw(write_pages(writer), drawing)

    def _make_writer(self, draft: StoryDraft) -> StoryWriter:
        premise = kept_premise(draft.story.recipe, self._reasoner, is_wanted=self._keep_premise)
        make_agent = None if self._reasoner is None else self._agent_maker(self._reasoner, draft.meter)
        self._writer = StoryWriter(make_agent, draft, self._cancel, premise=premise)
        return self._writer


def _seed(recipe: StoryRecipe) -> int:
    """Return the recipe's seed, or one derived from its content, so that the same recipe gives the same pictures."""
    if recipe.seed is not None:
        return recipe.seed
    told = f"{recipe.title}\n{recipe.premise}"
    return int.from_bytes(hashlib.sha256(told.encode("utf-8", "surrogatepass")).digest()[:4], "big")


def _name(reasoner: BaseChatModel | None) -> str:
    """Return the name of a reasoner, for the record."""
    if reasoner is None:
        return ""
    for field in ("model", "model_name"):
        value = getattr(reasoner, field, None)
        if isinstance(value, str) and value:
            return value
    return type(reasoner).__name__


def tell_story(
    recipe: StoryRecipe | str,
    reasoner: BaseChatModel | None,
    generator: ImageGenerator,
    *,
    folder: str | os.PathLike[str],
    **options: Any,
) -> Story:
    """Write and draw a story, or resume the one in the folder.

    Args:
        recipe: A recipe, or a premise.
        reasoner: As for `Storyteller`.
        generator: As for `Storyteller`.
        folder: As for `Storyteller`.
        **options: Other arguments of `Storyteller`.

    Returns:
        The story, possibly unfinished.

    Raises:
        InputError: As for `Storyteller.stream`; also if the story in the folder has a different recipe.
    """
    if isinstance(recipe, str):
        recipe = StoryRecipe.from_premise(recipe)
    teller = Storyteller(reasoner, generator, folder=folder, **options)
    if not (teller.folder / STORY_FILE).exists():
        return teller.run(recipe)
    if not teller.story().recipe.tells_the_same_as(recipe):
        raise InputError(f"The story in {str(teller.folder)!r} has a different recipe. Use another folder.")
    return teller.resume()

"""Pages are drawn while later ones are written, and nothing that is made is lost if one side fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mgem_agent.artifacts.artifact import Artifact
from mgem_agent.errors import GeneratorUnavailableError, MgemError, ToolError
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools.budget import Cost
from mgem_agent.tools.image_result import GenerationProgress, ImageResult
from mgem_agent.workflows.story import Story
from mgem_agent.workflows.story_events import scene_call_id
from mgem_agent.workflows.story_recipe import StoryRecipe
from mgem_agent.workflows.storytelling import Storyteller

Teller = Callable[..., Storyteller]
LIMIT_S = 20.0
SINGLE = FlatColourGenerator.CAPABILITIES.model_copy(update={"max_references": 0, "max_batch_size": 1})
RECIPE = StoryRecipe.from_premise("A dragon and a knight.", scenes=3)


class Painter(FlatColourGenerator):
    """Draws one picture at a time, and says when each is drawn.

    Attributes:
        drawn_pages: Set when a page was drawn, by number.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(size=(16, 16), capabilities=SINGLE, **options)
        self.drawn_pages = [threading.Event() for _ in range(4)]

    def generate(self, *args: Any, **options: Any) -> Iterator[GenerationProgress | ImageResult]:
        for event in super().generate(*args, **options):
            if isinstance(event, ImageResult) and event.image is not None:
                self.drawn_pages[len(self.drawn)].set()
            yield event


def wait_for_pages(author: Any, painter: Painter) -> None:
    """Let the text of each page be written only once the page before it is drawn."""
    for number in (2, 3):
        author.answers = {
            f"Write the text of number {number}": lambda _, number=number: (
                "The knight came." if painter.drawn_pages[number - 1].wait(LIMIT_S) else ""
            ),
            **author.answers,
        }


def fail(_: str) -> str:
    raise MgemError("The server is gone.")


def statuses(story: Story) -> list[str]:
    return [scene.status for scene in story.scenes]


def test_a_page_is_drawn_while_the_next_is_written(teller: Teller, author: Any) -> None:
    painter = Painter()
    wait_for_pages(author, painter)
    events = list(teller(painter).stream(RECIPE))
    told = []
    for event in events:
        if event.kind == "scene":
            told.append(f"written {event.scene.index}")
        elif event.kind == "picture":
            told.append(f"drawn {event.call_id[-1]}")
    assert all(told.index(f"written {page}") < told.index(f"drawn {page}") for page in (1, 2, 3))
    assert events[-1].kind == "finished"
    story = teller(painter).story()
    assert story.is_complete and [scene.text for scene in story.scenes[1:]] == ["The knight came."] * 2
    assert Cost.read(story.cost).pictures == 3 and story == events[-1].story


def test_the_pictures_are_the_same_as_one_after_another(teller: Teller, author: Any, tmp_path: Path) -> None:
    author.answers["What does its picture show?"] = "A wide desert."
    recipe = RECIPE.model_copy(update={"seed": 7})
    stories = []
    for overlap in (True, False):
        maker = teller(overlap=overlap)
        maker.folder = tmp_path / str(overlap)
        stories.append(maker.run(recipe))
    first, second = ([scene.model_dump() for scene in story.scenes] for story in stories)
    assert first == second


def test_a_person_who_looks_at_each_page_gets_the_text_first(teller: Teller) -> None:
    kinds = [event.kind for event in teller(overlap=False).stream(RECIPE)]
    assert len(kinds) - kinds[::-1].index("scene") < kinds.index("picture") + 1


def test_what_is_written_is_drawn_if_the_reasoner_fails(teller: Teller, author: Any) -> None:
    good = dict(author.answers)
    author.answers = {"Write the text of number 3": fail, **good}
    painter = Painter()
    with pytest.raises(MgemError, match="The server is gone"):
        teller(painter).run(RECIPE)
    assert statuses(teller().story()) == ["drawn", "drawn", "planned"]
    author.answers = good
    assert teller(painter).resume().is_complete and len(painter.drawn) == 3


def test_what_is_not_drawn_is_still_written(teller: Teller, author: Any) -> None:
    class Gone(Painter):
        num_asked = 0

        def generate(self, *args: Any, **options: Any) -> Iterator[GenerationProgress | ImageResult]:
            self.num_asked += 1
            self.drawn_pages[1].set()
            raise GeneratorUnavailableError("Nobody is home.")

    gone = Gone()
    author.answers = {
        "Write the text of number 2": lambda _: "It rains." if gone.drawn_pages[1].wait(LIMIT_S) else "",
        **author.answers,
    }
    story = teller(gone).run(RECIPE)
    assert statuses(story) == ["failed"] * 3 and {scene.message for scene in story.scenes} == {"Nobody is home."}
    assert gone.num_asked == 2, "once for the first page, and once for the others"
    assert teller(Painter()).resume().is_complete


def test_a_budget_of_pictures_does_not_stop_the_writing(teller: Teller, author: Any) -> None:
    painter = Painter()
    wait_for_pages(author, painter)
    painter.drawn_pages[2].set()
    events = list(teller(painter, budget="1pictures").stream(RECIPE))
    assert events[-1].kind == "stopped" and statuses(events[-1].story) == ["drawn", "written", "written"]
    assert [event.message for event in events if event.kind == "notice"][0].startswith("The budget of this book is 1")
    assert teller(painter, budget="3pictures").resume().is_complete and len(painter.drawn) == 3


def test_a_record_that_cannot_be_written_stops_both(
    teller: Teller, author: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    painter, write = Painter(), Story.write

    def full(story: Story, folder: Path) -> None:
        if painter.drawn:
            painter.drawn_pages[2].set()
            raise ToolError("No space left.")
        write(story, folder)

    wait_for_pages(author, painter)
    monkeypatch.setattr(Story, "write", full)
    with pytest.raises(ToolError, match=r"^No space left\.$"):
        teller(painter).run(RECIPE)
    monkeypatch.undo()
    again = Painter()
    assert teller(again).resume().is_complete
    assert len(again.drawn) == 2, "the picture that was stored is found"


def test_a_closed_stream_waits_for_its_picture(teller: Teller, author: Any) -> None:
    begun = threading.Event()

    class Slow(Painter):
        def generate(self, *args: Any, **options: Any) -> Iterator[GenerationProgress | ImageResult]:
            begun.set()
            yield from super().generate(*args, **options)

    author.answers = {
        "Write the text of number 2": lambda _: "It rains." if begun.wait(LIMIT_S) else "",
        **author.answers,
    }
    slow = Slow(delay_s=60.0, num_steps=600)
    events = teller(slow).stream(RECIPE)
    while (event := next(events)).kind != "scene" or event.scene.index != 2:
        pass
    events.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "story-pictures"]
    assert statuses(teller().story()) == ["written", "written", "planned"]
    assert teller().resume().is_complete


def test_a_picture_that_is_stored_when_all_stops_is_kept(teller: Teller, author: Any) -> None:
    painter = Painter()
    wait_for_pages(author, painter)
    maker = teller(painter)
    put = maker.store.put

    def cancelling(result: ImageResult) -> Artifact:
        maker.cancel()
        return put(result)

    maker.store.put = cancelling  # type: ignore[method-assign]
    events = list(maker.stream(RECIPE))
    assert events[-1].kind == "stopped"
    assert [event.call_id for event in events if event.kind == "picture"] == [scene_call_id(1)]
    assert events[-1].story.scenes[0].status == "drawn"
    assert teller(painter).resume().is_complete and len(painter.drawn) == 3


def test_pages_that_wait_are_drawn_while_the_rest_is_written(teller: Teller, author: Any) -> None:
    good = dict(author.answers)
    author.answers = {"Write the text of number 3": fail, **good}
    with pytest.raises(MgemError):
        teller(FlatColourGenerator(size=(16, 16), capabilities=SINGLE, fail_on="#"), overlap=False).run(RECIPE)
    assert statuses(teller().story()) == ["written", "written", "planned"]
    painter = Painter()
    author.answers = {
        "Write the text of number 3": lambda _: "The end came." if painter.drawn_pages[2].wait(LIMIT_S) else "",
        **good,
    }
    story = teller(painter).resume()
    assert story.is_complete and story.scenes[2].text == "The end came."

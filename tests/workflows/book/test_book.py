from __future__ import annotations

from typing import Any

import pytest

from mgem_agent.artifacts import ArtifactStore
from mgem_agent.workflows import Story, StoryRecipe
from mgem_agent.workflows.book import make_book
from mgem_agent.workflows.story import StoryCharacter


def test_a_whole_story(make_story: Any, store: ArtifactStore) -> None:
    story = make_story()
    book = make_book(story, store)
    assert (book.title, book.language, book.direction, book.is_complete) == ("The Fox", "en", "ltr", True)
    assert book.pages[0].paragraphs == ("The fox walks 1 miles.", "Then it rests.")
    picture = book.pages[0].picture
    assert picture is not None and (picture.alt, picture.width, picture.path.is_file()) == ("A fox on page 1", 32, True)
    assert book.cover == book.pages[0].picture
    assert book.facts == ("Written by scripted", "Drawn by flat (flat-colour)", "Style: ink")
    assert book.details[0] == "Seed: 1, 2, 3" and picture.id in book.details[1]


def test_a_story_that_is_half_told(make_story: Any, store: ArtifactStore) -> None:
    book = make_book(make_story(0, state="telling", title="", scene={"text": ""}), store)
    assert (book.title, book.cover, book.is_complete) == ("Untitled", None, False)
    assert [(page.picture, page.paragraphs, page.problem) for page in book.pages] == [
        (None, (), "The brush broke.")
    ] * 3


def test_a_picture_that_is_no_longer_stored_is_missing(make_story: Any, store: ArtifactStore) -> None:
    story = make_story()
    store.path(story.scenes[0].artifact_id).unlink()
    page = make_book(story, store).pages[0]
    assert page.picture is None
    assert page.problem.startswith(f"There is no picture '{story.scenes[0].artifact_id}'")


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ("Toast: a mouse", "Toast: a mouse"),
        ("The seat: Fennick and Rosa both run for the train and there is one seat left", "The seat"),
        ("Fennick and Rosa both run for the train at night, and there is one seat left", ""),
    ],
)
def test_a_line_of_the_outline_is_no_title(make_story: Any, store: ArtifactStore, line: str, title: str) -> None:
    assert make_book(make_story(scene={"title": line}), store).pages[0].title == title


def test_the_cover_shows_what_the_recipe_says_else_the_hero_else_the_first_picture(
    make_story: Any, store: ArtifactStore
) -> None:
    story = make_story()
    cast = (StoryCharacter(name="Fox"), StoryCharacter(name="Hen"))
    first, second, third = story.scenes
    scenes = (
        first.model_copy(update={"characters": ("Hen",)}),
        second.model_copy(update={"characters": ("Hen", "Fox")}),
        third.model_copy(update={"characters": ("Fox",)}),
    )
    told = story.model_copy(update={"cast": cast, "scenes": scenes})

    def cover_of(story: Story) -> int:
        book = make_book(story, store)
        return [page.picture for page in book.pages].index(book.cover) + 1

    assert cover_of(told) == 2
    assert cover_of(told.model_copy(update={"recipe": StoryRecipe(premise="A fox.", cover=3)})) == 3
    lost = (scenes[0], scenes[1].model_copy(update={"artifact_id": None}), scenes[2])
    assert cover_of(told.model_copy(update={"scenes": lost, "recipe": StoryRecipe(premise="A fox.", cover=2)})) == 3
    assert cover_of(story) == 1

"""Dialogues that teach a small language model the steps of the storytelling workflow.

Untrained, a model of a hundred million parameters plans one scene, or the same scene six times. Here small stories are
composed from parts. Each question is a prompt of the workflow (`mgem_agent.workflows`), each answer the expected
output: a title, the plan, the cast, the text of a page, or the caption of its picture.
"""

from __future__ import annotations

import functools
import importlib.resources
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mgem_agent.errors import InputError
from mgem_agent.recipes.data.record_files import RecordWriter
from mgem_agent.recipes.nano.world.backgrounds import SCENERY
from mgem_agent.recipes.nano.world.concepts import Concept, load_concepts
from mgem_agent.recipes.nano.world.nouns import is_countable, joined_with_and, with_article, with_capital
from mgem_agent.user_files import user_path

__all__ = ["STORY_TASKS", "small_story", "story_turn", "write_stories"]

STORY_TASKS = ("title", "outline", "cast", "looks", "scene_text", "caption")
"""Tasks: the names of the workflow's prompts."""

RenderPrompt = Callable[..., str]
"""Renders a prompt from its name and variables."""

_VERSION = 1
_WEIGHTS = (1, 3, 1, 1, 4, 3)
_ORDER = ("begin", "wish", "way", "trouble", "friend", "find", "end")
_LEAST = ("begin", "friend", "end")
_HEROES = ("animals",)
_THINGS = ("food", "objects", "clothing", "music", "sports", "vehicles")
_AUDIENCES = (None, None, "children", "small children", "children of five")
_MAX_CAST = 4
_MAX_BEFORE_CHARS = 300


@dataclass(frozen=True)
class StoryPage:
    """A page.

    Args:
        heading: Short heading.
        line: Its plan in one sentence.
        text: Its text.
        caption: The caption of its picture.
    """

    heading: str
    line: str
    text: str
    caption: str


@dataclass(frozen=True)
class SmallStory:
    """A story.

    Args:
        premise: Its premise.
        title: Its title.
        audience: Its audience; may be empty.
        cast: Names and looks of its characters.
        pages: Its pages.
    """

    premise: str
    title: str
    audience: str | None
    cast: tuple[tuple[str, str], ...]
    pages: tuple[StoryPage, ...]

    @property
    def outline(self) -> list[str]:
        """Lines of its plan."""
        return [f"{page.heading}: {page.line}" for page in self.pages]


@functools.cache
def _stock() -> dict[str, Any]:
    file = importlib.resources.files("mgem_agent.recipes.nano.world") / "prompts" / "stories.yaml"
    stock: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return stock


@functools.cache
def _concepts(groups: tuple[str, ...]) -> tuple[Concept, ...]:
    return tuple(each for each in load_concepts() if each.group in groups and is_countable(each.name))


def small_story(rng: random.Random) -> SmallStory:
    """Return a story of three to eight pages.

    Args:
        rng: Random generator.
    """
    stock = _stock()
    hero, friend = rng.sample(_concepts(_HEROES), 2)
    thing = rng.choice(_concepts(_THINGS))
    name, friend_name = rng.sample(stock["names"], 2)
    near, far = (rng.choice(each.phrases) for each in rng.sample(SCENERY, 2))
    words = {
        "name": name, "kind": with_article(hero.name), "bare": hero.name,
        "friend": friend_name, "friend_kind": with_article(friend.name), "friend_bare": friend.name,
        "it": with_article(thing.name), "the_it": f"the {thing.name}", "place": near, "place2": far,
    }  # fmt: skip
    words["It"] = with_capital(words["it"])
    titled = words | {"Bare": hero.name.title(), "the_It": f"the {thing.name.title()}"}
    cast = tuple(
        (who, with_capital(rng.choice(stock["looks"]).format(looks=kind.coloured_name)))
        for who, kind in ((name, hero), (friend_name, friend))
    )
    return SmallStory(
        premise=with_capital(rng.choice(stock["premises"]).format(**words)),
        title=with_capital(rng.choice(stock["titles"]).format(**titled)),
        audience=rng.choice(_AUDIENCES),
        cast=cast,
        pages=_pages(rng, words),
    )


def _pages(rng: random.Random, words: dict[str, str]) -> tuple[StoryPage, ...]:
    number = rng.randint(3, 8)
    optional = [name for name in _ORDER if name not in _LEAST]
    chosen = {*_LEAST, *rng.sample(optional, min(number - len(_LEAST), len(optional)))}
    order = [name for name in _ORDER if name in chosen]
    if number > len(order):  # the journey has two parts
        order.insert(order.index("way"), "way")
    parts = _stock()["parts"]
    taken: list[dict[str, Any]] = []
    for name in order:
        taken.append(rng.choice([part for part in parts[name] if part not in taken]))
    return tuple(_page(rng, part, words) for part in taken)


def _page(rng: random.Random, part: dict[str, Any], words: dict[str, str]) -> StoryPage:
    told = part["tell"][: rng.randint(2, len(part["tell"]))] if rng.random() < 0.5 else part["tell"]
    text = " ".join(told).format(**words)
    return StoryPage(part["heading"].format(**words), part["line"].format(**words), text, _caption(text, words))


def _caption(text: str, words: dict[str, str]) -> str:
    """Return the caption of a page's picture, with only what the page says."""
    who = []
    for name, bare in ((words["name"], words["bare"]), (words["friend"], words["friend_bare"])):
        if name in text:
            who.append(f"{name} the {bare}" if bare in text else name)
    seen = joined_with_and(who or [words["name"]])
    if words["the_it"].removeprefix("the ") in text:
        seen += f" with {words['it']}"
    where = next((words[name] for name in ("place", "place2") if words[name] in text), "")
    return f"{seen} {where}".strip() + "."


def story_turn(rng: random.Random, render: RenderPrompt) -> tuple[str, str, str]:
    """Return a task, the question that asks for it, and its answer.

    Args:
        rng: Random generator.
        render: Renders a prompt of the workflow by its name and variables.
    """
    story = small_story(rng)
    task = rng.choices(STORY_TASKS, _WEIGHTS)[0]
    about, audience = story.premise, story.audience
    shared: dict[str, Any] = {"kind": "story", "audience": audience, "title": story.title, "language": "en"}
    if task == "title":
        return task, render(task, **shared | {"about": about}), story.title
    if task == "outline":
        lines = "\n".join(f"{number}. {line}" for number, line in enumerate(story.outline, 1))
        asked = shared | {"about": about, "num_scenes": len(story.pages), "cast": "", "fixed": []}
        return task, render(task, **asked), lines
    if task == "cast":
        lines = "\n".join(f"{name}: {looks}" for name, looks in story.cast)
        return task, render(task, title=story.title, outline=story.outline, max_characters=_MAX_CAST), lines
    if task == "looks":
        name, looks = story.cast[0]
        return task, render(task, about=about, name=name), looks
    place = rng.randrange(len(story.pages))
    page = story.pages[place]
    if task == "caption":
        return task, render(task, text=page.text), page.caption
    asked = shared | {
        "outline": story.outline,
        "cast": "; ".join(f"{name}, {looks}" for name, looks in story.cast) if rng.random() < 0.7 else "",
        "before": story.pages[place - 1].text[-_MAX_BEFORE_CHARS:] if place else "",
        "number": place + 1,
    }
    return task, render(task, **asked), page.text


def story_record(index: int, render: RenderPrompt, seed: int = 0) -> dict[str, Any]:
    """Return the record of a question and its answer.

    Args:
        index: Index in the series, from 0.
        render: As for `story_turn`.
        seed: Seed of the series.
    """
    task, question, answer = story_turn(random.Random(f"story/{seed}/{index}"), render)
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": f"story-{seed}-{index}", "kind": task, "conversations": turns}


def write_stories(folder: str | Path, num_records: int, render: RenderPrompt, seed: int = 0) -> Path:
    """Write records of story tasks; existing ones are kept.

    Args:
        folder: Folder of `stories_train.jsonl`.
        num_records: Total number of records.
        render: As for `story_turn`; normally `mgem_agent.prompts.render_prompt`.
        seed: Seed of the series.

    Returns:
        The file of records.

    Raises:
        InputError: If the number is too small, or the file holds records of other settings.
    """
    if num_records < 1:
        raise InputError(f"{num_records} records cannot be written. Give 1 or more.")
    path = user_path(folder) / "stories_train.jsonl"
    with RecordWriter.open(path, {"seed": seed, "version": _VERSION}) as writer:
        for index in range(writer.num_records, num_records):
            writer.write(story_record(index, render, seed))
    return path

"""Stories from a premise alone: do they keep its hero, its things and its place?

What counts is in the words: whether a page and the caption of its picture name the hero, whether a story names the
place in at least half of its captions, and whether each other thing of the premise occurs on a page. Pictures are not
judged.
"""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from pydantic import BaseModel, ConfigDict
from rich.table import Table

from mgem_agent.recipes.eval.proportion import Proportion

__all__ = ["PremiseKeeping", "ToldStory", "held_out_premises", "premise_table"]


@dataclass(frozen=True)
class ToldStory:
    """A story, and what its premise is about.

    Args:
        hero: The noun or name of the hero.
        things: The nouns of other things of the premise.
        place: The noun of the place; empty if the premise names none.
        pages: Text and caption of each page.
    """

    hero: str
    things: tuple[str, ...]
    place: str
    pages: tuple[tuple[str, str], ...]


class PremiseKeeping(BaseModel):
    """What stories keep of their premises.

    Attributes:
        hero_in_text: Pages whose text names the hero.
        hero_in_caption: Pages whose caption names the hero.
        place: Stories that name the place in at least half of their captions, of those whose premise names one.
        things: Other things of the premises that a page or caption names.
        different_captions: Pages whose caption is not that of an earlier page.
    """

    model_config = ConfigDict(frozen=True)

    hero_in_text: Proportion
    hero_in_caption: Proportion
    place: Proportion
    things: Proportion
    different_captions: Proportion

    @classmethod
    def of(cls, stories: Iterable[ToldStory]) -> Self:
        """Count over stories."""
        told = list(stories)
        return cls(
            hero_in_text=Proportion.of(_names(story.hero, text) for story in told for text, _ in story.pages),
            hero_in_caption=Proportion.of(_names(story.hero, caption) for story in told for _, caption in story.pages),
            place=Proportion.of(_keeps_place(story) for story in told if story.place),
            things=Proportion.of(
                any(_names(thing, f"{text} {caption}") for text, caption in story.pages)
                for story in told
                for thing in story.things
            ),
            different_captions=Proportion.of(
                caption not in {earlier for _, earlier in story.pages[:number]}
                for story in told
                for number, (_, caption) in enumerate(story.pages)
            ),
        )


def held_out_premises() -> list[str]:
    """Return thirty premises that no training dialogue has."""
    file = importlib.resources.files("mgem_agent.recipes.nano.eval") / "premises.txt"
    return file.read_text(encoding="utf-8").splitlines()


def premise_table(found: Mapping[str, PremiseKeeping]) -> Table:
    """Return a table with a column for each way of telling.

    Args:
        found: The figures by the name of the way.
    """
    table = Table("", *found)
    rows = {
        "pages that name the hero": "hero_in_text",
        "captions that name the hero": "hero_in_caption",
        "stories that keep the place": "place",
        "things of the premise that occur": "things",
        "captions that differ from earlier ones": "different_captions",
    }
    for label, field in rows.items():
        table.add_row(label, *(_shown(getattr(each, field)) for each in found.values()))
    return table


def _shown(share: Proportion) -> str:
    if share.value is None or share.low is None or share.high is None:
        return "-"
    return f"{share.value:.0%} ({share.low:.0%} to {share.high:.0%}, n={share.num})"


def _names(word: str, text: str) -> bool:
    return re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) is not None


def _keeps_place(story: ToldStory) -> bool:
    return sum(_names(story.place, caption) for _, caption in story.pages) * 2 >= len(story.pages)

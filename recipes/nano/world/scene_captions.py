"""Captions of scenes in varied wording.

They only describe what the picture shows, except the style of a story, and always name the main things.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Literal

from mgem_agent.errors import InputError
from mgem_agent.recipes.nano.world.backgrounds import background_named
from mgem_agent.recipes.nano.world.concepts import concept_named
from mgem_agent.recipes.nano.world.nouns import counted, joined_with_and, with_article
from mgem_agent.recipes.nano.world.scene_parts import Chart, Scene

__all__ = ["CaptionStyle", "caption", "name_of", "place_of", "printed", "things_of"]

CaptionStyle = Literal["plain", "rich", "tags", "story"]

_SYNONYM_SHARE = 0.3
_OPENINGS = ("a picture of ", "an illustration of ", "a cheerful picture of ", "a colourful illustration of ")
_ENDINGS = (
    "bright colours",
    "soft light",
    "simple 3d style",
    "smooth and glossy",
    "clean and simple",
    "highly detailed",
)
_NAMES = ("Pim", "Mia", "Otto", "Nora", "Tom", "Lily", "Max", "Ruby")
_BOOK_STYLES = (
    "simple bright picture, one clear subject",
    "children's book illustration, soft watercolour, warm light",
    "storybook illustration",
)


def caption(scene: Scene, rng: random.Random, style: CaptionStyle = "plain") -> str:
    """Return a caption.

    Args:
        scene: The scene.
        rng: Random generator.
        style: "plain": a short phrase. "rich": more detail, colours and style, like a prompt for an image generator.
            "tags": a list of words. "story": followed by the looks of the characters and a style that the picture need
            not have, like the caption of a story's page.

    Raises:
        InputError: If there is no such style.
    """
    if style == "plain":
        return _plain(scene, rng)
    if style == "rich":
        return _rich(scene, rng)
    if style == "tags":
        return _tags(scene, rng)
    if style == "story":
        return _story(scene, rng)
    raise InputError(f"There is no caption style {style!r}. Allowed: 'plain', 'rich', 'tags', 'story'.")


def name_of(concept: str, rng: random.Random) -> str:
    """Return the name of a concept, or sometimes a synonym."""
    synonyms = concept_named(concept).synonyms
    return rng.choice(synonyms) if synonyms and rng.random() < _SYNONYM_SHARE else concept


def printed(text: str) -> str:
    """Return a phrase for a printed word or number: the word "sale", the number 12."""
    return f"the number {text}" if text.isdigit() else f'the word "{text}"'


def place_of(scene: Scene, rng: random.Random) -> str:
    """Return a phrase for the background, such as "on a beach"."""
    return rng.choice(background_named(scene.background).phrases)


def things_of(scene: Scene, rng: random.Random, *, with_colours: bool = False) -> str:
    """Return a phrase for the things, with their relative position if there are two."""
    numbers = Counter(thing.concept for thing in scene.objects)
    words = {concept: name_of(concept, rng) for concept in numbers}
    if with_colours:
        words = {concept: _coloured(concept, word) for concept, word in words.items()}
    if scene.layout in ("two_beside", "two_above") and len(scene.objects) == 2:
        return _pair(scene, words, rng)
    items = [counted(words[concept], number) for concept, number in numbers.items()]
    rng.shuffle(items)
    return joined_with_and(items)


def _coloured(concept: str, word: str) -> str:
    return concept_named(concept).coloured_name if word == concept else word


def _pair(scene: Scene, words: dict[str, str], rng: random.Random) -> str:
    first, second = (with_article(words[thing.concept]) for thing in scene.objects)
    if scene.layout == "two_beside":
        return rng.choice(
            (
                f"{first} to the left of {second}",
                f"{second} to the right of {first}",
                f"{first} on the left and {second} on the right",
                f"{first} next to {second}",
                f"{first} and {second}",
                f"{first} beside {second}",
            )
        )
    return rng.choice(
        (
            f"{first} above {second}",
            f"{second} below {first}",
            f"{first} over {second}",
            f"{first} and {second}, one above the other",
        )
    )


def _texts(scene: Scene, rng: random.Random) -> str:
    signs = [
        printed(text.text)
        if text.text.isdigit()
        else rng.choice((printed(text.text), f'a {text.size} sign that says "{text.text}"'))
        for text in scene.texts
    ]
    return joined_with_and(signs)


def _chart_words(chart: Chart, rng: random.Random) -> str:
    labels = joined_with_and([part.label for part in chart.parts])
    most = max(chart.parts, key=lambda part: part.value)
    return rng.choice(
        (
            f"a {chart.kind} chart of {labels}",
            f"a {chart.kind} chart of {labels}, with most for {most.label}",
            f"a {chart.kind} chart with {len(chart.parts)} parts: {labels}",
        )
    )


def _shape_words(scene: Scene) -> str:
    return joined_with_and([with_article(f"{shape.colour} {shape.shape}") for shape in scene.shapes])


def _content(scene: Scene, rng: random.Random, *, with_colours: bool = False) -> str:
    if scene.chart is not None:
        return _chart_words(scene.chart, rng)
    parts = []
    if scene.objects:
        parts.append(things_of(scene, rng, with_colours=with_colours))
    if scene.shapes:
        parts.append(_shape_words(scene))
    if scene.texts:
        parts.append(_texts(scene, rng))
    return " with ".join(parts)


def _plain(scene: Scene, rng: random.Random) -> str:
    content = _content(scene, rng)
    if scene.chart is not None:
        return content
    place = place_of(scene, rng)
    if rng.random() < 0.12:
        return f"{place}, {content}"
    # A comma, where the place could be read as that of the last thing only.
    needs_comma = " of " in content or " and " in content or " with " in content
    return f"{content}{',' if needs_comma and rng.random() < 0.5 else ''} {place}"


def _rich(scene: Scene, rng: random.Random) -> str:
    content = _content(scene, rng, with_colours=rng.random() < 0.6)
    opening = rng.choice(_OPENINGS) if rng.random() < 0.7 else ""
    if scene.chart is not None:
        return f"{opening}{content}"
    return ", ".join([f"{opening}{content} {place_of(scene, rng)}", *rng.sample(_ENDINGS, rng.randint(1, 2))])


def _tags(scene: Scene, rng: random.Random) -> str:
    if scene.chart is not None:
        return ", ".join([f"{scene.chart.kind} chart", *(part.label for part in scene.chart.parts)])
    tags = [name_of(concept, rng) for concept in dict.fromkeys(thing.concept for thing in scene.objects)]
    tags += [f"{shape.colour} {shape.shape}" for shape in scene.shapes]
    tags += [f'"{text.text}"' for text in scene.texts]
    place = scene.background if scene.background != "night sky" else rng.choice(("night", "night sky"))
    place = f"{place} background" if place.startswith("plain") else place
    return ", ".join([*tags, place, *rng.sample(_ENDINGS, rng.randint(0, 1))])


def _story(scene: Scene, rng: random.Random) -> str:
    parts = [_plain(scene, rng)]
    if scene.objects and rng.random() < 0.6:
        concept = rng.choice(scene.objects).concept
        parts.append(f"{rng.choice(_NAMES)}: {with_article(concept_named(concept).coloured_name)}")
    if len(parts) == 1 or rng.random() < 0.7:
        parts.append(rng.choice(_BOOK_STYLES))
    return ". ".join(parts)

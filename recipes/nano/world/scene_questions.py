"""Questions about a scene that have one right answer, by kind.

Answers are short sentences; each has the names that an evaluation accepts. Printed words are answered in lower case.
Yes and no are equally likely. A thing that is asked for but not shown is often of the same group as one that is.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from mgem_agent.recipes.nano.world.backgrounds import background_named
from mgem_agent.recipes.nano.world.concepts import Concept, concept_named, load_concepts
from mgem_agent.recipes.nano.world.nouns import (
    is_countable,
    joined_with_and,
    number_word,
    plural,
    verb_for,
    with_article,
    with_capital,
)
from mgem_agent.recipes.nano.world.scene_captions import name_of
from mgem_agent.recipes.nano.world.scene_parts import INK_COLOURS, Chart, ChartPart, Scene, SceneShape, TextSize

__all__ = ["MAX_SIGNS", "QUESTION_KINDS", "UNCLEAR", "Question", "place_words", "questions_about"]

QuestionKind = Literal[
    "what", "colour", "count", "where", "place", "read_large", "read_medium", "read_small", "yes_no", "chart", "unclear"
]
QUESTION_KINDS: tuple[QuestionKind, ...] = (
    "what",
    "colour",
    "count",
    "where",
    "place",
    "read_large",
    "read_medium",
    "read_small",
    "yes_no",
    "chart",
    "unclear",
)
"""Kinds of questions.

`read_small` asks for a word that is illegible at half the resolution, `unclear` about a picture that shows nothing.
"""

_READ: dict[TextSize, QuestionKind] = {"large": "read_large", "medium": "read_medium", "small": "read_small"}

UNCLEAR = "cannot tell"
"""Words of every answer about a picture that shows nothing."""

MAX_SIGNS = 2
"""A scene with more printed words is a page, which is read as a whole."""


@dataclass(frozen=True)
class Question:
    """A question about a scene.

    Args:
        kind: What it asks for.
        text: The question.
        answer: A right answer, as a sentence.
        accepted: A right answer names one of these.
    """

    kind: QuestionKind
    text: str
    answer: str
    accepted: tuple[str, ...]


def questions_about(scene: Scene, rng: random.Random, *, thorough: bool = False) -> list[Question]:
    """Return questions about a scene, in random order; some may be the same.

    Args:
        scene: The scene.
        rng: Random generator.
        thorough: Whether to ask about every thing, shape and part of a chart; otherwise about one of each.
    """
    if scene.surface is not None:
        return _about_nothing(rng)
    questions = [*_about_objects(scene, rng), *_about_texts(scene, rng), *_about_shapes(scene, rng)]
    if scene.chart is None:
        questions.append(_place(scene, rng))
    else:
        questions.extend(_about_chart(scene.chart, rng))
    if thorough:
        questions.extend(_about_all(scene, rng))
    rng.shuffle(questions)
    return questions


def _sentence(words: str) -> str:
    return f"{with_capital(words)}."


def _about_nothing(rng: random.Random) -> list[Question]:
    """Return questions as about any scene; the answer to each is that the model cannot tell."""
    concept = rng.choice(load_concepts())
    word, thing, be = concept.name, with_article(concept.name), verb_for(concept.name)
    shows = ("What is in the picture?", "What is this?", "What do you see?", "What does the picture show?",
             "Describe the picture.", "What is shown here?", "List the things in the picture.")  # fmt: skip
    asks = (
        rng.choice(("Where is this?", "What kind of place is this?")),
        f"Where {be} the {word}?",
        f"What colour {be} the {word}?",
        f"{be.capitalize()} there {thing} in the picture?",
        f"How many {plural(word)} are there?" if is_countable(word) else "How many shapes are there?",
        rng.choice(("What does it say?", "What does the sign say?")),
        "Which bar is the largest?",
    )
    questions = [
        *((text, f"I {UNCLEAR} what this shows.") for text in rng.sample(shows, 2)),
        *((text, f"I {UNCLEAR}.") for text in rng.sample(asks, 2)),
    ]
    rng.shuffle(questions)
    return [Question("unclear", text, answer, (UNCLEAR,)) for text, answer in questions]


def _about_all(scene: Scene, rng: random.Random) -> Iterator[Question]:
    """Yield questions about the place, colour or value of every thing, shape and part of a chart."""
    numbers = Counter(thing.concept for thing in scene.objects)
    for thing in scene.objects:
        if numbers[thing.concept] == 1:
            yield from _about_one(scene, concept_named(thing.concept), rng)
    for shape in scene.shapes:
        yield from _about_shape(scene, shape)
    if scene.chart is not None:
        for part in scene.chart.parts:
            yield from _about_part(scene.chart, part)


def _about_objects(scene: Scene, rng: random.Random) -> Iterator[Question]:
    numbers = Counter(thing.concept for thing in scene.objects)
    if not numbers:
        return
    if len(scene.objects) == 1:
        concept = concept_named(scene.objects[0].concept)
        alone = ("What is in the picture?", "What is this?", "What do you see?", "What does the picture show?")
        beside = ("Which thing is in the picture?", "What is there besides the words?")
        text = rng.choice(beside if scene.texts else alone)
        yield Question("what", text, _sentence(with_article(concept.name)), concept.names)
    elif max(numbers.values()) > 1 and len(numbers) == 1:
        concept = concept_named(next(iter(numbers)))
        yield Question(
            "what", "What are these?", _sentence(plural(concept.name)), (plural(concept.name), *concept.names)
        )
    single = [thing for thing in scene.objects if numbers[thing.concept] == 1]
    if single:
        yield from _about_one(scene, concept_named(rng.choice(single).concept), rng)
    yield from _counts(numbers, rng)
    yield _is_there(numbers, rng)


def _about_one(scene: Scene, concept: Concept, rng: random.Random) -> Iterator[Question]:
    word = name_of(concept.name, rng)
    be = verb_for(word)
    if concept.colour is not None:
        yield from _colour(concept, rng)
    if len(scene.objects) == 1:
        return
    thing = next(thing for thing in scene.objects if thing.concept == concept.name)
    place = _place_in_picture(scene, thing.x, thing.y)
    yield Question("where", f"Where {be} the {word}?", _sentence(place), (place,))
    if len(scene.objects) == 2:
        other = next(thing for thing in scene.objects if thing.concept != concept.name)
        relation = _relation(scene.layout, other.x, other.y, thing.x, thing.y)
        if relation is not None:
            asked = concept_named(other.concept)
            yield Question("what", f"What is {relation} the {word}?", _sentence(with_article(asked.name)), asked.names)


def _colour(concept: Concept, rng: random.Random) -> Iterator[Question]:
    colour = concept.colour or ""
    if colour not in concept.name.split():  # "What colour is the red apple?" gives the answer away
        word = name_of(concept.name, rng)
        word = concept.name if colour in word.split() else word
        be = verb_for(word)
        text = rng.choice((f"What colour {be} the {word}?", f"Which colour {be} the {word}?"))
        yield Question("colour", text, _sentence(colour), (colour,))
        is_true = rng.random() < 0.5
        asked = colour if is_true else rng.choice([other for other in INK_COLOURS if other != colour])
        yield _yes_no(f"{be.capitalize()} the {word} {asked}?", is_true)


def place_words(scene: Scene, x: float, y: float) -> tuple[str, str]:
    """Return the row and the column of a part of a scene: "top", "bottom" or "", and "left", "right" or ""."""
    row = "top" if y < 0.42 else "bottom" if y > 0.58 else ""
    column = "left" if x < 0.42 else "right" if x > 0.58 else ""
    if scene.layout == "two_beside":
        row = ""
    if scene.layout == "two_above":
        column = ""
    return row, column


def _place_in_picture(scene: Scene, x: float, y: float) -> str:
    row, column = place_words(scene, x, y)
    if row and column:
        return f"at the {row} {column}"
    if row:
        return f"at the {row}"
    return f"on the {column}" if column else "in the middle"


def _relation(layout: str, x: float, y: float, other_x: float, other_y: float) -> str | None:
    if layout == "two_beside":
        return "to the left of" if x < other_x else "to the right of"
    if layout == "two_above":
        return "above" if y < other_y else "below"
    return None


def _counts(numbers: Counter[str], rng: random.Random) -> Iterator[Question]:
    if len(numbers) == sum(numbers.values()) and rng.random() < 0.75:
        return  # rarely asked with one of each, or "one" would be too frequent
    concept = max(numbers, key=lambda name: numbers[name])
    if not is_countable(concept):
        return
    word, number = number_word(numbers[concept]), numbers[concept]
    text = rng.choice(
        (
            f"How many {plural(concept)} are there?",
            f"How many {plural(concept)} do you see?",
            f"How many {plural(concept)} are in the picture?",
        )
    )
    yield Question("count", text, _sentence(word), (word, str(number)))


def _is_there(numbers: Counter[str], rng: random.Random) -> Question:
    is_true = rng.random() < 0.5
    present = concept_named(rng.choice(sorted(numbers)))
    concept = present
    if not is_true:
        same_group = rng.random() < 0.5
        absent = [
            other
            for other in load_concepts()
            if other.name not in numbers and (not same_group or other.group == present.group)
        ]
        concept = rng.choice(absent)
    word = concept.name
    be = verb_for(word).capitalize()
    what = with_article(word) if numbers.get(word, 1) == 1 else plural(word)
    be = "Are" if numbers.get(word, 1) > 1 else be
    return _yes_no(rng.choice((f"{be} there {what} in the picture?", f"{be} there {what}?")), is_true)


def _yes_no(text: str, is_true: bool) -> Question:
    answer = "yes" if is_true else "no"
    return Question("yes_no", text, _sentence(answer), (answer,))


def _place(scene: Scene, rng: random.Random) -> Question:
    background = background_named(scene.background)
    if background.colour is not None:
        text = rng.choice(("What colour is the background?", "Which colour is the background?"))
        return Question("colour", text, _sentence(background.colour), (background.colour,))
    text = rng.choice(("Where is this?", "Where does this take place?", "What kind of place is this?"))
    accepted = (background.name, *background.phrases)
    return Question("place", text, _sentence(background.phrases[0]), accepted)


def _about_texts(scene: Scene, rng: random.Random) -> Iterator[Question]:
    if len(scene.texts) > MAX_SIGNS:
        return  # "the small sign" would be ambiguous
    for text in scene.texts:
        which = f"the {text.size} sign" if len(scene.texts) > 1 else "it"
        what = "number" if text.text.isdigit() else "word"
        asked = rng.choice((f"What does {which} say?", f"Which {what} does {which} say?"))
        if len(scene.texts) == 1:
            asked = rng.choice(("What does it say?", f"Which {what} is printed there?", "What does the sign say?"))
        yield Question(_READ[text.size], asked, _sentence(text.text), (text.text,))
    if len(scene.texts) == 1 and scene.texts[0].size != "small" and rng.random() < 0.3:
        colour = scene.texts[0].plate
        yield Question("colour", "What colour is the sign?", _sentence(colour), (colour,))


def _about_shapes(scene: Scene, rng: random.Random) -> Iterator[Question]:
    if not scene.shapes:
        return
    shape = rng.choice(scene.shapes)
    colour, *place = _about_shape(scene, shape)
    yield colour
    yield Question("what", f"Which shape is {shape.colour}?", _sentence(f"the {shape.shape}"), (shape.shape,))
    number = number_word(len(scene.shapes))
    yield Question("count", "How many shapes are there?", _sentence(number), (number, str(len(scene.shapes))))
    yield from place
    is_true = rng.random() < 0.5
    other = rng.choice([colour for colour in INK_COLOURS if colour != shape.colour])
    yield _yes_no(f"Is the {shape.shape} {shape.colour if is_true else other}?", is_true)


def _about_shape(scene: Scene, shape: SceneShape) -> Iterator[Question]:
    """Yield a question about the colour of a shape, and about its place if there are several."""
    yield Question("colour", f"What colour is the {shape.shape}?", _sentence(shape.colour), (shape.colour,))
    if len(scene.shapes) > 1:
        place = _place_in_picture(scene, shape.x, shape.y)
        yield Question("where", f"Where is the {shape.shape}?", _sentence(place), (place,))


def _about_chart(chart: Chart, rng: random.Random) -> Iterator[Question]:
    most = max(chart.parts, key=lambda part: part.value)
    least = min(chart.parts, key=lambda part: part.value)
    part = rng.choice(chart.parts)
    piece = "bar" if chart.kind == "bar" else "piece"
    labels = [each.label for each in chart.parts]
    yield Question("chart", f"Which {piece} is the largest?", _sentence(most.label), (most.label,))
    yield Question("chart", f"Which {piece} is the smallest?", _sentence(least.label), (least.label,))
    colour, *value = _about_part(chart, part)
    yield colour
    number = number_word(len(labels))
    yield Question("count", f"How many {piece}s are there?", _sentence(number), (number, str(len(labels))))
    content = f"a {chart.kind} chart of {joined_with_and(labels)}"
    yield Question("what", "What does the picture show?", _sentence(content), (f"{chart.kind} chart",))
    yield from value
    other = rng.choice([each for each in chart.parts if each is not part])
    yield _yes_no(f"Is {part.label} larger than {other.label}?", part.value > other.value)


def _about_part(chart: Chart, part: ChartPart) -> Iterator[Question]:
    """Yield a question about the colour of a part, and about its value if the chart shows it."""
    piece = "bar" if chart.kind == "bar" else "piece"
    yield Question("colour", f"Which colour is the {piece} for {part.label}?", _sentence(part.colour), (part.colour,))
    if chart.kind == "bar":
        word = number_word(part.value)
        yield Question("chart", f"What is the value for {part.label}?", _sentence(word), (word, str(part.value)))

"""Facts of the regions of a scene: row, column, colour, number, rank and size of print, each as one word."""

from __future__ import annotations

from collections import Counter

from mgem_agent.recipes.nano.world.backgrounds import background_named
from mgem_agent.recipes.nano.world.concepts import concept_named
from mgem_agent.recipes.nano.world.nouns import number_word
from mgem_agent.recipes.nano.world.scene_parts import INK_COLOURS, Chart, ChartPart, Scene
from mgem_agent.recipes.nano.world.scene_questions import place_words

__all__ = ["FACTS", "RegionFacts", "background_facts", "facts_of_regions"]

RegionFacts = dict[str, str]
"""One word for each known fact, by name of the fact."""

FACTS: dict[str, tuple[str, ...]] = {
    "row": ("top", "middle", "bottom"),
    "column": ("left", "centre", "right"),
    "colour": tuple(INK_COLOURS),
    "number": tuple(number_word(number) for number in range(1, 10)),
    "rank": ("largest", "average", "smallest"),
    "size": ("small", "medium", "large"),
}
"""The words of each fact."""


def facts_of_regions(scene: Scene) -> list[RegionFacts]:
    """Return the facts of the things, shapes, printed words and labels of a chart, in this order.

    The number of a thing is how many of it there are; that of a label is its value, if the chart shows it.
    """
    numbers = Counter(thing.concept for thing in scene.objects)
    rows: list[RegionFacts] = []
    for thing in scene.objects:
        colour = concept_named(thing.concept).colour
        facts = {**_place(scene, thing.x, thing.y), "number": number_word(numbers[thing.concept])}
        rows.append(facts if colour is None else {**facts, "colour": colour})
    number = number_word(len(scene.shapes)) if scene.shapes else ""
    rows += [{**_place(scene, each.x, each.y), "number": number, "colour": each.colour} for each in scene.shapes]
    rows += [{"colour": text.plate, "size": text.size} for text in scene.texts]
    if scene.chart is not None:
        rows += [_part_facts(scene.chart, part) for part in scene.chart.parts]
    return rows


def background_facts(scene: Scene) -> RegionFacts:
    """Return the facts of the background: a plain colour, or the number of parts of a chart."""
    if scene.surface is not None:
        return {}
    if scene.chart is not None:
        return {"number": number_word(len(scene.chart.parts))}
    colour = background_named(scene.background).colour
    return {} if colour is None else {"colour": colour}


def _place(scene: Scene, x: float, y: float) -> RegionFacts:
    row, column = place_words(scene, x, y)
    return {"row": row or "middle", "column": column or "centre"}


def _part_facts(chart: Chart, part: ChartPart) -> RegionFacts:
    values = sorted(each.value for each in chart.parts)
    rank = "largest" if part.value == values[-1] else "smallest" if part.value == values[0] else "average"
    facts = {"colour": part.colour, "rank": rank}
    return {**facts, "number": number_word(part.value)} if chart.kind == "bar" else facts

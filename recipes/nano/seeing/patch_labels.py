"""Labels of a scene's patches: the name and the facts of what each shows, and their embeddings in a language model.

A fact is the row, the column, the colour, the number or the rank of what a patch shows. Words for facts are added to
the embedding of the name, so that a language model finds the answers to common questions in the token itself.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mgem_agent.recipes.nano.seeing.region_facts import FACTS, RegionFacts, background_facts, facts_of_regions
from mgem_agent.recipes.nano.seeing.scene_regions import SceneRegion, box_coverage, chart_regions, scene_regions
from mgem_agent.recipes.nano.world.backgrounds import BACKGROUNDS
from mgem_agent.recipes.nano.world.concepts import load_concepts
from mgem_agent.recipes.nano.world.scene_layouts import CHART_LABELS, load_words
from mgem_agent.recipes.nano.world.scene_parts import INK_COLOURS, SHAPES, Scene

__all__ = [
    "LEAST_WEIGHT",
    "UNKNOWN",
    "background_labels",
    "fact_embeds",
    "fact_loss",
    "patch_facts",
    "patch_labels",
    "visual_vocabulary",
    "word_embeds",
    "word_loss",
]

_LEAST_OF_PATCH = 0.35  # minimum fraction of a patch that a thing covers, to label it
_LEAST_OF_WORD = 0.25  # minimum fraction of a printed word in a patch, to label it

UNKNOWN = "unclear"
"""The label of patterns that show nothing, and what a reader says of a picture that it does not know."""

LEAST_WEIGHT = 8.0
"""Least weight of the patches with a fact in a mean: that of fewer is too noisy."""


def visual_vocabulary() -> tuple[str, ...]:
    """Return all labels: names of things, coloured shapes, printed words in quotes, and places."""
    shapes = (f"{colour} {shape}" for colour in INK_COLOURS for shape in SHAPES)
    names = (concept.name for concept in load_concepts())
    words = (*map(_quoted, load_words()), *map(_quoted, CHART_LABELS))
    return tuple(dict.fromkeys((*names, *shapes, *words, *background_labels())))


def background_labels() -> tuple[str, ...]:
    """Return the labels of patches without a thing or print: places, charts, and patterns that show nothing."""
    return (*(place.name for place in BACKGROUNDS), "bar chart", "pie chart", UNKNOWN)


def _quoted(word: str) -> str:
    return f'"{word}"'


def patch_labels(scene: Scene, grid: int, numbers: dict[str, int]) -> tuple[Tensor, Tensor]:
    """Return the label of each patch of a scene.

    Args:
        scene: The scene.
        grid: Patches a side.
        numbers: Index of each word in the vocabulary.

    Returns:
        (grid²,) indices into the vocabulary, in raster order; (grid²,) whether it is background.
    """
    regions = _regions(scene)
    names = [numbers[_quoted(region.name) if region.is_printed else region.name] for region in regions]
    shown = _shown_regions(regions, grid)
    return torch.tensor([*names, numbers[_background(scene)]])[shown], shown.eq(-1)


def patch_facts(scene: Scene, grid: int) -> Tensor:
    """Return the facts of what each patch of a scene shows.

    Args:
        scene: The scene.
        grid: Patches a side.

    Returns:
        (grid², number of `FACTS`) indices into the words of each fact, in raster order; -100 for none.
    """
    rows = [_fact_numbers(facts) for facts in (*facts_of_regions(scene), background_facts(scene))]
    return torch.tensor(rows)[_shown_regions(_regions(scene), grid)]


def _fact_numbers(facts: RegionFacts) -> list[int]:
    return [words.index(facts[fact]) if fact in facts else -100 for fact, words in FACTS.items()]


def _regions(scene: Scene) -> list[SceneRegion]:
    found = scene_regions(scene, random.Random(0))
    return found if scene.chart is None else [*found, *chart_regions(scene.chart)]


def _background(scene: Scene) -> str:
    if scene.surface is not None:
        return UNKNOWN
    return scene.background if scene.chart is None else f"{scene.chart.kind} chart"


def _shown_regions(regions: Sequence[SceneRegion], grid: int) -> Tensor:
    """Return the index of the region that each patch shows, (grid²,); -1 for the background."""
    found = torch.full((grid * grid,), -1)
    most = torch.zeros(grid * grid)  # largest coverage by one thing so far
    for index, region in enumerate(regions):
        box = torch.tensor(region.box)
        covered = box_coverage(box, grid)
        least = _LEAST_OF_PATCH
        if region.is_printed:  # a small word does not fill a patch
            least = min(least, _LEAST_OF_WORD * covered.sum().item())
        shown = covered + 1 if region.is_printed else covered  # print is in front of things
        is_shown = (covered >= least) & (shown > most)
        found[is_shown] = index
        most = torch.where(is_shown, shown, most)
    return found


def word_embeds(model: Any, tokenizer: Any, vocabulary: Sequence[str]) -> Tensor:
    """Return the embedding of each word, (V, d): the mean of its tokens, each weighted half of the one before.

    The first token dominates, because a language model can complete the word from it. Names have a leading space, as
    within a sentence; printed words have none and no quotes. So a printed word differs from the thing of that name.
    """
    table = model.get_input_embeddings().weight.detach().float()
    embeds = []
    for word in vocabulary:
        text = word.strip('"') if word.startswith('"') else f" {word}"
        rows = table[tokenizer(text, add_special_tokens=False).input_ids]
        weights = 0.5 ** torch.arange(len(rows), device=rows.device)
        embeds.append(weights @ rows / weights.sum())
    return torch.stack(embeds)


def word_loss(
    tokens: Tensor,
    words: Tensor,
    is_background: Tensor,
    table: Tensor,
    *,
    background_weight: float,
    sharpness: float,
    distance_weight: float,
    extra: Tensor | None = None,
) -> tuple[Tensor, float]:
    """Return the loss of visual tokens, and the accuracy on patches that are not background.

    Args:
        tokens: (B, n, d) projected tokens.
        words: (B, n) rows of the table; -100 for none.
        is_background: (B, n).
        table: (V, d) embeddings of the words.
        background_weight: Weight of patches that show only background; 1 for all others.
        sharpness: Factor on the cosine similarity of tokens and words.
        distance_weight: Weight of the distance to the word's embedding, which trains the norm of tokens.
        extra: (B, n, d) what is added to the word's embedding for that distance; None for nothing.
    """
    is_named = words >= 0
    seen, wanted = tokens[is_named].float(), words[is_named]
    weights = torch.where(is_background[is_named], background_weight, 1.0)
    middle = table.mean(0)
    logits = sharpness * F.normalize(seen - middle, dim=-1) @ F.normalize(table - middle, dim=-1).T
    named = F.cross_entropy(logits, wanted, reduction="none")
    aim = table[wanted] if extra is None else table[wanted] + extra[is_named]
    far = (seen - aim).square().sum(-1) / (table - middle).square().sum(-1).mean()
    right = logits.argmax(-1).eq(wanted)[~is_background[is_named]].float()
    loss = ((named + distance_weight * far) * weights).sum() / weights.sum()
    return loss, right.mean().item() if len(right) else 1.0


def fact_embeds(model: Any, tokenizer: Any) -> list[Tensor]:
    """Return the embeddings of the words of each fact, (number of words, d) each, without their mean."""
    tables = [word_embeds(model, tokenizer, words) for words in FACTS.values()]
    return [table - table.mean(0) for table in tables]


def fact_loss(
    tokens: Tensor,
    facts: Tensor,
    is_background: Tensor,
    tables: Sequence[Tensor],
    middle: Tensor,
    *,
    background_weight: float,
    sharpness: float,
    size_weight: float = 0.0,
) -> tuple[Tensor, Tensor, dict[str, float]]:
    """Return the loss of the facts in visual tokens, the embeddings of the facts, and the accuracy of each fact.

    Args:
        tokens: (B, n, d) projected tokens.
        facts: (B, n, number of facts) as from `patch_facts`.
        is_background: (B, n).
        tables: The words of each fact, from `fact_embeds`.
        middle: (d,) mean embedding of all names.
        background_weight: Weight of patches that show only background; 1 for all others.
        sharpness: Factor on the cosine similarity of tokens and words.
        size_weight: Weight of the size of each fact in its token, which the similarity alone leaves small.

    Returns:
        () sum of the mean losses of the facts; (B, n, d) sum of the embeddings of each patch's facts; accuracy by fact.
    """
    offsets = tokens.float() - middle
    directions = F.normalize(offsets, dim=-1)
    extra, total = torch.zeros_like(directions), directions.new_zeros(())
    right: dict[str, float] = {}
    for name, table, wanted in zip(FACTS, tables, facts.unbind(-1), strict=True):
        is_known = wanted >= 0
        if not is_known.any():
            continue
        extra[is_known] += table[wanted[is_known]]
        logits = sharpness * directions[is_known] @ F.normalize(table, dim=-1).T
        weights = torch.where(is_background[is_known], background_weight, 1.0)
        losses = F.cross_entropy(logits, wanted[is_known], reduction="none")
        if size_weight:
            aim = table[wanted[is_known]]
            losses = losses + size_weight * (1 - (offsets[is_known] * aim).sum(-1) / aim.square().sum(-1)).square()
        summed = (weights * losses).sum()
        total = total + summed / weights.sum().clamp(min=LEAST_WEIGHT)  # rare facts count as much as frequent ones
        right[name] = logits.argmax(-1).eq(wanted[is_known]).float().mean().item()
    return total, extra, right

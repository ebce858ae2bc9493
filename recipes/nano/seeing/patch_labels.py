"""Labels of a scene's patches: the name of what each shows, and its embedding in a language model."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mgem_agent.recipes.nano.seeing.scene_regions import box_coverage, scene_regions
from mgem_agent.recipes.nano.world.backgrounds import BACKGROUNDS
from mgem_agent.recipes.nano.world.concepts import load_concepts
from mgem_agent.recipes.nano.world.scene_layouts import load_words
from mgem_agent.recipes.nano.world.scene_parts import INK_COLOURS, SHAPES, Scene

__all__ = ["patch_labels", "visual_vocabulary", "word_embeds", "word_loss"]

_LEAST_OF_PATCH = 0.35  # minimum fraction of a patch that a thing covers, to label it
_LEAST_OF_WORD = 0.25  # minimum fraction of a printed word in a patch, to label it


def visual_vocabulary() -> tuple[str, ...]:
    """Return all labels: names of things, coloured shapes, printed words in quotes, and places."""
    shapes = (f"{colour} {shape}" for colour in INK_COLOURS for shape in SHAPES)
    names = (concept.name for concept in load_concepts())
    return tuple(dict.fromkeys((*names, *shapes, *map(_quoted, load_words()), *(place.name for place in BACKGROUNDS))))


def _quoted(word: str) -> str:
    return f'"{word}"'


def patch_labels(scene: Scene, grid: int, numbers: dict[str, int]) -> tuple[Tensor, Tensor]:
    """Return the label of each patch of a scene.

    Args:
        scene: The scene.
        grid: Patches a side.
        numbers: Index of each word in the vocabulary.

    Returns:
        (grid²,) indices into the vocabulary, in raster order, -100 in a chart; (grid²,) whether it is background.
    """
    words = torch.full((grid * grid,), -100 if scene.chart is not None else numbers[scene.background])
    most = torch.zeros(grid * grid)  # largest coverage by one thing so far
    for region in scene_regions(scene, random.Random(0)):
        box = torch.tensor(region.box)
        covered = box_coverage(box, grid)
        least = _LEAST_OF_PATCH
        if region.is_printed:  # a small word does not fill a patch
            least = min(least, _LEAST_OF_WORD * covered.sum().item())
        shown = covered + 1 if region.is_printed else covered  # print is in front of things
        is_shown = (covered >= least) & (shown > most)
        words[is_shown] = numbers[_quoted(region.name) if region.is_printed else region.name]
        most = torch.where(is_shown, shown, most)
    return words, most.eq(0)


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
    """
    is_named = words >= 0
    seen, wanted = tokens[is_named].float(), words[is_named]
    weights = torch.where(is_background[is_named], background_weight, 1.0)
    middle = table.mean(0)
    logits = sharpness * F.normalize(seen - middle, dim=-1) @ F.normalize(table - middle, dim=-1).T
    named = F.cross_entropy(logits, wanted, reduction="none")
    far = (seen - table[wanted]).square().sum(-1) / (table - middle).square().sum(-1).mean()
    right = logits.argmax(-1).eq(wanted)[~is_background[is_named]].float()
    loss = ((named + distance_weight * far) * weights).sum() / weights.sum()
    return loss, right.mean().item() if len(right) else 1.0

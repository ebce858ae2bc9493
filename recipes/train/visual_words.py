"""A quick first stage for small language models: visual tokens learn to stand beside words.

    python -m mgem_agent.recipes.train.visual_words FOLDER vision=FOLDER high_res_vision=FOLDER [key=value …]

Mining and the projector learn that the token of a patch which shows a tiger comes close to the embedding of " tiger" in
the language model, and away from those of all other things, words and places. The language model itself does not run,
so that many times more pictures are seen in the same time than in the stage *align*, which then starts from here and
has little left to do: `mgem train nano_align model.start_from=FOLDER`. It needs pictures whose parts are known, as
composed scenes are; the released models do without.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor, nn

from mgem_agent.recipes.data.backgrounds import BACKGROUNDS
from mgem_agent.recipes.data.concepts import load_concepts
from mgem_agent.recipes.data.emoji import EmojiAssets
from mgem_agent.recipes.data.scene import sample_scene
from mgem_agent.recipes.data.scene_layouts import load_words
from mgem_agent.recipes.data.scene_parts import INK_COLOURS, SHAPES, Scene
from mgem_agent.recipes.data.scene_rendering import render_scene
from mgem_agent.recipes.train.config import ModelConfig
from mgem_agent.recipes.train.model_setup import TRAINED_FILE, load_model
from mgem_agent.recipes.train.pretraining import PretrainingConfig, PretrainingRun, run_recipe
from mgem_agent.recipes.train.scene_regions import box_coverage, scene_regions

__all__ = [
    "VisualWordsConfig",
    "patch_words",
    "start_in_scale",
    "train_visual_words",
    "visual_vocabulary",
    "word_embeds",
    "word_loss",
]

_TRAINED = ("mining", "multi_modal_projector")
_LEAST_OF_PATCH = 0.35  # that a thing covers, for the patch to be its
_LEAST_OF_WORD = 0.25  # that a patch holds of a printed word, for the patch to say it


class VisualWordsConfig(PretrainingConfig):
    """How mining and the projector are trained.

    Attributes:
        vision: Folder of the CLIP vision model.
        high_res_vision: Folder of the open_clip model with a ConvNeXt.
        text: The language model, as in `mgem train`.
        high_res_image_size: Side of the high-resolution image, in pixels.
        scene_px: Side of the scenes; half of the high resolution trains a model that never sees it.
        background_weight: Weight of patches that show the background alone, beside 1 for all others.
        sharpness: Factor on the cosines between tokens and words.
        distance_weight: Weight of the distance to the word's embedding, which teaches the right length.
    """

    num_steps: int = 1_500
    batch_size: int = 16
    learning_rate: float = 3e-4
    warmup_steps: int = 100
    vision: str
    high_res_vision: str
    text: str = "nano"
    high_res_image_size: int = Field(default=256, ge=32)
    scene_px: int = Field(default=256, ge=16)
    background_weight: float = Field(default=0.15, ge=0)
    sharpness: float = Field(default=20.0, gt=0)
    distance_weight: float = Field(default=0.2, ge=0)


def visual_vocabulary() -> tuple[str, ...]:
    """Return what a patch can say: the names of things, coloured shapes, printed words in quotes, and places."""
    shapes = (f"{colour} {shape}" for colour in INK_COLOURS for shape in SHAPES)
    names = (concept.name for concept in load_concepts())
    return tuple(dict.fromkeys((*names, *shapes, *map(_quoted, load_words()), *(place.name for place in BACKGROUNDS))))


def _quoted(word: str) -> str:
    return f'"{word}"'


def patch_words(scene: Scene, grid: int, numbers: dict[str, int]) -> tuple[Tensor, Tensor]:
    """Return what each patch of a scene shows.

    Args:
        scene: The scene.
        grid: Patches a side.
        numbers: Place of each word in the vocabulary.

    Returns:
        (grid²,) places in the vocabulary, in raster order, -100 in a chart; (grid²,) whether it is the background.
    """
    words = torch.full((grid * grid,), -100 if scene.chart is not None else numbers[scene.background])
    is_background = torch.ones(grid * grid, dtype=torch.bool)
    for region in scene_regions(scene, random.Random(0)):
        box = torch.tensor(region.box)
        covered = box_coverage(box, grid)
        least = _LEAST_OF_PATCH
        if region.is_printed:  # a small word fills no patch
            least = min(least, _LEAST_OF_WORD * covered.sum().item())
        is_shown = covered >= least
        words[is_shown] = numbers[_quoted(region.name) if region.is_printed else region.name]
        is_background &= ~is_shown
    return words, is_background


def word_embeds(model: Any, tokenizer: Any, vocabulary: Sequence[str]) -> Tensor:
    """Return the mean embedding of each word's tokens as they stand within a sentence, (V, d)."""
    table = model.get_input_embeddings().weight.detach().float()
    ids = (tokenizer(f" {word}", add_special_tokens=False).input_ids for word in vocabulary)
    return torch.stack([table[row].mean(0) for row in ids])


def word_loss(
    tokens: Tensor, words: Tensor, is_background: Tensor, table: Tensor, config: VisualWordsConfig
) -> tuple[Tensor, float]:
    """Return the loss of visual tokens, and the share of those of no background that are nearest to their word.

    Args:
        tokens: (B, n, d) projected.
        words: (B, n) rows of the table; -100 for none.
        is_background: (B, n).
        table: (V, d) embeddings of the words.
        config: Weights.
    """
    is_named = words >= 0
    seen, wanted = tokens[is_named].float(), words[is_named]
    weights = torch.where(is_background[is_named], config.background_weight, 1.0)
    middle = table.mean(0)
    logits = config.sharpness * F.normalize(seen - middle, dim=-1) @ F.normalize(table - middle, dim=-1).T
    named = F.cross_entropy(logits, wanted, reduction="none")
    far = (seen - table[wanted]).square().sum(-1) / (table - middle).square().sum(-1).mean()
    right = logits.argmax(-1).eq(wanted)[~is_background[is_named]].float()
    loss = ((named + config.distance_weight * far) * weights).sum() / weights.sum()
    return loss, right.mean().item() if len(right) else 1.0


@torch.no_grad()
def start_in_scale(trunk: Any, pixels: Any, table: Tensor) -> None:
    """Let the untrained projector take tokens as if they were standardised, and give rows that spread like words.

    A ViT's inner layers have some channels that are far larger than the others, and embeddings are small and share a
    large mean: found by gradients alone, each takes longer than all the rest.

    Args:
        trunk: The model's; its projector is changed.
        pixels: Images, as the processor gives them.
        table: (V, d) embeddings of words.
    """
    layers: list[Any] = [layer for layer in trunk.multi_modal_projector.modules() if isinstance(layer, nn.Linear)]
    tokens = _seen(trunk, pixels).last_hidden_state.flatten(0, 1)
    mean, std = tokens.mean(0), tokens.std(0).clamp(min=1e-3)
    layers[0].weight /= std
    layers[0].bias -= layers[0].weight @ mean
    given = trunk.multi_modal_projector(tokens)
    middle = table.mean(0)
    layers[-1].weight *= (table - middle).square().mean().sqrt() / (given - given.mean(0)).square().mean().sqrt()
    layers[-1].bias += middle - trunk.multi_modal_projector(tokens).mean(0)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Images as the processor gives them, and what each patch of them shows, as of `patch_words`."""

    pixels: Any
    words: Tensor
    is_background: Tensor


def _seen(trunk: Any, pixels: Any) -> Any:
    return trunk.get_image_features(pixels["pixel_values"], pixels["high_res_pixel_values"])


def train_visual_words(folder: str | Path, config: VisualWordsConfig, assets: EmojiAssets) -> Path:
    """Train mining and the projector, from where the folder's last checkpoint stands.

    Returns:
        The file that `model.start_from` of a stage takes.
    """
    source = ModelConfig(
        vision=config.vision,
        high_res_vision=config.high_res_vision,
        text=config.text,
        prompt_template="chatml",
        high_res_image_size=config.high_res_image_size,
    )
    torch.manual_seed(config.seed)
    model, processor = load_model(source, torch.float32)
    trunk: Any = model.model.train()
    vocabulary = visual_vocabulary()
    numbers = {word: number for number, word in enumerate(vocabulary)}
    parts = nn.ModuleDict({name: getattr(trunk, name).requires_grad_(True) for name in _TRAINED})
    run = PretrainingRun(folder, parts, config)
    trunk.to(run.device)
    table = word_embeds(model, processor.tokenizer, vocabulary)
    grid = trunk.config.geometry.tokens_per_side

    def batch_of(step: int) -> _Batch:
        first = step * config.batch_size
        scenes = [sample_scene(config.seed, index, kind="any") for index in range(first, first + config.batch_size)]
        pictures = [render_scene(scene, assets, size_px=config.scene_px) for scene in scenes]
        pixels = processor.image_processor(pictures, return_tensors="pt").to(run.device)
        shown = [patch_words(scene, grid, numbers) for scene in scenes]
        words, is_background = (torch.stack(each).to(run.device) for each in zip(*shown, strict=True))
        return _Batch(pixels, words, is_background)

    if run.step == 0 and config.start_from is None:
        start_in_scale(trunk, batch_of(0).pixels, table)
    for step in run.steps():
        batch = batch_of(step)
        tokens = torch.stack(list(_seen(trunk, batch.pixels).pooler_output))
        loss, right = word_loss(tokens, batch.words, batch.is_background, table, config)
        run.update(loss, right=right)
    result = Path(folder) / TRAINED_FILE
    save_file({f"model.{name}": value.detach().contiguous() for name, value in parts.named_parameters()}, result)
    return result


if __name__ == "__main__":
    run_recipe(
        sys.argv[1:], VisualWordsConfig, lambda folder, config: train_visual_words(folder, config, EmojiAssets.open())
    )

"""A quick first stage for small language models: visual tokens learn to stand beside words.

    python -m mgem_agent.recipes.train.visual_words FOLDER vision=FOLDER high_res_vision=FOLDER [key=value …]

Mining and the projector learn that the token of a patch which shows a tiger comes close to the embedding of " tiger" in
the language model, and away from those of all other things, words and places. The language model itself does not run,
so that many times more pictures are seen in the same time than in the stage *align*, which then starts from here and
has little left to do: `mgem train nano_align model.start_from=FOLDER`. What the two frozen encoders see of a scene is
kept in a file when it is first needed (0.65 MB a scene for nano's), and each scene serves many times. It needs pictures
whose parts are known, as composed scenes are; the released models do without.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor, nn

from mgem_agent.core_model.low_res_encoder import low_res_features
from mgem_agent.recipes.data.backgrounds import BACKGROUNDS
from mgem_agent.recipes.data.concepts import load_concepts
from mgem_agent.recipes.data.emoji import EmojiAssets
from mgem_agent.recipes.data.scene import SceneKind, sample_scene
from mgem_agent.recipes.data.scene_layouts import load_words
from mgem_agent.recipes.data.scene_parts import INK_COLOURS, SHAPES, Scene
from mgem_agent.recipes.data.scene_rendering import render_scene
from mgem_agent.recipes.train.config import ModelConfig
from mgem_agent.recipes.train.latent_cache import LatentCache
from mgem_agent.recipes.train.model_setup import TRAINED_FILE, load_model
from mgem_agent.recipes.train.pretraining import PretrainingConfig, PretrainingRun, run_recipe
from mgem_agent.recipes.train.scene_regions import box_coverage, scene_regions

__all__ = [
    "Seen",
    "VisualWordsConfig",
    "fold_norms",
    "learning_rate_factors",
    "patch_words",
    "see",
    "start_in_scale",
    "train_visual_words",
    "visual_vocabulary",
    "word_embeds",
    "word_loss",
]

_KINDS: tuple[SceneKind, ...] = ("any", "page")
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
        num_scenes: Scenes that it learns from, each again and again; every second is a page of printed words.
        scene_px: Side of the scenes; half of the high resolution trains a model that never sees it.
        background_weight: Weight of patches that show the background alone, beside 1 for all others.
        sharpness: Factor on the cosines between tokens and words.
        distance_weight: Weight of the distance to the word's embedding, which teaches the right length.
    """

    num_steps: int = 12_000
    batch_size: int = 16
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    vision: str
    high_res_vision: str
    text: str = "nano"
    high_res_image_size: int = Field(default=256, ge=32)
    num_scenes: int = Field(default=12_000, ge=1)
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
    """Return the embedding of each word's tokens, (V, d), where each token weighs half of the one before.

    So the first stands out, from which a language model goes on by itself. A name is taken as it stands within a
    sentence, a printed word as at its beginning, without its quotes: the same word as a thing is another.
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


@dataclass(frozen=True, slots=True)
class Seen:
    """What the two frozen encoders see of some images: low is (B, n, c), high the stage maps (B, c_s, h_s, h_s)."""

    low: Tensor
    high: Sequence[Tensor]

    def mined(self, trunk: Any) -> Tensor:
        """Return (B, n, c), tokens and what is mined for them."""
        tokens: Tensor = trunk.mining(self.low, self.high)
        return tokens


@torch.no_grad()
def see(trunk: Any, pixels: Any) -> Seen:
    """Run the encoders alone.

    Args:
        trunk: The model's.
        pixels: Images, as the processor gives them.
    """
    low = low_res_features(trunk.vision_tower, pixels["pixel_values"], trunk.config.vision_feature_layer)
    return Seen(low, trunk.high_res_vision_tower(pixels["high_res_pixel_values"]))


@torch.no_grad()
def start_in_scale(trunk: Any, seen: Seen, table: Tensor) -> None:
    """Let the untrained mining and projector take what they see as if it were standardised, and give rows like words.

    A ViT's inner layers have some channels that are far larger than the others, the stages of a ConvNeXt differ in size
    from each other, what is mined is nothing beside a token, and embeddings are small and share a large mean: found by
    gradients alone, each takes longer than all the rest.

    Args:
        trunk: The model's; its mining and projector are changed.
        seen: Of a few images.
        table: (V, d) embeddings of words.
    """
    mining, size = trunk.mining, seen.high[0].shape[-2:]
    pixels = torch.cat([F.interpolate(each, size, mode="bilinear") for each in seen.high], 1).movedim(1, -1)
    for norm, given in ((mining.query_norm, seen.low), (mining.key_norm, pixels), (mining.value_norm, pixels)):
        _standardise(norm, given)
    spread = seen.low.flatten(0, 1).std(0).clamp(min=1e-3)
    wanted = spread / (seen.mined(trunk) - seen.low).flatten(0, 1).std(0).clamp(min=1e-6)
    mining.value_norm.weight *= wanted.median()
    mining.value_norm.bias *= wanted.median()
    mining.value_proj.weight *= (wanted / wanted.median())[:, None]
    layers: list[Any] = [layer for layer in trunk.multi_modal_projector.modules() if isinstance(layer, nn.Linear)]
    tokens = seen.mined(trunk).flatten(0, 1)
    mean, std = tokens.mean(0), tokens.std(0).clamp(min=1e-3)
    layers[0].weight /= std
    layers[0].bias -= layers[0].weight @ mean
    given = trunk.multi_modal_projector(tokens)
    middle = table.mean(0)
    layers[-1].weight *= (table - middle).square().mean().sqrt() / (given - given.mean(0)).square().mean().sqrt()
    layers[-1].bias += middle - trunk.multi_modal_projector(tokens).mean(0)


def _standardise(norm: nn.LayerNorm, given: Tensor) -> None:
    normalised = F.layer_norm(given, norm.normalized_shape, eps=norm.eps).flatten(0, -2)
    std, mean = torch.std_mean(normalised, 0)
    std = std.clamp(min=0.1 * std.mean())
    norm.weight.copy_(1 / std)
    norm.bias.copy_(-mean / std)


@torch.no_grad()
def fold_norms(mining: Any) -> None:
    """Move the factors and offsets of mining's norms into the layers after them, where float16 has room for them.

    Args:
        mining: Is changed, but not what it computes.
    """
    for norm, layer in (
        (mining.query_norm, mining.query_proj),
        (mining.key_norm, mining.key_proj),
        (mining.value_norm, mining.value_proj),
    ):
        layer.bias += layer.weight @ norm.bias
        layer.weight *= norm.weight
        norm.weight.fill_(1.0)
        norm.bias.zero_()


def learning_rate_factors(parts: nn.Module) -> dict[nn.Parameter, float]:
    """Return how much larger the weights of each layer are than fresh ones: Adam's steps have to be as much larger."""
    factors: dict[nn.Parameter, float] = {}
    for layer in parts.modules():
        if isinstance(layer, nn.Linear | nn.LayerNorm):
            fresh = (3 * layer.in_features) ** -0.5 if isinstance(layer, nn.Linear) else 1.0
            size = layer.weight.detach().square().mean().sqrt().item() / fresh
            factors |= dict.fromkeys(layer.parameters(), size)
    return factors


class _Scenes:
    """Scenes by number: what the encoders see of them, and what each patch shows."""

    def __init__(
        self, folder: Path, trunk: Any, processor: Any, config: VisualWordsConfig, assets: EmojiAssets
    ) -> None:
        self._trunk, self._processor, self._config, self._assets = trunk, processor, config, assets
        numbers = {word: number for number, word in enumerate(visual_vocabulary())}
        grid = trunk.config.geometry.tokens_per_side
        self._shown = cache(lambda index: patch_words(self._scene(index), grid, numbers))
        first = self._see([0])
        self._shapes = [each.shape[1:] for each in (first.low, *first.high)]
        length = sum(shape.numel() for shape in self._shapes)
        self._cache = LatentCache(folder / "seen.npy", config.num_scenes, (length,), self._rows)

    def _scene(self, index: int) -> Scene:
        return sample_scene(self._config.seed, index, kind=_KINDS[index % len(_KINDS)])

    def _see(self, indices: Sequence[int]) -> Seen:
        drawn = (render_scene(self._scene(index), self._assets, size_px=self._config.scene_px) for index in indices)
        pixels = self._processor.image_processor(list(drawn), return_tensors="pt").to(self._trunk.device)
        return see(self._trunk, pixels)

    def _rows(self, indices: Sequence[int]) -> Tensor:
        seen = self._see(indices)
        return torch.cat([each.flatten(1) for each in (seen.low, *seen.high)], 1)

    def of_step(self, step: int) -> list[int]:
        """Return the numbers of a step's scenes: all of them, in another order each time."""
        size, num = self._config.batch_size, self._config.num_scenes
        places = (divmod(number, num) for number in range(step * size, (step + 1) * size))
        return [_order(self._config.seed, epoch, num)[place] for epoch, place in places]

    def seen(self, indices: Sequence[int]) -> Seen:
        """Return what the encoders see of scenes."""
        rows = self._cache.latents(indices).to(self._trunk.device)
        parts = rows.split([shape.numel() for shape in self._shapes], 1)
        low, *high = (part.unflatten(1, shape) for part, shape in zip(parts, self._shapes, strict=True))
        return Seen(low, high)

    def shown(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return `patch_words` of scenes, (B, n) each."""
        words, is_background = zip(*map(self._shown, indices), strict=True)
        return torch.stack(words).to(self._trunk.device), torch.stack(is_background).to(self._trunk.device)


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, num: int) -> tuple[int, ...]:
    return tuple(random.Random(f"{seed}/{epoch}").sample(range(num), num))


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
    table = word_embeds(model, processor.tokenizer, visual_vocabulary())
    Path(folder).mkdir(parents=True, exist_ok=True)
    scenes = _Scenes(Path(folder), trunk, processor, config, assets)
    start_in_scale(trunk, scenes.seen(range(min(16, config.num_scenes))), table)
    parts = nn.ModuleDict({name: getattr(trunk, name).requires_grad_(True) for name in _TRAINED})
    run = PretrainingRun(folder, parts, config, learning_rate_factors(parts))
    trunk.to(run.device)
    table = table.to(run.device)
    for step in run.steps():
        indices = scenes.of_step(step)
        tokens = trunk.multi_modal_projector(scenes.seen(indices).mined(trunk))
        loss, right = word_loss(tokens, *scenes.shown(indices), table, config)
        run.update(loss, right=right)
    fold_norms(trunk.mining)
    result = Path(folder) / TRAINED_FILE
    save_file({f"model.{name}": value.detach().contiguous() for name, value in parts.named_parameters()}, result)
    return result


if __name__ == "__main__":
    run_recipe(
        sys.argv[1:], VisualWordsConfig, lambda folder, config: train_visual_words(folder, config, EmojiAssets.open())
    )

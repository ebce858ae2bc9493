"""A fast alternative to the stage *align*: visual tokens learn to match word embeddings.

    python -m mgem_agent.recipes.nano visual_words FOLDER vision=FOLDER high_res_vision=FOLDER [key=value …]
    python -m mgem_agent.recipes.nano visual_words FOLDER checkpoint=nano encoders=learn [key=value …]

Mining and the projector learn to map a patch that shows a tiger close to the language model's embedding of " tiger",
and away from those of other things, words and places. Each token also learns facts of what it shows (row, column,
colour, number, rank in a chart), as words that are added to that embedding. So the language model finds the answers to
common questions in the token. The language model itself does not run, so many more pictures fit into the same time than
in the stage *align*, which can then start from here: `mgem train nano_align model.start_from=FOLDER`.
The recipe needs pictures with known regions, such as synthetic scenes.

With frozen encoders, their features are cached in a file (0.65 MB a scene for nano's), and each scene is used many
times. With `encoders=learn` both encoders are trained too, on new scenes in every step. This is slower, but mining
cannot recover what frozen encoders miss. Start it from weights of a run with frozen encoders.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor, nn

from mgem_agent.core_model.low_res_encoder import unused_low_res_modules
from mgem_agent.recipes.nano.pretraining import Count, PretrainingConfig, PretrainingRun, Rate
from mgem_agent.recipes.nano.seeing.activation_scaling import (
    fold_norms,
    learning_rate_factors,
    start_in_scale,
    unfold_norms,
)
from mgem_agent.recipes.nano.seeing.depthwise_precision import run_depthwise_in_float32
from mgem_agent.recipes.nano.seeing.encoder_features import EncoderFeatures, encode_images
from mgem_agent.recipes.nano.seeing.latent_cache import LatentCache
from mgem_agent.recipes.nano.seeing.patch_labels import (
    fact_embeds,
    fact_loss,
    patch_facts,
    patch_labels,
    visual_vocabulary,
    word_embeds,
    word_loss,
)
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.nano.world.scene import SceneKind, sample_scene
from mgem_agent.recipes.nano.world.scene_parts import Scene
from mgem_agent.recipes.nano.world.scene_rendering import render_scene
from mgem_agent.recipes.train.config import ModelConfig, Precision
from mgem_agent.recipes.train.model_setup import NANO, TRAINED_FILE, load_model
from mgem_agent.recipes.train.precision import bf16_where_fast

__all__ = ["VisualWordsConfig", "train_visual_words"]

_KINDS: dict[str, tuple[SceneKind, ...]] = {
    "frozen": ("any", "page"),
    "learn": ("asked", "page", "asked", "several", "asked", "page", "asked", "page", "asked", "unclear"),
}
_Look = Callable[[Sequence[int]], EncoderFeatures]
_MINING = ("mining", "multi_modal_projector")
_ENCODERS = ("vision_tower", "high_res_vision_tower")


class VisualWordsConfig(PretrainingConfig):
    """Settings of the recipe `visual_words`.

    Attributes:
        vision: Folder of the CLIP vision model.
        high_res_vision: Folder of the open_clip model with a ConvNeXt.
        checkpoint: In place of these two: a model whose mining and projector are trained, as in `mgem train`.
        text: The language model, as in `mgem train`.
        encoders: Whether the two encoders are `frozen` or `learn`.
        high_res_image_size: Side of the high-resolution image, in pixels; ignored with a checkpoint.
        num_scenes: Number of scenes, each used many times: 12,000 with frozen encoders, otherwise a million. Four
            or five in ten are pages of printed words.
        scene_px: Side of the scenes; half the high resolution trains a baseline without high resolution.
        background_weight: Weight of patches that show only background; 1 for all others.
        sharpness: Factor on the cosine similarity of tokens and words.
        distance_weight: Weight of the distance to the word's embedding, which trains the norm of tokens.
        fact_weight: Weight of facts (place, colour, number, rank) in the loss; 0 for names only.
        fact_size_weight: Weight of the size of facts in a token; without it they stay about a third of `fact_size`.
        fact_size: Factor on the embeddings of facts, which are added to that of the name.
        precision: Precision of trained encoders: `bf16`, `fp32`, or `auto` for what the hardware does fastest.
    """

    num_steps: Count = 12_000
    batch_size: Count = 16
    learning_rate: Rate = 1e-3
    warmup_steps: int = Field(default=100, ge=0)
    vision: str | None = None
    high_res_vision: str | None = None
    checkpoint: str | None = None
    text: str | None = None
    encoders: Literal["frozen", "learn"] = "frozen"
    high_res_image_size: int = Field(default=256, ge=32)
    num_scenes: int = Field(default_factory=lambda given: 12_000 if given["encoders"] == "frozen" else 1_000_000, ge=1)
    scene_px: int = Field(default=256, ge=16)
    background_weight: float = Field(default=0.15, ge=0)
    sharpness: float = Field(default=20.0, gt=0)
    distance_weight: float = Field(default=0.2, ge=0)
    fact_weight: float = Field(default=0.3, ge=0)
    fact_size_weight: float = Field(default=1.0, ge=0)
    fact_size: float = Field(default=0.5, gt=0)
    precision: Precision = "auto"

    @property
    def source(self) -> ModelConfig:
        """Source of the model."""
        return ModelConfig(
            checkpoint=self.checkpoint,
            vision=self.vision,
            high_res_vision=self.high_res_vision,
            text=self.text or (NANO if self.checkpoint is None else None),
            prompt_template="chatml",
            high_res_image_size=self.high_res_image_size,
        )

    @property
    def trained(self) -> tuple[str, ...]:
        """The trained parts of the model."""
        return _MINING if self.encoders == "frozen" else (*_MINING, *_ENCODERS)


class _Scenes:
    """Scenes by index: their pixels and patch labels."""

    def __init__(self, processor: Any, grid: int, config: VisualWordsConfig, assets: EmojiAssets) -> None:
        self._processor, self._config, self._assets = processor, config, assets
        self._kinds = _KINDS[config.encoders]
        numbers = {word: number for number, word in enumerate(visual_vocabulary())}
        self._shown = cache(lambda index: patch_labels(self._scene(index), grid, numbers))
        self._facts = cache(lambda index: patch_facts(self._scene(index), grid))

    def _scene(self, index: int) -> Scene:
        return sample_scene(self._config.seed, index, kind=self._kinds[index % len(self._kinds)])

    def of_step(self, step: int) -> list[int]:
        """Return the indices of a step's scenes; every pass over all scenes has another order."""
        size, num = self._config.batch_size, self._config.num_scenes
        places = (divmod(number, num) for number in range(step * size, (step + 1) * size))
        return [_order(self._config.seed, epoch, num)[place] for epoch, place in places]

    def pixels(self, indices: Sequence[int]) -> Any:
        """Return scenes as inputs of the model."""
        drawn = (render_scene(self._scene(index), self._assets, size_px=self._config.scene_px) for index in indices)
        return self._processor.image_processor(list(drawn), return_tensors="pt")

    def shown(self, indices: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
        """Return `patch_labels` of scenes, (B, n) each."""
        words, is_background = zip(*map(self._shown, indices), strict=True)
        return torch.stack(words).to(device), torch.stack(is_background).to(device)

    def facts(self, indices: Sequence[int], device: torch.device) -> Tensor:
        """Return `patch_facts` of scenes, (B, n, number of facts)."""
        return torch.stack([self._facts(index) for index in indices]).to(device)


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, num: int) -> tuple[int, ...]:
    return tuple(random.Random(f"{seed}/{epoch}").sample(range(num), num))


class _SeenOnce:
    """Features of frozen encoders, cached in a file.

    Args:
        folder: Folder of the file.
        look: Runs the encoders on some scenes.
        num: Number of scenes.
    """

    def __init__(self, folder: Path, look: _Look, num: int) -> None:
        self._look = look
        first = look([0])
        self._shapes = [each.shape[1:] for each in (first.low, *first.high)]
        length = sum(shape.numel() for shape in self._shapes)
        self._cache = LatentCache(folder / "seen.npy", num, (length,), self._rows)

    def _rows(self, indices: Sequence[int]) -> Tensor:
        seen = self._look(indices)
        return torch.cat([each.flatten(1) for each in (seen.low, *seen.high)], 1)

    def __call__(self, indices: Sequence[int]) -> EncoderFeatures:
        """Return the features of some scenes, on the CPU."""
        parts = self._cache.latents(indices).split([shape.numel() for shape in self._shapes], 1)
        low, *high = (part.unflatten(1, shape) for part, shape in zip(parts, self._shapes, strict=True))
        return EncoderFeatures(low, high)


class _Losses:
    """The loss of visual tokens: their names and, if they have a weight, their facts.

    Args:
        model: The language model.
        tokenizer: Its tokenizer.
        config: Settings.
    """

    def __init__(self, model: Any, tokenizer: Any, config: VisualWordsConfig) -> None:
        self._config = config
        self.names = word_embeds(model, tokenizer, visual_vocabulary())
        self._facts = [config.fact_size * table for table in fact_embeds(model, tokenizer)]

    def to(self, device: torch.device) -> None:
        """Move the embeddings of words to a device."""
        self.names, self._facts = self.names.to(device), [table.to(device) for table in self._facts]

    def __call__(self, tokens: Tensor, scenes: _Scenes, indices: Sequence[int]) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of the tokens of some scenes, (B, n, d), and the accuracy of names and of each fact."""
        config, names = self._config, self.names
        words, is_background = scenes.shown(indices, tokens.device)
        options = {"background_weight": config.background_weight, "sharpness": config.sharpness}
        factual, extra = tokens.new_zeros(()), None
        right: dict[str, float] = {}
        if config.fact_weight:
            facts = scenes.facts(indices, tokens.device)
            factual, extra, right = fact_loss(
                tokens, facts, is_background, self._facts, names.mean(0), size_weight=config.fact_size_weight, **options
            )
        named, right_names = word_loss(
            tokens, words, is_background, names, distance_weight=config.distance_weight, extra=extra, **options
        )
        return named + config.fact_weight * factual, {"right": right_names, **right}


def train_visual_words(folder: str | Path, config: VisualWordsConfig, assets: EmojiAssets) -> Path:
    """Train mining and the projector, resuming from the folder's checkpoint.

    Returns:
        The file that `model.start_from` of a stage takes.
    """
    torch.manual_seed(config.seed)
    model, processor = load_model(config.source, torch.float32)
    trunk: Any = model.model.train().requires_grad_(False)
    run_depthwise_in_float32(trunk.high_res_vision_tower)
    losses = _Losses(model, processor.tokenizer, config)
    Path(folder).mkdir(parents=True, exist_ok=True)
    scenes = _Scenes(processor, trunk.config.geometry.tokens_per_side, config, assets)

    def look(indices: Sequence[int]) -> EncoderFeatures:
        return encode_images(trunk, scenes.pixels(indices).to(trunk.device))

    parts = nn.ModuleDict({name: getattr(trunk, name).requires_grad_(True) for name in config.trained})
    for parameter in unused_low_res_modules(trunk.vision_tower, trunk.config.vision_feature_layer):
        parameter.requires_grad_(False)
    sees: _Look = look if config.encoders == "learn" else _SeenOnce(Path(folder), look, config.num_scenes)
    with torch.no_grad():
        _scale(trunk, sees(range(min(16, config.num_scenes))), config, losses.names)
    run = PretrainingRun(folder, parts, config, learning_rate_factors(parts))
    trunk.to(run.device)
    losses.to(run.device)
    precision = config.precision if config.encoders == "learn" else "fp32"
    for step in run.steps():
        indices = scenes.of_step(step)
        with bf16_where_fast(run.device, precision):
            tokens = trunk.multi_modal_projector(sees(indices).to(run.device).mined(trunk))
        loss, right = losses(tokens, scenes, indices)
        run.update(loss, **right)
    fold_norms(trunk.mining)
    result = Path(folder) / TRAINED_FILE
    save_file({f"model.{name}": value.detach().contiguous() for name, value in parts.named_parameters()}, result)
    return result


def _scale(trunk: Any, seen: EncoderFeatures, config: VisualWordsConfig, names: Tensor) -> None:
    """Scale new weights to the features of a few scenes, or those of a checkpoint so that they can be trained."""
    if config.checkpoint is None:
        start_in_scale(trunk, seen, names)
        return
    unfold_norms(trunk, seen)
    for norm in (trunk.mining.query_norm, trunk.mining.key_norm, trunk.mining.value_norm):
        norm.requires_grad_(False)  # they only standardise, with factors of very different size

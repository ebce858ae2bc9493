"""Train the reader, which names what visual tokens show: things, printed words, and their facts.

    python -m mgem_agent.recipes.nano visual_reader FOLDER [checkpoint=FOLDER] [key=value …]

The labels of patches are those of `visual_words`. Encoders, mining and the projector stay as they are, so their tokens
of a scene are computed once and cached (32 KB a scene for nano). The trained model is written to `FOLDER/model`, in the
format of the checkpoint. Its language model has to learn to use the reading: `mgem train nano_reading`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor

from mgem_agent.core_model import MiniGeminiConfig
from mgem_agent.core_model.checkpoints.partial_checkpoint import WEIGHTS_FILE, own_weights
from mgem_agent.core_model.visual_reader import (
    BACKGROUND,
    PRINTED,
    THING,
    ReaderOutput,
    VisualReader,
    VisualReaderConfig,
)
from mgem_agent.errors import InputError
from mgem_agent.recipes.nano.pretraining import Count, PretrainingConfig, PretrainingRun, Rate
from mgem_agent.recipes.nano.seeing.latent_cache import LatentCache
from mgem_agent.recipes.nano.seeing.patch_labels import (
    LEAST_WEIGHT,
    UNKNOWN,
    background_labels,
    patch_facts,
    patch_labels,
    visual_vocabulary,
    word_embeds,
)
from mgem_agent.recipes.nano.seeing.region_facts import FACTS
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.nano.world.scene import SceneKind, sample_scene
from mgem_agent.recipes.nano.world.scene_parts import Scene
from mgem_agent.recipes.nano.world.scene_questions import UNCLEAR
from mgem_agent.recipes.nano.world.scene_rendering import render_scene
from mgem_agent.recipes.train.config import ModelConfig
from mgem_agent.recipes.train.model_setup import NANO, load_model, small_folder

__all__ = ["VisualReaderTraining", "new_reader", "train_visual_reader"]

_KINDS: tuple[SceneKind, ...] = (
    "asked", "any", "drawable", "page", "asked", "several", "chart", "asked", "page", "any",
)  # fmt: skip
_FRESH: tuple[SceneKind, ...] = ("any", "page", "several", "posed")
_NUM_FRESH, _AT_ONCE = 1000, 20
_DOUBTED = 0.005
"""Fraction of training scenes of which the reader is not confident enough."""
_PLACES = ("row", "column")
ANSWER = f"I {UNCLEAR} what this shows."
"""The answer to a question about a picture that the reader does not know; dialogues about unclear scenes have it."""
_SMOOTHING = 0.05
"""Label smoothing: the names of similar things are not certain."""


class VisualReaderTraining(PretrainingConfig):
    """Settings of the recipe `visual_reader`.

    Attributes:
        checkpoint: The model: `nano`, or a folder that `mgem train export --small` has written.
        text: The language model of the checkpoint, as in `mgem train`.
        num_scenes: Number of scenes, each used many times.
        scene_px: Side of the scenes; half the high resolution trains a baseline without high resolution.
        num_tokens: Tokens of a reading in the language model's input.
        hidden_size: Channels of the reader.
        num_layers: Layers of the reader.
        background_weight: Weight of patches that show only background; 1 for all others.
        fact_weight: Weight of each fact in the loss.
    """

    num_steps: Count = 3000
    batch_size: Count = 16
    learning_rate: Rate = 1e-3
    warmup_steps: int = Field(default=150, ge=0)
    weight_decay: float = Field(default=0.05, ge=0, lt=1)
    checkpoint: str = NANO
    text: str | None = None
    num_scenes: Count = 8000
    scene_px: int = Field(default=256, ge=16)
    num_tokens: Count = 40
    hidden_size: Count = 192
    num_layers: Count = 2
    background_weight: float = Field(default=0.15, ge=0)
    fact_weight: float = Field(default=0.3, ge=0)


def new_reader(model: Any, tokenizer: Any, config: VisualReaderTraining) -> VisualReader:
    """Return a reader that knows the labels of patches and their facts, and adds nothing to what the projector learned.

    Args:
        model: The model, whose configuration gets the reader's.
        tokenizer: Its tokenizer.
        config: Settings.
    """
    vocabulary = visual_vocabulary()

    def ids(text: str) -> list[int]:
        found: list[int] = tokenizer(text, add_special_tokens=False).input_ids
        return found

    labels = _padded([ids(f" {word}") for word in vocabulary])
    facts = _padded([ids(f" {word}") for words in FACTS.values() for word in words])
    sizes = {
        "num_tokens": config.num_tokens,
        "num_labels": len(vocabulary),
        "label_length": labels.shape[1],
        "facts": list(FACTS),
        "fact_words": [len(words) for words in FACTS.values()],
        "fact_length": facts.shape[1],
        "places": list(_PLACES),
        "unknown": vocabulary.index(UNKNOWN),
        "unknown_answer": ANSWER,
        "hidden_size": config.hidden_size,
        "num_layers": config.num_layers,
    }
    own = model.config
    model.config.reader_config = sizes
    reader = VisualReader(
        VisualReaderConfig.of(sizes),
        own.geometry.num_visual_tokens,
        own.vision_config.hidden_size,
        own.text_config.hidden_size,
    )
    places = background_labels()
    kinds = [PRINTED if word.startswith('"') else BACKGROUND if word in places else THING for word in vocabulary]
    reader.label_ids.copy_(labels)
    reader.fact_ids.copy_(facts)
    reader.label_kinds.copy_(torch.tensor(kinds))
    reader.label_embeds.copy_(word_embeds(model, tokenizer, vocabulary))
    reader.mark_ids.copy_(torch.tensor([ids(";")[0], ids("\n")[0]]))
    torch.nn.init.normal_(reader.position_embeds.weight, std=0.02)
    torch.nn.init.zeros_(reader.label_head.weight)
    torch.nn.init.zeros_(reader.label_head.bias)
    return reader


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """Return rows of token ids as one tensor, padded with -1."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[-1] * (longest - len(row))] for row in rows])


class _Scenes:
    """Scenes by index: their visual tokens, and the labels and facts of their patches."""

    def __init__(self, trunk: Any, processor: Any, folder: Path, config: VisualReaderTraining, assets: Any) -> None:
        self._trunk, self._processor, self._config, self._assets = trunk, processor, config, assets
        grid = trunk.config.geometry.tokens_per_side
        numbers = {word: number for number, word in enumerate(visual_vocabulary())}
        self._labels = cache(lambda index: patch_labels(self._scene(index), grid, numbers))
        self._facts = cache(lambda index: patch_facts(self._scene(index), grid))
        shape = (grid * grid, trunk.config.vision_config.hidden_size)
        self._tokens = LatentCache(folder / "tokens.npy", config.num_scenes, shape, self._see)

    def _scene(self, index: int) -> Scene:
        return sample_scene(self._config.seed, index, kind=_KINDS[index % len(_KINDS)])

    def _see(self, indices: Sequence[int]) -> Tensor:
        return self._seen(map(self._scene, indices))

    @torch.no_grad()
    def _seen(self, scenes: Iterable[Scene]) -> Tensor:
        drawn = [render_scene(scene, self._assets, size_px=self._config.scene_px) for scene in scenes]
        pixels = self._processor.image_processor(drawn, return_tensors="pt").to(self._trunk.device)
        seen: Tensor = self._trunk.get_image_features(**pixels).last_hidden_state
        return seen

    def fresh(self, indices: Sequence[int]) -> Tensor:
        """Return the tokens (B, n, c) of scenes that it is not trained on."""
        scenes = (sample_scene(self._config.seed + 1, index, kind=_FRESH[index % len(_FRESH)]) for index in indices)
        return self._seen(scenes)

    def __call__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the tokens (B, n, c), labels (B, n), whether it is background (B, n), facts (B, n, facts)."""
        labels, is_background = zip(*map(self._labels, indices), strict=True)
        facts = torch.stack([self._facts(index) for index in indices])
        return self._tokens.latents(indices), torch.stack(labels), torch.stack(is_background), facts


def _loss(
    found: ReaderOutput, labels: Tensor, is_background: Tensor, facts: Tensor, config: VisualReaderTraining
) -> tuple[Tensor, dict[str, float]]:
    """Return the loss of a batch, and the accuracy of names and of each fact on patches that are not background."""
    weights = torch.where(is_background, config.background_weight, 1.0)

    def mean(logits: Tensor, wanted: Tensor, which: Tensor, smoothing: float = 0.0) -> Tensor:
        losses = F.cross_entropy(logits.transpose(1, 2), wanted, reduction="none", label_smoothing=smoothing)
        return (losses * weights * which).sum() / (weights * which).sum().clamp(min=LEAST_WEIGHT)

    loss = mean(found.labels, labels, torch.ones_like(is_background), _SMOOTHING)
    right = {"right": _accuracy(found.labels.argmax(-1), labels, ~is_background)}
    for name, logits, wanted in zip(FACTS, found.facts, facts.unbind(-1), strict=True):
        numbers, is_known = wanted.clamp(min=-1) + 1, wanted >= 0
        loss = loss + config.fact_weight * (mean(logits, numbers, is_known) + mean(logits, numbers, ~is_known)) / 2
        right[name] = _accuracy(logits.argmax(-1) - 1, wanted, (wanted >= 0) & ~is_background)
    return loss, right


def _accuracy(found: Tensor, wanted: Tensor, asked: Tensor) -> float:
    return found.eq(wanted)[asked].float().mean().item() if asked.any() else 1.0


def train_visual_reader(folder: str | Path, config: VisualReaderTraining, assets: EmojiAssets) -> Path:
    """Train the reader of a model, resuming from the folder's checkpoint.

    Returns:
        The folder of the model with its reader.

    Raises:
        InputError: If the checkpoint has its own language model.
    """
    given = ModelConfig(checkpoint=config.checkpoint, text=config.text)
    source = small_folder(given)
    if source is None:
        raise InputError(
            f"checkpoint={config.checkpoint!r} is no folder without a language model. Write one with: "
            "mgem train export RUN FOLDER --small"
        )
    torch.manual_seed(config.seed)
    model, processor = load_model(given, torch.float32)
    trunk: Any = model.model.requires_grad_(False)
    trunk.reader = None  # a new one replaces it
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    scenes = _Scenes(trunk, processor, place, config, assets)
    reader = new_reader(model, processor.tokenizer, config)
    run = PretrainingRun(place, reader.train(), config)
    trunk.to(run.device)
    for step in run.steps():
        picked = torch.randint(config.num_scenes, (config.batch_size,), generator=run.generator(step))
        tokens, labels, is_background, facts = (each.to(run.device) for each in scenes(picked.tolist()))
        found: ReaderOutput = reader(tokens, trunk.multi_modal_projector(tokens))
        loss, right = _loss(found, labels, is_background, facts, config)
        run.update(loss, **right)
    _find_least_confidence(model, reader.eval(), scenes.fresh)
    trunk.reader = reader
    return _written(model.cpu(), source, place / "model")


@torch.no_grad()
def _find_least_confidence(model: Any, reader: VisualReader, see: Callable[[Sequence[int]], Tensor]) -> None:
    """Set the least confidence to that which all but a few other scenes reach."""
    found: list[Tensor] = []
    for start in range(0, _NUM_FRESH, _AT_ONCE):
        tokens = see(range(start, start + _AT_ONCE))
        found.append(reader.confidence(reader(tokens, model.model.multi_modal_projector(tokens))))
    least = round(torch.cat(found).quantile(_DOUBTED).item(), 3)
    model.config.reader_config = {**model.config.reader_config, "least_confidence": least}


def _written(model: Any, source: Path, target: Path) -> Path:
    """Write a model's folder again, with its reader."""
    shutil.copytree(source, target, dirs_exist_ok=True)
    before = load_file(source / WEIGHTS_FILE)
    dtype = next(value.dtype for value in before.values() if value.is_floating_point())
    save_file(own_weights(model, dtype), target / WEIGHTS_FILE, {"format": "pt"})
    config = MiniGeminiConfig.from_pretrained(source)
    config.reader_config = model.config.reader_config
    config.save_pretrained(target)
    return target

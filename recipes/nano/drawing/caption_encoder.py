"""Training of the generator's text encoder: it learns which facts a caption asks for.

    python -m mgem_agent.recipes.nano caption_encoder FOLDER [key=value …]

A fact is a background, or a thing at a position. Each fact has one hidden unit in the last layer's MLP, which the last
token of a caption learns to activate. An active unit adds its own random vector to the token's output, so later
training finds every fact in its own direction. No pictures are needed: a hundred thousand captions take minutes.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from mgem_agent.recipes.nano.drawing.caption_tokenizer import train_caption_tokenizer
from mgem_agent.recipes.nano.pretraining import Count, PretrainingConfig, PretrainingRun, Rate
from mgem_agent.recipes.nano.world.backgrounds import BACKGROUNDS
from mgem_agent.recipes.nano.world.concepts import load_concepts
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.nano.world.scene import sample_scene
from mgem_agent.recipes.nano.world.scene_captions import CaptionStyle, caption
from mgem_agent.recipes.nano.world.scene_parts import Scene

__all__ = [
    "CaptionEncoderConfig",
    "CaptionReader",
    "captions_and_facts",
    "drawn_caption",
    "fact_loss",
    "fact_sizes",
    "scene_slots",
    "tokenize_captions",
    "train_caption_encoder",
]

_STYLES: tuple[CaptionStyle, ...] = ("plain", "plain", "rich", "tags", "story")
_PLACES = ("alone", "left", "right")
_STRENGTH = 8.0
"""Target score of a fact that the caption asks for."""
_EVENNESS = 0.02
"""Weight of the squared difference from it."""
MAX_POSITIONS = 120
"""Maximum length that a generator pads captions to."""


class CaptionEncoderConfig(PretrainingConfig):
    """Settings of the recipe `caption_encoder`.

    Attributes:
        width: Hidden size of the text encoder.
        num_layers: Layers of the text encoder.
        vocab_size: Size of the tokenizer's vocabulary.
        max_tokens: Maximum tokens of a caption.
    """

    num_steps: Count = 3_000
    batch_size: Count = 32
    learning_rate: Rate = 1e-3
    width: int = Field(default=256, ge=64, multiple_of=64)
    num_layers: int = Field(default=2, ge=1)
    vocab_size: int = Field(default=2_048, ge=300)
    max_tokens: int = Field(default=48, ge=8, le=MAX_POSITIONS)


class CaptionReader(nn.Module):
    """A CLIP text encoder whose last MLP has one hidden unit for each fact.

    Args:
        config: Sizes.
        tokenizer: Tokenizer of the captions.
    """

    def __init__(self, config: CaptionEncoderConfig, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        torch.manual_seed(config.seed)
        self.sizes = fact_sizes()
        ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        self.encoder: Any = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=config.width,
                intermediate_size=max(4 * config.width, 64 * math.ceil(sum(self.sizes) / 64)),
                num_hidden_layers=config.num_layers,
                num_attention_heads=config.width // 64,
                max_position_embeddings=MAX_POSITIONS,
                hidden_act="relu",  # an inactive unit adds nothing
                **ids,
            )
        )
        nn.init.normal_(self.table.fc2.weight)

    @property
    def table(self) -> Any:
        """The last layer's MLP; its first hidden units are the facts."""
        return self.encoder.encoder.layers[-1].mlp

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Return the scores of the facts: of backgrounds (b, B), and of things at each position (b, C).

        A score above 0 means that the caption asks for the fact.

        Args:
            input_ids: (b, l) captions.
            attention_mask: (b, l) 1 for tokens, 0 for padding.
        """
        scores: list[Tensor] = []
        hook = self.table.fc1.register_forward_hook(lambda _module, _inputs, output: scores.append(output))
        try:
            self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        finally:
            hook.remove()
        last = scores[0][torch.arange(len(input_ids)), attention_mask.sum(1) - 1]
        return last[:, : sum(self.sizes)].split(self.sizes, 1)


def fact_sizes() -> tuple[int, int, int, int]:
    """Return the number of facts of each kind: backgrounds, things alone, left and right."""
    num_concepts = len(load_concepts())
    return len(BACKGROUNDS), num_concepts, num_concepts, num_concepts


def scene_slots(scene: Scene) -> tuple[int, int, int, int]:
    """Return the indices of a posed scene's background and of its things alone, left and right.

    An empty position has the number of concepts as its index.
    """
    backgrounds, concepts = _numbers()
    found = dict.fromkeys(_PLACES, len(concepts))
    for thing in scene.objects:
        place = "alone" if len(scene.objects) == 1 else "left" if thing.x < 0.5 else "right"
        found[place] = concepts[thing.concept]
    return backgrounds[scene.background], found["alone"], found["left"], found["right"]


@functools.cache
def _numbers() -> tuple[dict[str, int], dict[str, int]]:
    """Return the indices of all backgrounds and of all concepts by name."""
    backgrounds = {each.name: number for number, each in enumerate(BACKGROUNDS)}
    return backgrounds, {concept.name: number for number, concept in enumerate(load_concepts())}


def drawn_caption(scene: Scene, chance: random.Random) -> str:
    """Return a caption of a posed scene in a random style."""
    return caption(scene, chance, style=chance.choice(_STYLES))


def captions_and_facts(scenes: Sequence[Scene], seed: int, first: int) -> tuple[list[str], Tensor]:
    """Return a caption of each posed scene, and (B, 4) its facts.

    Args:
        scenes: B scenes.
        seed: Seed of the wording.
        first: Index of the first scene; the wording depends on the index.
    """
    captions = [drawn_caption(scene, random.Random(f"{seed}/{first + row}")) for row, scene in enumerate(scenes)]
    facts = torch.tensor([scene_slots(scene) for scene in scenes], dtype=torch.long)
    return captions, facts.view(-1, len(fact_sizes()))


def tokenize_captions(tokenizer: CLIPTokenizer, captions: list[str], max_tokens: int) -> tuple[Tensor, Tensor]:
    """Return ids and mask of captions, (b, l) both, padded to the longest of them."""
    words: Any = tokenizer(captions, padding=True, max_length=max_tokens, truncation=True, return_tensors="pt")
    return words.input_ids, words.attention_mask


def fact_loss(scores: Sequence[Tensor], wanted: Tensor, evenness: float = _EVENNESS) -> tuple[Tensor, float]:
    """Return () the loss of the scores, and the fraction of captions whose facts are all right.

    The loss has three terms: a softmax over the facts of a kind and a zero logit for none, a sigmoid for each fact, and
    a term that pulls the scores of active facts to one value, so that rare facts are as strong as frequent ones.

    Args:
        scores: (b, number) for each kind of facts.
        wanted: (b, kinds) indices of the right facts; the size of the kind, or more, for none.
        evenness: Weight of the last term.
    """
    loss, right = torch.zeros((), device=wanted.device), torch.ones(len(wanted), dtype=torch.bool, device=wanted.device)
    for kind, number in zip(scores, wanted.T, strict=True):
        with_none = F.pad(kind, (0, 1))
        number = number.clamp(max=kind.shape[1])
        said = F.one_hot(number, with_none.shape[1])[:, :-1].to(kind)
        loss = loss + F.cross_entropy(with_none, number)
        loss = loss + F.binary_cross_entropy_with_logits(kind, said, reduction="none").sum(1).mean()
        loss = loss + evenness * (said * (kind - _STRENGTH).square()).sum(1).mean()
        right &= ((kind > 0) == said.bool()).all(1)
    return loss, float(right.float().mean())


def train_caption_encoder(folder: str | Path, config: CaptionEncoderConfig, assets: EmojiAssets) -> Path:
    """Train the text encoder, resuming from the folder's checkpoint.

    Returns:
        The folder with `text_encoder` and `tokenizer`, as in a diffusers pipeline.
    """
    folder = Path(folder)
    tokenizer = train_caption_tokenizer(folder / "tokenizer", config.vocab_size, MAX_POSITIONS, assets)
    reader = CaptionReader(config, tokenizer)
    run = PretrainingRun(folder, reader, config)
    for step in run.steps():
        first = step * config.batch_size
        scenes = [sample_scene(config.seed, first + row, kind="posed") for row in range(config.batch_size)]
        captions, facts = captions_and_facts(scenes, config.seed, first)
        ids, mask = (each.to(run.device) for each in tokenize_captions(tokenizer, captions, config.max_tokens))
        scores = reader(ids, mask)
        loss, right = fact_loss(scores, facts.to(run.device))
        run.update(loss, right=right)
    reader.encoder.save_pretrained(folder / "text_encoder")
    return folder

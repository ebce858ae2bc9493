"""Pre-training of a generator's small text encoder: it learns to say what a caption asks for.

    python -m mgem_agent.recipes.train.caption_encoder FOLDER [key=value …]

The last token of a caption learns to tell which background there is and which thing stands where: a linear head for
each reads it there, and is thrown away afterwards. The text encoder of nano's small CLIP, which was trained beside
pictures alone, puts its 260 things into some five dimensions, as the participation ratio of the singular values of its
last hidden states counts them; this one puts them into some forty. No picture is drawn for it, so that a hundred
thousand captions take minutes.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from mgem_agent.recipes.data.backgrounds import BACKGROUNDS
from mgem_agent.recipes.data.concepts import load_concepts
from mgem_agent.recipes.data.emoji import EmojiAssets
from mgem_agent.recipes.data.scene import sample_scene
from mgem_agent.recipes.data.scene_captions import CaptionStyle, caption
from mgem_agent.recipes.data.scene_parts import Scene
from mgem_agent.recipes.train.caption_tokenizer import train_caption_tokenizer
from mgem_agent.recipes.train.pretraining import PretrainingConfig, PretrainingRun, run_recipe

__all__ = [
    "MAX_POSITIONS",
    "CaptionEncoderConfig",
    "CaptionReader",
    "drawn_caption",
    "scene_slots",
    "tokenize_captions",
    "train_caption_encoder",
]

_STYLES: tuple[CaptionStyle, ...] = ("plain", "plain", "rich", "tags", "story")
_PLACES = ("alone", "left", "right")
MAX_POSITIONS = 120
"""Tokens that a generator may pad captions to."""


class CaptionEncoderConfig(PretrainingConfig):
    """How the text encoder is trained.

    Attributes:
        width: Of the text encoder.
        num_layers: Of the text encoder.
        vocab_size: Pieces that captions are cut into.
        max_tokens: Longest caption that is learned from.
    """

    num_steps: int = 3_000
    batch_size: int = 32
    learning_rate: float = 1e-3
    width: int = Field(default=256, ge=64, multiple_of=64)
    num_layers: int = Field(default=2, ge=1)
    vocab_size: int = Field(default=2_048, ge=300)
    max_tokens: int = Field(default=48, ge=8, le=MAX_POSITIONS)


class CaptionReader(nn.Module):
    """A CLIP text encoder, and the heads that read a caption's last token.

    Args:
        config: Sizes.
        tokenizer: What cuts captions.
    """

    def __init__(self, config: CaptionEncoderConfig, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        torch.manual_seed(config.seed)
        ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        self.encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=config.width,
                intermediate_size=4 * config.width,
                num_hidden_layers=config.num_layers,
                num_attention_heads=config.width // 64,
                max_position_embeddings=MAX_POSITIONS,
                **ids,
            )
        )
        self.background = nn.Linear(config.width, len(BACKGROUNDS))
        self.things = nn.Linear(config.width, len(_PLACES) * (len(load_concepts()) + 1))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores of the backgrounds (b, B), and of the things in each place (b, 3, C + 1), the last for none.

        Args:
            input_ids: (b, l) captions.
            attention_mask: (b, l) 1 up to a caption's end.
        """
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        last = states[torch.arange(len(states)), attention_mask.sum(1) - 1]
        return self.background(last), self.things(last).unflatten(1, (len(_PLACES), -1))


def scene_slots(scene: Scene) -> tuple[int, tuple[int, int, int]]:
    """Return the number of a posed scene's background, and of the things that stand alone, left and right."""
    concepts = [concept.name for concept in load_concepts()]
    background = [each.name for each in BACKGROUNDS].index(scene.background)
    found = [len(concepts)] * len(_PLACES)
    for thing in scene.objects:
        place = "alone" if len(scene.objects) == 1 else "left" if thing.x < 0.5 else "right"
        found[_PLACES.index(place)] = concepts.index(thing.concept)
    return background, (found[0], found[1], found[2])


def drawn_caption(scene: Scene, chance: random.Random) -> str:
    """Return a caption of a posed scene, in one of the ways that generators are asked."""
    return caption(scene, chance, style=chance.choice(_STYLES))


def tokenize_captions(tokenizer: CLIPTokenizer, captions: list[str], max_tokens: int) -> tuple[Tensor, Tensor]:
    """Return ids and mask of captions, (b, l) both, padded to the longest of them."""
    words: Any = tokenizer(captions, padding=True, max_length=max_tokens, truncation=True, return_tensors="pt")
    return words.input_ids, words.attention_mask


def train_caption_encoder(folder: str | Path, config: CaptionEncoderConfig, assets: EmojiAssets) -> Path:
    """Train the text encoder, from where the folder's last checkpoint stands.

    Returns:
        The folder that has `text_encoder` and `tokenizer`, as a pipeline of diffusers has them.
    """
    folder = Path(folder)
    tokenizer = train_caption_tokenizer(folder / "tokenizer", config.vocab_size, MAX_POSITIONS, assets)
    reader = CaptionReader(config, tokenizer)
    run = PretrainingRun(folder, reader, config)
    for step in run.steps():
        captions, backgrounds, things = [], [], []
        for number in range(step * config.batch_size, (step + 1) * config.batch_size):
            scene = sample_scene(config.seed, number, kind="posed")
            captions.append(drawn_caption(scene, random.Random(f"{config.seed}/{number}")))
            background, placed = scene_slots(scene)
            backgrounds.append(background)
            things.append(placed)
        ids, mask = (each.to(run.device) for each in tokenize_captions(tokenizer, captions, config.max_tokens))
        where, what = reader(ids, mask)
        wanted = torch.tensor(things, device=run.device)
        loss = F.cross_entropy(where, torch.tensor(backgrounds, device=run.device))
        loss = loss + sum(F.cross_entropy(what[:, place], wanted[:, place]) for place in range(len(_PLACES)))
        run.update(loss, right=float((what.argmax(-1) == wanted).all(1).float().mean()))
    reader.encoder.save_pretrained(folder / "text_encoder")
    return folder


if __name__ == "__main__":
    run_recipe(
        sys.argv[1:],
        CaptionEncoderConfig,
        lambda folder, config: train_caption_encoder(folder, config, EmojiAssets.open()),
    )

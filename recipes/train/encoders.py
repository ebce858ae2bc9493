"""Contrastive pre-training of small vision encoders, the one way CLIP's are made.

    python -m mgem_agent.recipes.train.encoders FOLDER [key=value …]

A CLIP ViT at low resolution and a ConvNeXt at high resolution learn to tell which of a batch's captions belongs to
their picture, both against one text encoder, by open_clip's own loss. A batch is of one kind of scene, so that telling
its pictures apart needs what is in them: where things stand, how many there are, what is printed.

What comes out are the formats of the big ones: a folder of transformers' `CLIPModel` and one of open_clip, from which
`MiniGeminiForConditionalGeneration.from_vision_text_pretrained` takes its towers.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from mgem_agent.core_model.high_res_encoder import HighResEncoder, high_res_config_from_open_clip
from mgem_agent.recipes.data.emoji import EmojiAssets
from mgem_agent.recipes.data.scene import Scene, Split, sample_scene
from mgem_agent.recipes.data.scene_captions import caption
from mgem_agent.recipes.data.scene_rendering import render_scene
from mgem_agent.recipes.train.caption_tokenizer import train_caption_tokenizer
from mgem_agent.recipes.train.pretraining import PretrainingConfig, PretrainingRun, run_recipe

__all__ = ["ContrastiveModel", "EncodersConfig", "SceneBatch", "scene_batch", "train_encoders"]

KINDS = ("drawable", "any", "printed")
_STRIDE = 16  # scenes between the beginnings of two batches, for one of a batch: more than are passed over


class EncodersConfig(PretrainingConfig):
    """How the encoders are trained.

    Attributes:
        low_res_px: Side of the ViT's pictures.
        high_res_px: Side of the ConvNeXt's.
        patch_px: Side of the ViT's patches.
        width: Of the ViT and of the text encoder.
        num_layers: Of the ViT.
        num_text_layers: Of the text encoder.
        convnext: timm's name of the ConvNeXt.
        embed_dim: Width of the space in which pictures and captions meet.
        vocab_size: Pieces that the captions are cut into.
        max_tokens: Longest caption.
    """

    num_steps: int = 4_000
    batch_size: int = 48
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    low_res_px: int = Field(default=128, ge=16)
    high_res_px: int = Field(default=256, ge=32)
    patch_px: int = Field(default=16, ge=1)
    width: int = Field(default=256, ge=16, multiple_of=16)
    num_layers: int = Field(default=6, ge=2)
    num_text_layers: int = Field(default=3, ge=1)
    convnext: str = "convnext_atto"
    embed_dim: int = Field(default=256, ge=8)
    vocab_size: int = Field(default=2_048, ge=300)
    max_tokens: int = Field(default=40, ge=8)


@dataclass(frozen=True, slots=True)
class SceneBatch:
    """Pictures and their captions.

    Attributes:
        pixels: (B, 3, H, H) normalised as CLIP's, at high resolution.
        captions: B of them.
    """

    pixels: Tensor
    captions: list[str]


class ContrastiveModel(nn.Module):
    """A CLIP whose captions are matched by a ConvNeXt as well.

    Args:
        config: Sizes.
        tokenizer: Of the captions.
    """

    def __init__(self, config: EncodersConfig, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        heads = max(config.width // 64, 1)
        sizes = {"hidden_size": config.width, "intermediate_size": 4 * config.width, "num_attention_heads": heads}
        ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        text = {"vocab_size": len(tokenizer), "max_position_embeddings": config.max_tokens, **ids}
        self.clip: Any = CLIPModel(
            CLIPConfig(
                text_config={**sizes, **text, "num_hidden_layers": config.num_text_layers},
                vision_config={
                    **sizes,
                    "num_hidden_layers": config.num_layers,
                    "image_size": config.low_res_px,
                    "patch_size": config.patch_px,
                },
                projection_dim=config.embed_dim,
            )
        )
        high_res = high_res_config_from_open_clip({"vision_cfg": {"timm_model_name": config.convnext}})
        high_res.image_size = config.high_res_px
        high_res.layer_scale_init_value = 0.1  # of a short training; 1e-6 is for a long one
        self.high_res = HighResEncoder(high_res)
        widths = high_res.hidden_sizes
        self.high_res_norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.high_res_projection = nn.Linear(sum(widths), config.embed_dim, bias=False)
        self.high_res_scale = nn.Parameter(self.clip.logit_scale.detach().clone())
        self.low_res_px = config.low_res_px

    def image_embeds(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embeddings of pictures by the ViT and by the ConvNeXt, each (B, embed_dim) of length 1.

        Every stage of the ConvNeXt is pooled into its embedding, since mining looks into every one of them.

        Args:
            pixels: (B, 3, H, H) normalised, at high resolution; the low resolution is made of them.
        """
        coarse = F.interpolate(pixels, size=(self.low_res_px,) * 2, mode="bilinear", align_corners=False)
        low = self.clip.get_image_features(pixel_values=coarse).pooler_output
        maps = self.high_res(pixels)
        pooled = [norm(stage.amax((-2, -1))) for norm, stage in zip(self.high_res_norms, maps, strict=True)]
        high: Tensor = self.high_res_projection(torch.cat(pooled, dim=-1))
        return F.normalize(low, dim=-1), F.normalize(high, dim=-1)

    def text_embeds(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the embeddings of captions, (B, embed_dim) of length 1."""
        features = self.clip.get_text_features(input_ids=input_ids, attention_mask=attention_mask).pooler_output
        return F.normalize(features, dim=-1)

    def save(self, folder: Path, tokenizer: CLIPTokenizer, config: EncodersConfig) -> None:
        """Write `clip/` for transformers and `convnext/` for open_clip."""
        self.clip.save_pretrained(folder / "clip")
        tokenizer.save_pretrained(folder / "clip")
        convnext = folder / "convnext"
        convnext.mkdir(parents=True, exist_ok=True)
        trunk = {f"visual.trunk.{key}": value.contiguous() for key, value in self.high_res.state_dict().items()}
        save_file(trunk, convnext / "open_clip_model.safetensors")
        vision = {"timm_model_name": config.convnext, "timm_model_pretrained": False, "image_size": config.high_res_px}
        described = {"model_cfg": {"embed_dim": config.embed_dim, "vision_cfg": vision, "text_cfg": {}}}
        (convnext / "open_clip_config.json").write_text(json.dumps(described, indent=1), encoding="utf-8")


def scene_batch(step: int, config: EncodersConfig, assets: EmojiAssets, *, split: Split = "train") -> SceneBatch:
    """Return the pictures and captions of a step, all of one kind of scene.

    Every third batch is of scenes on which words or numbers are printed, told apart by reading alone where they are
    otherwise alike.
    """
    name = KINDS[step % len(KINDS)]
    scenes = islice(_scenes(name, config.seed, step * _STRIDE * config.batch_size, split), config.batch_size)
    pictures, captions = [], []
    for index, scene in enumerate(scenes, start=step * config.batch_size):
        pictures.append(np.asarray(render_scene(scene, assets, size_px=config.high_res_px), dtype=np.float32))
        captions.append(caption(scene, random.Random(index), style="plain"))
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    return SceneBatch((pixels - mean) / std, captions)


def _scenes(name: str, seed: int, first: int, split: Split) -> Iterator[Scene]:
    """Yield the scenes of a kind, from a place in the series on."""
    for index in count(first):
        scene = sample_scene(seed, index, kind="drawable" if name == "drawable" else "any", split=split)
        if name != "printed" or scene.texts:
            yield scene


def train_encoders(folder: str | Path, config: EncodersConfig, assets: EmojiAssets) -> Path:
    """Train the encoders, from where the folder's last checkpoint stands.

    Returns:
        The folder with `clip/` and `convnext/` in it.
    """
    folder = Path(folder)
    tokenizer = train_caption_tokenizer(folder / "tokenizer", config.vocab_size, config.max_tokens, assets)
    torch.manual_seed(config.seed)
    model = ContrastiveModel(config, tokenizer)
    run = PretrainingRun(folder, model, config)
    contrast = ClipLoss()
    for step in run.steps():
        batch = scene_batch(step, config, assets)
        words = tokenizer(batch.captions, padding=True, truncation=True, return_tensors="pt").to(run.device)
        text = model.text_embeds(words["input_ids"], words["attention_mask"])
        low, high = model.image_embeds(batch.pixels.to(run.device))
        low_loss = contrast(low, text, model.clip.logit_scale.clamp(max=4.6).exp())
        high_loss = contrast(high, text, model.high_res_scale.clamp(max=4.6).exp())
        name = KINDS[step % len(KINDS)]
        right = (high @ text.T).argmax(1).eq(torch.arange(len(text), device=run.device)).float().mean()
        figures = {f"{name}_right": right.item() * len(KINDS)}  # logged as a mean over all steps
        run.update(low_loss + high_loss, low=low_loss.item(), high=high_loss.item(), **figures)
    model.save(folder, tokenizer, config)
    return folder


if __name__ == "__main__":
    run_recipe(sys.argv[1:], EncodersConfig, lambda folder, config: train_encoders(folder, config, EmojiAssets.open()))

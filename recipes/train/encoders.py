"""Contrastive pre-training of small vision encoders, the one way CLIP's are made.

    python -m mgem_agent.recipes.train.encoders FOLDER [key=value …]

A CLIP ViT at low resolution and a ConvNeXt at high resolution learn to tell which of a batch's captions belongs to
their picture, both against one text encoder, by open_clip's own loss. A batch is of one kind of scene, so that telling
its pictures apart needs what is in them: where things stand, how many there are, what is printed. Beside it, the
patches of each thing, shape and printed word are told apart by what they are called: patches are what a language model
reads. The ConvNeXt learns from a window of the picture, which a network without attention does as well, and from what
can be said of that window.

What comes out are the formats of the big ones: a folder of transformers' `CLIPModel` and one of open_clip, from which
`MiniGeminiForConditionalGeneration.from_vision_text_pretrained` takes its towers.
"""

from __future__ import annotations

import json
import math
import random
import sys
from dataclasses import dataclass
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
from mgem_agent.recipes.data.nouns import in_a_row
from mgem_agent.recipes.data.scene import SceneKind, Split, sample_scene
from mgem_agent.recipes.data.scene_captions import caption, place_of
from mgem_agent.recipes.data.scene_rendering import render_scene
from mgem_agent.recipes.train.caption_tokenizer import train_caption_tokenizer
from mgem_agent.recipes.train.pretraining import PretrainingConfig, PretrainingRun, run_recipe
from mgem_agent.recipes.train.scene_regions import RegionBatch, cut_window, pool_regions, region_batch

__all__ = ["ContrastiveModel", "EncodersConfig", "SceneBatch", "scene_batch", "train_encoders"]

KINDS: tuple[SceneKind, ...] = ("drawable", "any", "page")


class EncodersConfig(PretrainingConfig):
    """How the encoders are trained.

    Attributes:
        low_res_px: Side of the ViT's pictures.
        high_res_px: Side of the ConvNeXt's.
        window_px: Side of the window of them that it learns from.
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
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    low_res_px: int = Field(default=128, ge=16)
    high_res_px: int = Field(default=256, ge=32)
    window_px: int = Field(default=128, ge=32, multiple_of=32)
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
        regions: What parts of them show.
        windows: (B, 4) left, top, right and bottom of what the ConvNeXt sees, from 0 to 1.
        window_captions: B captions of that.
    """

    pixels: Tensor
    captions: list[str]
    regions: RegionBatch
    windows: Tensor
    window_captions: list[str]


@dataclass(frozen=True, slots=True)
class ImageEmbeds:
    """Embeddings of pictures and of parts of them, each of length 1.

    Attributes:
        low: (B, embed_dim) of pictures, by the ViT.
        high: (B, embed_dim) of their windows, by the ConvNeXt.
        low_regions: (B, k, embed_dim) of regions, by the ViT's patches.
        high_regions: (B, k, embed_dim) of regions, by the ConvNeXt's maps of the window.
    """

    low: Tensor
    high: Tensor
    low_regions: Tensor
    high_regions: Tensor


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
        self.region_norm = nn.LayerNorm(config.width)
        self.region_projection = nn.Linear(config.width, config.embed_dim, bias=False)
        self.high_res_region_projection = nn.Linear(sum(widths), config.embed_dim, bias=False)
        self.region_scale = nn.Parameter(self.clip.logit_scale.detach().clone())
        self.low_res_px = config.low_res_px

    def image_embeds(self, pixels: Tensor, boxes: Tensor, windows: Tensor) -> ImageEmbeds:
        """Return the embeddings of pictures and of their regions.

        Every stage of the ConvNeXt is pooled into its embeddings, since mining looks into every one of them; of the
        ViT, the layer before the last, which becomes the visual tokens.

        Args:
            pixels: (B, 3, H, H) normalised, at high resolution; the low resolution is made of them.
            boxes: (B, k, 4) of the regions, from 0 to 1.
            windows: (B, 4) of what the ConvNeXt sees, from 0 to 1, all of one size.
        """
        coarse = F.interpolate(pixels, size=(self.low_res_px,) * 2, mode="bilinear", align_corners=False)
        seen = self.clip.vision_model(pixel_values=coarse, output_hidden_states=True)
        patches = self.region_norm(seen.hidden_states[-2][:, 1:]).transpose(1, 2)
        grid = math.isqrt(patches.shape[-1])
        low_regions = pool_regions(patches.unflatten(-1, (grid, grid)), boxes)
        maps = self.high_res(_cut(pixels, windows))
        boxes, _ = cut_window(boxes, windows)
        pooled = [norm(stage.amax((-2, -1))) for norm, stage in zip(self.high_res_norms, maps, strict=True)]
        parts = [norm(pool_regions(stage, boxes)) for norm, stage in zip(self.high_res_norms, maps, strict=True)]
        embeds = (
            self.clip.visual_projection(seen.pooler_output),
            self.high_res_projection(torch.cat(pooled, dim=-1)),
            self.region_projection(low_regions),
            self.high_res_region_projection(torch.cat(parts, dim=-1)),
        )
        return ImageEmbeds(*(F.normalize(each, dim=-1) for each in embeds))

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

    Every third batch is of pages of printed words, told apart by reading alone.
    """
    kind = KINDS[step % len(KINDS)]
    first = step * config.batch_size
    scenes = [sample_scene(config.seed, first + row, kind=kind, split=split) for row in range(config.batch_size)]
    pictures, captions = [], []
    for index, scene in enumerate(scenes, start=first):
        pictures.append(np.asarray(render_scene(scene, assets, size_px=config.high_res_px), dtype=np.float32))
        captions.append(caption(scene, random.Random(index), style="plain"))
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    chance = random.Random(f"{config.seed}/{step}")
    regions = region_batch(scenes, chance)
    windows = torch.tensor(
        [_window(boxes, labels, config, chance) for boxes, labels in zip(regions.boxes, regions.labels, strict=True)]
    )
    window_captions = []
    _, is_inside = cut_window(regions.boxes, windows)
    for row, scene in enumerate(scenes):
        inside = [regions.phrases[label] for label in regions.labels[row][is_inside[row] & (regions.labels[row] >= 0)]]
        seen = in_a_row(list(dict.fromkeys(inside)))
        window_captions.append(f"{seen} {place_of(scene, chance)}" if seen else captions[row])
    return SceneBatch((pixels - mean) / std, captions, regions, windows, window_captions)


def _window(boxes: Tensor, labels: Tensor, config: EncodersConfig, chance: random.Random) -> list[float]:
    """Return a window around the smallest region or around any.

    Args:
        boxes: (k, 4) of a picture's regions.
        labels: (k,) -100 where there is no region.
        config: Sizes.
        chance: What is chosen with.
    """
    side = config.window_px / config.high_res_px
    there = sorted(boxes[labels >= 0].tolist(), key=lambda box: box[3] - box[1])
    box = [0.5] * 4 if not there else there[0] if chance.random() < 0.5 else chance.choice(there)
    corner = []
    for low, high in ((box[0], box[2]), (box[1], box[3])):
        place = low - (side - (high - low)) * chance.random()
        corner.append(min(max(round(place * config.high_res_px) / config.high_res_px, 0.0), 1 - side))
    return [*corner, corner[0] + side, corner[1] + side]


def _cut(pixels: Tensor, windows: Tensor) -> Tensor:
    """Return the windows of pictures, (B, 3, w, w) of (B, 3, H, H)."""
    side = pixels.shape[-1]
    edges = (windows * side).round().int().tolist()
    cut = [
        picture[:, top:bottom, left:right] for picture, (left, top, right, bottom) in zip(pixels, edges, strict=True)
    ]
    return torch.stack(cut)


def _named(regions: Tensor, phrases: Tensor, labels: Tensor, scale: Tensor) -> tuple[Tensor, float]:
    """Return the loss of naming regions by one of the batch's phrases, and the share that was named right.

    Args:
        regions: (B, k, embed_dim).
        phrases: (P, embed_dim).
        labels: (B, k) rows of `phrases`; -100 where there is no region.
        scale: () of the logits.
    """
    wanted = labels.flatten()
    is_there = wanted >= 0
    if not is_there.any():
        return regions.sum() * 0, 0.0
    logits = scale * regions.flatten(0, 1)[is_there] @ phrases.T
    right = logits.argmax(-1).eq(wanted[is_there]).float().mean().item()
    return F.cross_entropy(logits, wanted[is_there]), right


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
        regions = batch.regions
        words = tokenizer(
            [*batch.captions, *batch.window_captions, *regions.phrases],
            padding=True,
            truncation=True,
            return_tensors="pt",
        ).to(run.device)
        embeds = model.text_embeds(words["input_ids"], words["attention_mask"])
        text, window_text, phrases = embeds.tensor_split([config.batch_size, 2 * config.batch_size])
        boxes, windows = regions.boxes.to(run.device), batch.windows.to(run.device)
        seen = model.image_embeds(batch.pixels.to(run.device), boxes, windows)
        low_loss = contrast(seen.low, text, model.clip.logit_scale.clamp(max=4.6).exp())
        high_loss = contrast(seen.high, window_text, model.high_res_scale.clamp(max=4.6).exp())
        labels = regions.labels.to(run.device)
        coarse = labels.masked_fill(regions.is_fine.to(run.device), -100)
        scale = model.region_scale.clamp(max=4.6).exp()
        low_parts, low_right = _named(seen.low_regions, phrases, coarse, scale)
        inside = labels.masked_fill(~cut_window(boxes, windows)[1], -100)
        high_parts, high_right = _named(seen.high_regions, phrases, inside, scale)
        name = KINDS[step % len(KINDS)]
        right = (seen.low @ text.T).argmax(1).eq(torch.arange(len(text), device=run.device)).float().mean()
        figures = {  # logged as means over all steps
            f"{name}_right": right.item() * len(KINDS),
            f"{name}_low_parts_right": low_right * len(KINDS),
            f"{name}_high_parts_right": high_right * len(KINDS),
        }
        loss = low_loss + high_loss + low_parts + high_parts
        run.update(loss, low=low_loss.item(), high=high_loss.item(), **figures)
    model.save(folder, tokenizer, config)
    return folder


if __name__ == "__main__":
    run_recipe(sys.argv[1:], EncodersConfig, lambda folder, config: train_encoders(folder, config, EmojiAssets.open()))

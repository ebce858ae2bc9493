"""Contrastive pre-training of nano's two vision encoders, as for CLIP.

    python -m mgem_agent.recipes.nano clip_pretrain FOLDER [key=value …]

A CLIP ViT at low resolution and a ConvNeXt at high resolution learn to match pictures and captions, with one text
encoder and open_clip's loss. A batch has one kind of scene, so that matching needs the content: positions, counts,
printed words. Additional losses train the patches, because patches are what the language model reads: regions of
things, shapes and words are matched to their names, words are spelled, and letters are classified. The ConvNeXt trains
on a window of the picture, with captions of that window; a network without attention learns as much from it.

The results have the formats of the released encoders: a folder of transformers' `CLIPModel` and one of open_clip, which
`MiniGeminiForConditionalGeneration.from_vision_text_pretrained` loads.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from mgem_agent.core_model.high_res_encoder import HighResEncoder, high_res_config_from_open_clip
from mgem_agent.recipes.nano.drawing.caption_tokenizer import train_caption_tokenizer
from mgem_agent.recipes.nano.pretraining import PretrainingRun
from mgem_agent.recipes.nano.seeing.encoders_config import EncodersConfig
from mgem_agent.recipes.nano.seeing.scene_batch import batch_kinds, cut_out, scene_batch
from mgem_agent.recipes.nano.seeing.scene_regions import ALPHABET, SPELLED, cut_window, pool_regions
from mgem_agent.recipes.nano.world.emoji import EmojiAssets

__all__ = ["ContrastiveModel", "EncodersConfig", "train_encoders"]


@dataclass(frozen=True, slots=True)
class TowerEmbeds:
    """Outputs of an encoder.

    Attributes:
        pictures: (B, embed_dim) normalised embeddings.
        regions: (B, k, embed_dim) normalised embeddings of regions.
        spelling: (B, k, SPELLED, letters) logits of the first letters of the word in each region.
    """

    pictures: Tensor
    regions: Tensor
    spelling: Tensor


class ContrastiveModel(nn.Module):
    """A CLIP model with a ConvNeXt as a second image encoder.

    Args:
        config: Sizes.
        tokenizer: Tokenizer of the captions.
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
        high_res.layer_scale_init_value = 0.5  # for short training; 1e-6 is for long training
        self.high_res = HighResEncoder(high_res)
        for layer in self.high_res.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
        widths = high_res.hidden_sizes
        self.high_res_norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.high_res_projection = nn.Linear(sum(widths), config.embed_dim, bias=False)
        self.high_res_scale = nn.Parameter(self.clip.logit_scale.detach().clone())
        self.region_norm = nn.LayerNorm(config.width)
        self.region_projection = nn.Linear(config.width, config.embed_dim, bias=False)
        self.high_res_region_projection = nn.Linear(sum(widths), config.embed_dim, bias=False)
        num_letters = SPELLED * len(ALPHABET)
        self.spelling = nn.Linear(config.width, num_letters)
        self.high_res_spelling = nn.Linear(sum(widths), num_letters)
        self.letters = nn.Linear(sum(widths), len(ALPHABET))
        self.region_scale = nn.Parameter(self.clip.logit_scale.detach().clone())
        self.low_res_px = config.low_res_px

    def low_res_embeds(self, pixels: Tensor, boxes: Tensor) -> TowerEmbeds:
        """Return the ViT's outputs; regions are pooled from the layer that gives the visual tokens.

        Args:
            pixels: (B, 3, H, H) normalised, at high resolution; they are scaled down.
            boxes: (B, k, 4) boxes of the regions, from 0 to 1.
        """
        coarse = F.interpolate(pixels, size=(self.low_res_px,) * 2, mode="bilinear", align_corners=False)
        seen = self.clip.vision_model(pixel_values=coarse, output_hidden_states=True)
        patches = self.region_norm(seen.hidden_states[-2][:, 1:]).transpose(1, 2)
        grid = math.isqrt(patches.shape[-1])
        regions = pool_regions(patches.unflatten(-1, (grid, grid)), boxes)
        return TowerEmbeds(
            F.normalize(self.clip.visual_projection(seen.pooler_output), dim=-1),
            F.normalize(self.region_projection(regions), dim=-1),
            self.spelling(regions).unflatten(-1, (SPELLED, len(ALPHABET))),
        )

    def high_res_embeds(self, pixels: Tensor, boxes: Tensor, letter_boxes: Tensor) -> tuple[TowerEmbeds, Tensor]:
        """Return the ConvNeXt's outputs, from all of its stages, because mining uses them all.

        Args:
            pixels: (B, 3, w, w) normalised, at high resolution.
            boxes: (B, k, 4) boxes of the regions, from 0 to 1.
            letter_boxes: (B, m, 4) boxes of single letters, from 0 to 1.

        Returns:
            The embeddings; (B, m, letters) logits of single letters.
        """
        maps = self.high_res(pixels)
        parts_boxes = torch.cat([boxes, letter_boxes], 1)
        wholes, parts = [], []
        for norm, stage in zip(self.high_res_norms, maps, strict=True):
            wholes.append(norm(stage.amax((-2, -1))))
            parts.append(norm(pool_regions(stage, parts_boxes)))
        regions, letters = torch.cat(parts, dim=-1).tensor_split([boxes.shape[1]], dim=1)
        seen = TowerEmbeds(
            F.normalize(self.high_res_projection(torch.cat(wholes, dim=-1)), dim=-1),
            F.normalize(self.high_res_region_projection(regions), dim=-1),
            self.high_res_spelling(regions).unflatten(-1, (SPELLED, len(ALPHABET))),
        )
        return seen, self.letters(letters)

    def text_embeds(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the normalised embeddings of captions, (B, embed_dim)."""
        features = self.clip.get_text_features(input_ids=input_ids, attention_mask=attention_mask).pooler_output
        return F.normalize(features, dim=-1)

    def save(self, folder: Path, tokenizer: CLIPTokenizer, config: EncodersConfig) -> None:
        """Write `clip/` for transformers and `convnext/` for open_clip, or only the one that was trained."""
        if config.towers != "high":
            self.clip.save_pretrained(folder / "clip")
            tokenizer.save_pretrained(folder / "clip")
        if config.towers == "low":
            return
        convnext = folder / "convnext"
        convnext.mkdir(parents=True, exist_ok=True)
        trunk = {f"visual.trunk.{key}": value.contiguous() for key, value in self.high_res.state_dict().items()}
        save_file(trunk, convnext / "open_clip_model.safetensors")
        vision = {"timm_model_name": config.convnext, "timm_model_pretrained": False, "image_size": config.high_res_px}
        described = {"model_cfg": {"embed_dim": config.embed_dim, "vision_cfg": vision, "text_cfg": {}}}
        (convnext / "open_clip_config.json").write_text(json.dumps(described, indent=1), encoding="utf-8")


def _embedded(model: ContrastiveModel, tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Return the embeddings of texts, (B, embed_dim)."""
    words = tokenizer(texts or [""], padding=True, truncation=True, return_tensors="pt").to(model.clip.device)
    return model.text_embeds(words["input_ids"], words["attention_mask"])


def _tower_loss(
    model: ContrastiveModel,
    seen: TowerEmbeds,
    text: Tensor,
    phrases: Tensor,
    labels: Tensor,
    spelling: Tensor,
    figures: dict[str, float],
    name: str,
) -> Tensor:
    """Return the loss of one encoder: pictures against captions, regions against phrases, words against letters.

    Args:
        model: Its logit scales are used.
        seen: Outputs of the encoder for B pictures.
        text: (B, embed_dim) embeddings of their captions.
        phrases: (P, embed_dim) embeddings of phrases.
        labels: (B, k) rows of `phrases`; -100 for no region that the encoder can see.
        spelling: (B, k, SPELLED) letters of printed words; -100 for none.
        figures: Receives the accuracies of pictures, parts and letters.
        name: Name of the encoder in `figures`.
    """
    scale: Tensor = (model.clip.logit_scale if name == "low" else model.high_res_scale).clamp(max=4.6).exp()
    pictures = ClipLoss()(seen.pictures, text, scale)
    right = (seen.pictures @ text.T).argmax(1).eq(torch.arange(len(text), device=text.device))
    figures[f"{name}_pictures"] = right.float().mean().item()
    parts, figures[f"{name}_parts"] = _named(seen.regions, phrases, labels, model.region_scale.clamp(max=4.6).exp())
    spelled, figures[f"{name}_spelled"] = _read(seen.spelling, spelling.masked_fill((labels < 0)[..., None], -100))
    return torch.as_tensor(pictures) + parts + spelled


def _named(regions: Tensor, phrases: Tensor, labels: Tensor, scale: Tensor) -> tuple[Tensor, float]:
    """Return the loss of classifying regions among the batch's phrases, and the accuracy.

    Args:
        regions: (B, k, embed_dim).
        phrases: (P, embed_dim).
        labels: (B, k) rows of `phrases`; -100 for no region.
        scale: () logit scale.
    """
    wanted = labels.flatten()
    is_there = wanted >= 0
    if not is_there.any():
        return regions.sum() * 0, 0.0
    logits = scale * regions.flatten(0, 1)[is_there] @ phrases.T
    right = logits.argmax(-1).eq(wanted[is_there]).float().mean().item()
    return F.cross_entropy(logits, wanted[is_there]), right


def _read(logits: Tensor, letters: Tensor) -> tuple[Tensor, float]:
    """Return the loss of classifying letters, and the accuracy.

    Args:
        logits: (…, letters).
        letters: (…) indices into `ALPHABET`; -100 for none.
    """
    is_there = letters >= 0
    if not is_there.any():
        return logits.sum() * 0, 0.0
    guessed, wanted = logits[is_there], letters[is_there]
    return F.cross_entropy(guessed, wanted), guessed.argmax(-1).eq(wanted).float().mean().item()


def train_encoders(folder: str | Path, config: EncodersConfig, assets: EmojiAssets) -> Path:
    """Train the encoders, resuming from the folder's checkpoint.

    Returns:
        The folder that has `clip/` and `convnext/`.
    """
    folder = Path(folder)
    tokenizer = train_caption_tokenizer(folder / "tokenizer", config.vocab_size, config.max_tokens, assets)
    torch.manual_seed(config.seed)
    model = ContrastiveModel(config, tokenizer)
    run = PretrainingRun(folder, model, config)
    kinds = batch_kinds(config)
    for step in run.steps():
        batch = scene_batch(step, config, assets).to(run.device)
        regions = batch.regions
        phrases = _embedded(model, tokenizer, regions.phrases)
        losses: list[Tensor] = []
        figures: dict[str, float] = {}
        if config.towers != "high":
            text = _embedded(model, tokenizer, batch.captions)
            seen = model.low_res_embeds(batch.pixels, regions.boxes)
            labels = regions.labels.masked_fill(regions.is_fine, -100)
            losses.append(_tower_loss(model, seen, text, phrases, labels, regions.spelling, figures, "low"))
        if config.towers != "low":
            text = _embedded(model, tokenizer, batch.window_captions)
            boxes, is_inside = cut_window(regions.boxes, batch.windows)
            letter_boxes, is_seen = cut_window(regions.letter_boxes, batch.windows)
            seen, letters = model.high_res_embeds(cut_out(batch.pixels, batch.windows), boxes, letter_boxes)
            labels = regions.labels.masked_fill(~is_inside, -100)
            losses.append(_tower_loss(model, seen, text, phrases, labels, regions.spelling, figures, "high"))
            loss, figures["letters"] = _read(letters, regions.letters.masked_fill(~is_seen, -100))
            losses.append(loss)
        share = kinds.count(batch.kind) / len(kinds)  # the log averages over all steps
        shares = {f"{batch.kind}_{name}": value / share for name, value in figures.items()}
        run.update(torch.stack(losses).sum(), **shares)
    model.save(folder, tokenizer, config)
    return folder

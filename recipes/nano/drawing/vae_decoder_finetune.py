"""Fine-tuning of the decoder on the latents that nano's generator really outputs.

    python -m mgem_agent.recipes.nano vae_decoder_finetune FOLDER pipeline=FOLDER [key=value …]

The generator's latents have small systematic errors. The decoder of the pipeline's `AutoencoderTiny` learns to decode
them to the scenes that the captions describe. A quarter of each batch are latents from the encoder, so that the decoder
still reconstructs any picture. Nothing else is trained. The result is the pipeline's folder in float16 with this
decoder, `nano.json` and the vocabulary: the shipped generator.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, PixArtAlphaPipeline
from pydantic import Field
from torch import Tensor

from mgem_agent.nano.drawing import NanoDrawing
from mgem_agent.recipes.nano.drawing.autoencoder import cut_piece, detail_loss, piece_places
from mgem_agent.recipes.nano.drawing.caption_encoder import captions_and_facts
from mgem_agent.recipes.nano.drawing.generator import SCHEDULE, FactLooks, contact_sheet, guessed_latents
from mgem_agent.recipes.nano.drawing.pipeline_export import export_pipeline
from mgem_agent.recipes.nano.drawing.scene_layers import SceneLayers
from mgem_agent.recipes.nano.drawing.vocabulary import nano_vocabulary
from mgem_agent.recipes.nano.pretraining import Count, Decay, PretrainingConfig, PretrainingRun, Rate
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.nano.world.scene import sample_scene
from mgem_agent.recipes.nano.world.scene_rendering import scene_pixels
from mgem_agent.recipes.train.config import Precision
from mgem_agent.recipes.train.precision import training_dtype

__all__ = ["DecoderConfig", "train_decoder"]


class DecoderConfig(PretrainingConfig):
    """Settings of the recipe `vae_decoder_finetune`.

    Attributes:
        pipeline: Folder of the trained pipeline.
        piece_px: Side of the crops, one of each scene.
        max_tokens: Maximum tokens of a caption.
        precision: Precision of the decoder: `bf16`, `fp32`, or `auto` for what the hardware does fastest.
    """

    num_steps: Count = 2_000
    batch_size: int = Field(default=8, ge=4)
    learning_rate: Rate = 5e-4
    ema_decay: Decay = 0.998
    pipeline: str
    piece_px: int = Field(default=64, ge=8, multiple_of=8)
    max_tokens: int = Field(default=48, ge=8, le=120)
    precision: Precision = "auto"


def train_decoder(folder: str | Path, config: DecoderConfig, assets: EmojiAssets) -> Path:
    """Train the decoder, resuming from the folder's checkpoint, and write the whole pipeline for diffusers.

    Returns:
        The folder that `AutoPipelineForText2Image.from_pretrained` reads.
    """
    folder = Path(folder)
    pipeline: Any = PixArtAlphaPipeline.from_pretrained(config.pipeline, dtype=torch.float32)
    for part in (pipeline.transformer, pipeline.text_encoder, pipeline.vae):
        part.requires_grad_(False).eval()
    decoder = pipeline.vae.decoder.requires_grad_(True).to(memory_format=torch.channels_last)
    size_px = pipeline.transformer.config.sample_size * pipeline.vae_scale_factor
    layers = SceneLayers(assets, size_px)
    looks = FactLooks(pipeline.vae, layers)
    run = PretrainingRun(folder, decoder, config)
    pipeline.to(run.device)
    noising: Any = DDPMScheduler(**SCHEDULE)
    is_bf16 = training_dtype(config.precision) == torch.bfloat16
    for step in run.steps():
        latents, scenes = _drawn_and_wanted(step, run.generator(step), pipeline, noising, looks, layers, config, assets)
        latents, scenes = _pieces(latents, scenes, config.piece_px, np.random.default_rng((config.seed, step)))
        with torch.autocast(run.device.type, torch.bfloat16, enabled=is_bf16):
            painted = pipeline.vae.decode(latents).sample.float()
        run.update(detail_loss(painted, scenes))
    drawing = NanoDrawing(
        without_effect=(
            "negative_prompt",
            "seed",
            "num_inference_steps",
            "guidance_scale",
        ),  # one picture for every noise
        size_px=size_px,
        steps=4,
        guidance_scale=1.0,
        options={"use_resolution_binning": False},
    )
    with run.averaged_weights():
        contact_sheet(pipeline, assets, folder / "contact_sheet.png", size_px=size_px)
        return export_pipeline(pipeline, folder / "pipeline", drawing, nano_vocabulary())


@torch.no_grad()
def _drawn_and_wanted(
    step: int,
    chance: torch.Generator,
    pipeline: Any,
    noising: Any,
    looks: FactLooks,
    layers: SceneLayers,
    config: DecoderConfig,
    assets: EmojiAssets,
) -> tuple[Tensor, Tensor]:
    """Return latents (B, c, h, h) as the decoder gets them, and the target scenes (B, 3, H, H)."""
    num_whole, first, size_px = config.batch_size // 4, step * config.batch_size, layers.nothing.shape[-1]
    drawn = [sample_scene(config.seed, first + row, kind="posed") for row in range(config.batch_size - num_whole)]
    captions, facts = captions_and_facts(drawn, config.seed, first)
    whole = [sample_scene(config.seed, first + row, kind="drawable") for row in range(num_whole)]
    wanted = torch.stack([layers.picture(scene) for scene in drawn])
    wanted = torch.cat([wanted, scene_pixels(whole, assets, size_px)]).to(pipeline.device)
    scaled = looks.latents(facts).to(pipeline.device)
    guessed, _ = guessed_latents(pipeline, noising, scaled, captions, chance, config.max_tokens)
    encoded = pipeline.vae.encode(wanted[len(drawn) :]).latents
    return torch.cat([guessed / pipeline.vae.config.scaling_factor, encoded]), wanted


def _pieces(latents: Tensor, scenes: Tensor, piece_px: int, chance: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return a crop of each scene and of its latents; for every other scene the more detailed of two."""
    grid = scenes.shape[-1] // latents.shape[-1]
    cut = []
    for number, (its_latents, scene) in enumerate(zip(latents, scenes, strict=True)):
        top, left = piece_places(scene, piece_px, grid, chance)[number % 2]
        cut.append((cut_piece(its_latents, (top // grid, left // grid), piece_px // grid),
                    cut_piece(scene, (top, left), piece_px)))  # fmt: skip
    pieces = [torch.stack(each).contiguous(memory_format=torch.channels_last) for each in zip(*cut, strict=True)]
    return pieces[0], pieces[1]

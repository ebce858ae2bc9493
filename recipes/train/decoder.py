"""The last training of the small generator: its decoder learns to paint from the latents that it really draws.

    python -m mgem_agent.recipes.train.decoder FOLDER pipeline=FOLDER [key=value …]

A transformer of a few hundred channels writes latents with little errors, which are the same each time. The decoder of
the pipeline's `AutoencoderTiny` sees latents that the pipeline guesses from captions, and learns to give the scenes
that were asked for. A fourth of a batch are latents that the encoder made of a scene, so that it goes on to give back
any picture. Nothing else is trained. The result is the pipeline's folder with this decoder, in float16, and `nano.json`
beside it: what the generator in the box consists of.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, PixArtAlphaPipeline
from pydantic import Field

from mgem_agent.nano.drawing import NanoDrawing
from mgem_agent.recipes.data.emoji import EmojiAssets
from mgem_agent.recipes.data.scene import sample_scene
from mgem_agent.recipes.train.autoencoder import detail_loss
from mgem_agent.recipes.train.caption_encoder import drawn_caption, scene_slots
from mgem_agent.recipes.train.config import Precision
from mgem_agent.recipes.train.generator import SCHEDULE, FactLooks, contact_sheet, guessed_latents
from mgem_agent.recipes.train.precision import training_dtype
from mgem_agent.recipes.train.pretraining import PretrainingConfig, PretrainingRun, run_recipe
from mgem_agent.recipes.train.scene_layers import SceneLayers
from mgem_agent.recipes.train.scene_pixels import scene_pixels

__all__ = ["DecoderConfig", "train_decoder"]


class DecoderConfig(PretrainingConfig):
    """How the decoder is trained.

    Attributes:
        pipeline: Folder of the trained pipeline.
        max_tokens: Longest caption that is learned from.
        precision: `bf16`, `fp32`, or what the machine is best at; of the decoder.
    """

    num_steps: int = 2_000
    batch_size: int = Field(default=8, ge=4)
    learning_rate: float = 5e-4
    ema_decay: float = 0.998
    pipeline: str
    max_tokens: int = Field(default=48, ge=8, le=120)
    precision: Precision = "auto"


def train_decoder(folder: str | Path, config: DecoderConfig, assets: EmojiAssets) -> Path:
    """Train the decoder, from where the folder's last checkpoint stands, and write the whole pipeline for diffusers.

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
        num_whole = config.batch_size // 4
        first = step * config.batch_size
        scenes = [sample_scene(config.seed, first + row, kind="posed") for row in range(config.batch_size - num_whole)]
        captions = [drawn_caption(scene, random.Random(f"{config.seed}/{first + n}")) for n, scene in enumerate(scenes)]
        whole = [sample_scene(config.seed, first + row, kind="drawable") for row in range(num_whole)]
        wanted = torch.stack([layers.picture(scene) for scene in scenes])
        wanted = torch.cat([wanted, scene_pixels(whole, assets, size_px)]).to(run.device)
        with torch.no_grad():
            scaled = looks.latents(torch.tensor([scene_slots(scene) for scene in scenes])).to(run.device)
            drawn, _ = guessed_latents(pipeline, noising, scaled, captions, run.generator(step), config.max_tokens)
            encoded = pipeline.vae.encode(wanted[len(scenes) :]).latents
            latents = torch.cat([drawn / pipeline.vae.config.scaling_factor, encoded])
        with torch.autocast(run.device.type, torch.bfloat16, enabled=is_bf16):
            painted = pipeline.vae.decode(latents).sample.float()
        run.update(detail_loss(painted, wanted))
    with run.averaged_weights():
        contact_sheet(pipeline, assets, folder / "contact_sheet.png", size_px=size_px)
        pipeline.to(torch.float16).save_pretrained(folder / "pipeline")
    drawing = NanoDrawing(
        size_px=size_px, steps=4, guidance_scale=1.0, options={"use_resolution_binning": False, "clean_caption": False}
    )
    (folder / "pipeline" / "nano.json").write_text(drawing.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return folder / "pipeline"


if __name__ == "__main__":
    run_recipe(sys.argv[1:], DecoderConfig, lambda folder, config: train_decoder(folder, config, EmojiAssets.open()))
